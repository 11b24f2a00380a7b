"""The questions that commands ask a running daemon: status, explain and retry; without one, they answer themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from larkdrop.config.settings import Settings
from larkdrop.records.index import Index
from larkdrop.service.explain import explain
from larkdrop.service.parts import Parts
from larkdrop.service.retry import retry
from larkdrop.service.status import status


def answer(question: str, paths: Sequence[str], settings: Settings, live: Parts | None) -> Any:
    """The answer as JSON, by what is ``live``; without a daemon, from the folders and the key cache only."""
    with Index(settings.key_cache) as index:
        match question:
            case "status":
                return status(settings, index, live)
            case "explain":
                return [asdict(one) for one in explain(paths, settings, index, live)]
            case "retry":
                return [asdict(one) for one in retry(paths, settings, index, live)]
    raise ValueError(f"there is no question {question!r}")
