"""Lark does not answer any more: status and systemd say so, since when, and what was tried."""

from __future__ import annotations

import glob
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.faults.test_machine import FAKETIME
from tests.helpers import Daemon, picture, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]
pytestmark = pytest.mark.needs(FAKETIME)


def fast() -> tuple[str, ...]:
    """A command that runs another for which five minutes pass in three seconds.

    Threads that wait for a time-out wait longer; events wake them all the same.
    """
    return ("env", f"LD_PRELOAD={glob.glob(FAKETIME)[0]}", "FAKETIME=+0 x100", "NO_FAKE_STAT=1")


def status(daemon: Daemon, code: int) -> dict[str, Any] | None:
    """The status as JSON, once the command ends with ``code``; None before."""
    words = daemon.command("status", "--json")[len(daemon.prefix) :]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout) if done.returncode == code else None


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """All that a process has said to systemd so far."""
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def read() -> str:
            with suppress(BlockingIOError):
                while True:
                    said.append(server.recv(65_536).decode())
            return "\n".join(said)

        yield read


def test_a_total_outage(lark: Sandbox, make_daemon: MakeDaemon, told: Callable[[], str]) -> None:
    """Green while Lark answers, red once five minutes brought no answer, and green again with the next."""
    daemon = make_daemon()
    daemon.prefix = fast()
    with daemon:
        wait_for_sidecar(daemon.drop("before.png", picture(1)))
        assert status(daemon, 0)
        lark.faults.down = True
        daemon.drop("waiting.png", picture(2))
        red = wait_until(lambda: status(daemon, 1), what="exit 1")
        lost = red["unanswered"]
        assert (lost["url"], lost["proxy"]) == (lark.url, None)
        assert "connection to Lark failed" in lost["reason"]
        (need,) = red["needs"]
        assert need.startswith(
            f"Check the network, and base_url: {lark.url} has not answered since {lost['since'][:10]}"
        )
        wait_until(
            lambda: f"STATUS=1 uploaded, 1 waiting, {lark.url} has not answered since " in told(), what="STATUS="
        )
        lark.faults.down = False
        wait_for_sidecar(daemon.drop("after.png", picture(3)))
        assert wait_until(lambda: status(daemon, 0), what="exit 0")["unanswered"] is None


def test_a_dead_proxy_is_named(lark: Sandbox, make_daemon: MakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and port as they were written, and never the password."""
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://somebody:hush-hush@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        daemon = make_daemon()
        daemon.prefix = fast()
        daemon.drop("waiting.png", picture(1))
        with daemon:
            red = wait_until(lambda: status(daemon, 1), what="exit 1")
            assert red["unanswered"]["proxy"] == f"127.0.0.1:{port}"
            (need,) = red["needs"]
            assert f"the proxy 127.0.0.1:{port}" in need
            assert "hush-hush" not in json.dumps(red) + daemon.stderr.read_text()
    assert not lark.calls["token"]
