"""What is said of a wrong setting: its key, its value where that can't be a secret, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from larkdrop.config.settings import SECRETS, SECTIONS, Settings
from larkdrop.config.validate import absolute

ENV_PREFIX = "LARKDROP_"
# Keys whose values are paths.
PATHS = frozenset({"path", "move_to", "dir", "results"})
PLAIN_URL = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w./-]*)?", re.ASCII)

Place = tuple[int | str, ...]  # ("watch", 0, "path")
Origins = Mapping[tuple[str, ...], str]  # of each key that was set, ("upload", "workers"): where it came from


def describe(place: Place, value: Any, why: str, origins: Origins, base: Path) -> str:
    """One problem in a line; paths as they are understood, from the folder ``base``."""
    path = tuple(str(part) for part in place if not isinstance(part, int))
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    variable = next(
        (source for key, source in origins.items() if _overlap(key, path) and source.startswith(ENV_PREFIX)), ""
    )
    if why == "unknown key":
        key, why = _unknown(key, path, variable)
    shown = "" if variable else _shown(path, value, base)
    origin = f" (from {variable})" if variable and key != variable else ""
    return f"{key}{shown}: {why}{origin}"


def _unknown(key: str, path: tuple[str, ...], variable: str) -> tuple[str, str]:
    """What to call an unknown key, and the nearest one that is known."""
    why, word, known = "unknown key", path[-1], list(SECTIONS.get(path[0], Settings).model_fields)
    if variable.upper().startswith(ENV_PREFIX + "__".join(path).upper()):
        key, why, word = variable, "there is no setting of this name", variable
        known = [f"{ENV_PREFIX}{section}__{name}".upper() for section, name in _keys()]
    near = get_close_matches(word, known, 1)
    return key, f"{why}; did you mean {near[0]}?" if near else why


def _overlap(key: tuple[str, ...], path: tuple[str, ...]) -> bool:
    shorter = min(len(key), len(path))
    return key[:shorter] == path[:shorter]


def _keys() -> Iterator[tuple[str, str]]:
    return ((name, key) for name, section in SECTIONS.items() for key in section.model_fields)


def _shown(path: tuple[str, ...], value: Any, base: Path) -> str:
    """The value of a known key, where no secret can have been put in its place."""
    if path not in set(_keys()) or value is None or isinstance(value, dict | list | BaseModel):
        return ""
    section, key = path
    if section == "lark":
        is_plain = isinstance(value, int | float) or (key == "base_url" and PLAIN_URL.fullmatch(str(value)))
        if key in SECRETS or not is_plain:
            return ""
    if key in PATHS and isinstance(value, str):
        with suppress(RuntimeError, ValueError):
            value = str(absolute(Path(value), base))
    return f" = {str(value) if isinstance(value, Path) else value!r}"
