"""``larkdrop config`` tells every setting and its source, and masks secrets."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.asking import ask, say
from tests.helpers import Daemon

MakeDaemon = Callable[..., Daemon]


def test_config_tells_where_each_setting_comes_from(make_daemon: MakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, environment, credential or default; secrets are masked."""
    daemon = make_daemon()
    monkeypatch.setenv("LARKDROP_UPLOAD__WORKERS", "3")
    rows = {row["key"]: row for row in ask(daemon, "config")}
    assert rows["upload.workers"] == {"key": "upload.workers", "value": 3, "from": "LARKDROP_UPLOAD__WORKERS"}
    assert rows["lark.app_secret"]["value"] == "********"
    assert rows["lark.app_id"]["from"] == str(daemon.config)
    assert rows["watch[0].path"]["from"] == str(daemon.config)
    assert rows["watch[0].recursive"]["from"] == rows["log.results"]["from"] == "default"
    text = say(daemon, "config")
    assert "sandbox-secret" not in text
    assert re.search(r"^workers = 3 +# LARKDROP_UPLOAD__WORKERS$", text, re.MULTILINE)
