"""``larkdrop check`` prints every problem of a config that can't be used."""

from __future__ import annotations

from collections.abc import Callable

from tests.asking import ask, say
from tests.helpers import Daemon

MakeDaemon = Callable[..., Daemon]


def test_check_of_a_config_that_is_wrong(make_daemon: MakeDaemon) -> None:
    """Every problem is a line; exit 78."""
    daemon = make_daemon()
    daemon.config.write_text('lark = {app_idd = "x"}\nwatch = [{path = "/nowhere"}]\n')
    said = say(daemon, "check", code=78)
    assert "✗ config: lark.app_idd: unknown key; did you mean app_id?" in said
    assert "✗ config: watch[0].path = '/nowhere': there is no such folder" in said
    assert not any(finding["ok"] for finding in ask(daemon, "check", code=78))
