"""The state folder, or the key cache in it, is removed while larkdrop runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]


def remove_folder(state: Path) -> None:
    shutil.rmtree(state)


def remove_key_cache(state: Path) -> None:
    for file in state.glob("keys.sqlite3*"):
        file.unlink()


def replace_folder(state: Path) -> None:
    state.rename(state.with_name("elsewhere"))
    state.mkdir()


@pytest.mark.parametrize("remove", [remove_folder, remove_key_cache, replace_folder])
def test_it_ends_and_begins_anew(lark: Sandbox, make_daemon: MakeDaemon, remove: Callable[[Path], None]) -> None:
    """Not one more key is asked for; it says so and ends with 1, for systemd to start it with a fresh folder."""
    daemon = make_daemon().start()
    first = daemon.drop("first.png", picture(1))
    wait_for_sidecar(first)
    remove(daemon.state)
    later = daemon.drop("later.png", picture(2))
    assert daemon.process
    assert daemon.process.wait(30) == 1
    assert len(lark.uploads) == 1
    (said,) = daemon.events("state_gone")
    assert said["path"] == str(daemon.state)
    assert "removed while larkdrop was running" in said["hint"]
    with daemon:
        wait_for_sidecar(later)
        assert daemon.stop() == 0
    assert len(lark.uploads) == 2


def test_what_is_in_flight_gets_its_sidecar(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """A key that was asked for already is not lost, nor asked for again."""
    lark.faults.delay = 1.0
    daemon = make_daemon().start()
    path = daemon.drop("a.png", picture(1))
    wait_until(lambda: lark.calls["upload"], what="the call")
    remove_folder(daemon.state)
    assert daemon.process
    assert daemon.process.wait(30) == 1
    assert sidecar_of(path)
    with daemon:
        assert wait_for_sidecar(daemon.drop("b.png", picture(2)))
        assert daemon.stop() == 0
    assert len(lark.uploads) == 2


def test_a_second_daemon_takes_over(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """One that is started at once on the new folder goes on alone, can be asked, and nothing is uploaded twice."""
    first, second = make_daemon(), make_daemon()
    second.stderr = first.home / "second.log"
    first.start()
    wait_for_sidecar(first.drop("0.png", picture(0)))
    remove_folder(first.state)
    second.start()
    pictures = [second.drop(f"{number}.png", picture(number)) for number in range(1, 30)]
    assert first.process
    assert first.process.wait(30) == 1
    for path in pictures:
        wait_for_sidecar(path)
    assert len(lark.uploads) == 30
    assert (second.state / "control").is_socket()
    assert second.stop() == 0
