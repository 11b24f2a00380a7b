"""``check`` names what an upload lacks, and the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from larkdrop.config.settings import Lark
from larkdrop.errors import CallFault
from larkdrop.lark.client import Client, Uploaded
from larkdrop.sandbox.server import Sandbox
from larkdrop.service import checks
from tests.asking import ask
from tests.helpers import Daemon

MakeDaemon = Callable[..., Daemon]


def findings(daemon: Daemon, *words: str, code: int = 1) -> dict[str, Any]:
    """What ``check`` finds, by what it looked at."""
    return {finding["what"].split(" ")[0]: finding for finding in ask(daemon, "check", *words, code=code)}


def test_check_names_what_is_wrong_and_the_cure(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """A missing permission, a bot that is off, a Lark that can't be reached: each its own line and hint."""
    daemon = make_daemon()
    lark.faults.scope_missing = True
    found = findings(daemon)
    assert found["sign-in"]["ok"]
    assert (found["permission"]["ok"], "im:resource" in found["permission"]["hint"]) == (False, True)
    lark.faults.scope_missing, lark.faults.bot_off = False, True
    assert "Bot" in findings(daemon)["permission"]["hint"]
    lark.faults.bot_off = False
    assert lark.calls["upload"] == 2
    assert not lark.uploads
    daemon.config.write_text(daemon.config.read_text().replace(lark.url, "http://127.0.0.1:1"))
    found = findings(daemon)
    assert (found["reachability"]["ok"], "base_url" in found["reachability"]["hint"]) == (False, True)
    assert "sign-in" not in found


def test_check_counts_inotify_watches_of_all_folders(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """The kernel counts them for the user, not for a folder."""
    for name in ("one/a/b", "two/c"):
        (tmp_path / name).mkdir(parents=True)
    daemon = make_daemon(watch=[{"path": tmp_path / "one"}, {"path": tmp_path / "two"}])
    (found,) = [finding for finding in ask(daemon, "check") if finding["what"] == "inotify watches"]
    assert found["says"].startswith("5 needed, ")


def test_check_tries_the_other_api_where_one_is_switched_off(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """It says whether that would work, by trying."""
    lark.faults.v4_offline = True
    daemon = make_daemon()
    found = findings(daemon)["api"]
    assert (found["ok"], found["hint"]) == (False, 'Set api = "im/v1" in [lark]: it works here.')
    assert "99991201" in found["says"]
    lark.faults.bot_off = True
    hint = findings(daemon)["api"]["hint"]
    assert hint.startswith('Set api = "im/v1" in [lark]; it does not work yet: Lark says: App does not enable bot')
    lark.faults.bot_off = False
    newer = make_daemon(
        lark={"base_url": lark.url, "api": "im/v1", "app_id": lark.app_id, "app_secret": lark.app_secret}
    )
    assert findings(newer, code=0)["permission"]["ok"]


def test_check_names_the_missing_scope_and_where_to_grant_it(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """As the platform named them."""
    lark.faults.scope_missing = True
    hint = findings(make_daemon())["permission"]["hint"]
    assert "im:resource or im:resource:upload at https://open.feishu.cn/app/cli_sandbox/auth?q=" in hint


def test_check_uploads_a_pixel(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """A real picture that Lark takes, only when asked to."""
    found = findings(make_daemon(), "--upload", code=0)
    assert lark.uploads[0].image_key in found["upload"]["says"]


@pytest.mark.needs("faketime")
def test_check_compares_clocks(make_daemon: MakeDaemon) -> None:
    """A clock that is an hour off endangers certificates."""
    daemon = make_daemon()
    daemon.prefix = ("faketime", "-f", "+1h")
    clock = findings(daemon)["clock"]
    assert (clock["ok"], "ahead" in clock["says"], "time server" in clock["hint"]) == (False, True, True)


def test_a_call_that_is_refused_as_such_is_no_missing_picture() -> None:
    """As where a proxy rewrites calls: then every upload fails, and check has to say so."""

    class Rewritten(Client):
        def upload(self, _image: bytes, _image_type: str) -> Uploaded:
            raise CallFault("Lark says: bad request", hint="Check the proxy.", code=9499)

    lark = Lark(app_id="cli_x", app_secret="s")
    found = checks._upload(Rewritten(lark), lark, pixel=False)
    assert (found.ok, found.hint) == (False, "Check the proxy.")
