"""What systemd is told, on a real notify socket; the folder systemd/ has the tests under a booted systemd."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Everything that a process says to systemd."""
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def listen() -> None:
            while word := server.recv(4096):
                said.append(word.decode())

        listener = threading.Thread(target=listen)
        listener.start()
        yield said
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(tmp_path / "notify"))
        listener.join()


def test_a_life_in_words(lark: Sandbox, make_daemon: MakeDaemon, told: list[str]) -> None:
    """Ready after the first token, a status as it changes, the watchdog, and stopping with more time asked for."""
    lark.faults.token_delay = 0.3
    daemon = make_daemon().start(WATCHDOG_USEC="400000")
    wait_until(lambda: "READY=1" in told, what="READY")
    assert told[0] == "STATUS=starts: signs in to Lark"
    assert told[1].startswith("EXTEND_TIMEOUT_USEC=")
    wait_for_sidecar(daemon.drop("a.png", picture()))
    wait_until(lambda: "STATUS=1 uploaded, 0 waiting" in told, what="STATUS")
    wait_until(lambda: told.count("WATCHDOG=1") >= 2, what="WATCHDOG")
    statuses = [word for word in told if word.startswith("STATUS=")]
    assert all(one != other for one, other in pairwise(statuses)), "said where it changed"
    lark.faults.delay = 1.0
    daemon.drop("b.png", picture(1))
    wait_until(lambda: lark.calls["upload"] == 2, what="an upload in flight")
    assert daemon.stop() == 0
    stopping = told.index("STOPPING=1")
    assert any(word.startswith("EXTEND_TIMEOUT_USEC=") for word in told[stopping:])


def test_status_says_why_everything_is_held(lark: Sandbox, make_daemon: MakeDaemon, told: list[str]) -> None:
    """Why, since when, and what to do."""
    lark.faults.bot_off = True
    daemon = make_daemon().start(WATCHDOG_USEC="400000")
    daemon.drop("a.png", picture())
    held = wait_until(lambda: next((word for word in told if "held since" in word), ""), what="STATUS")
    assert "1 waiting" in held
    assert "\n" not in held
    assert "Bot" in held


def test_a_newline_in_a_status(told: list[str]) -> None:
    """As a folder's name may bring one in: what comes after it is no message of its own."""
    say = "from larkdrop.service.systemd import Systemd; Systemd().status('1 waiting in x\\nWATCHDOG=trigger\\ny')"
    subprocess.run([sys.executable, "-c", say], check=True)
    assert wait_until(lambda: told) == ["STATUS=1 waiting in x\\nWATCHDOG=trigger\\ny"]


def test_lines_for_the_journal_have_priorities(lark: Sandbox, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Where standard error is the journal's, each line begins with its priority and leaves the time to the journal."""
    daemon = make_daemon()
    daemon.stderr.touch()
    status = os.stat(daemon.stderr)
    daemon.start(ready=True, JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    daemon.drop("no.png", b"no picture")
    wait_until(lambda: '"rejected"' in daemon.stderr.read_text(), what="the rejection")
    lines = daemon.stderr.read_text().splitlines()
    rejected = next(line for line in lines if '"rejected"' in line)
    assert rejected.startswith("<4>{")
    assert "timestamp" not in json.loads(rejected[3:])
    assert all(line.startswith(("<7>", "<6>", "<4>", "<3>")) for line in lines)


def test_words_that_nobody_hears_do_not_matter(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """A notify socket that is gone costs nothing but the words; once it is back, its watchdog is fed."""
    place = tmp_path / "nobody"
    daemon = make_daemon().start(NOTIFY_SOCKET=str(place), WATCHDOG_USEC="400000")
    assert wait_for_sidecar(daemon.drop("a.png", picture()))["image_key"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(place))
        server.settimeout(20)
        assert b"WATCHDOG=1" in iter(partial(server.recv, 4096), b"")
