"""``status`` tells what runs, what waits, and what needs a person; rejected files are remarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.asking import ask, say
from tests.helpers import Daemon, picture, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]


def test_status_of_a_daemon_that_does_not_run(done: Daemon) -> None:
    """What was done, from the key cache; what waits, by looking; exit 1 while something waits."""
    status = ask(done, "status")
    (folder,) = status["folders"]
    assert (folder["uploaded"], folder["rejected"], folder["waiting"], status["running"]) == (4, 1, 0, False)
    assert status["calls"] == {"today": 3, "month": 3, "quota": None}
    assert status["last_rejected"]["path"].endswith("note.txt")
    (done.inbox / "note.txt").unlink()
    assert ask(done, "status")["well"]
    done.drop("later.png", picture(7))
    assert ask(done, "status", code=1)["folders"][0]["waiting"] == 1
    text = say(done, "status", code=1)
    assert "larkdrop is not running\n✗ Start larkdrop: 1 picture waits." in text
    assert "3 today, 3 this month" in text


def test_status_says_what_a_person_has_to_do(done: Daemon) -> None:
    """A sentence each, such as of a folder that is gone; rejected files are remarks, and exit 1 only with --strict."""
    status = ask(done, "status")
    assert (status["well"], status["needs"]) == (True, [])
    assert status["remarks"] == ["1 file was rejected; `larkdrop status --rejected` says why."]
    assert not ask(done, "status", "--strict", code=1)["needs"]
    assert "! 1 file was rejected" in say(done, "status")
    done.inbox.rename(done.home / "elsewhere")
    status = ask(done, "status", code=1)
    assert status["folders"][0]["gone"]
    assert status["needs"] == [f"There is no folder {done.inbox}: create it, or correct its path in the config."]
    assert status["remarks"] == []


def test_status_of_a_running_daemon(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Since when it runs; held by what, since when, and what to do; exit 1 as long as somebody has to act."""
    with make_daemon(lark={"probe_seconds": 0.2}) as daemon:
        wait_for_sidecar(daemon.drop("a.png", picture()))
        status = ask(daemon, "status")
        assert daemon.process
        assert (status["running"], status["pid"], status["held"]) == (True, daemon.process.pid, None)
        assert status["finished"]["1_min"] == 1
        lark.faults.bot_off = True
        daemon.drop("b.png", picture(1))
        held = wait_until(lambda: ask(daemon, "status", code=None)["held"], what="the gate")
        assert (held["code"], held["person"]) == (234007, True)
        assert "Bot" in held["hint"]
        text = say(daemon, "status", code=1)
        assert text.startswith("✓ larkdrop is running, since ")
        assert "✗ larkdrop is held: " in text
        assert "held      since" in text
        assert "234007" in text
        lark.faults.bot_off = False
        wait_for_sidecar(daemon.inbox / "b.png")
        status = ask(daemon, "status")
        assert status["well"]
        assert status["last_error"]["code"] == 234007


def test_rejected_files_wait_for_nobody(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Also where pictures are moved: nothing is left to do once larkdrop has ended."""
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "after_upload": "move", "move_to": tmp_path / "done"}])
    daemon.drop("bad.png", b"words")
    assert daemon.once().returncode == 1
    status = ask(daemon, "status")
    assert status["well"]
    assert (status["folders"][0]["waiting"], status["folders"][0]["rejected"]) == (0, 1)


@pytest.mark.slow
def test_status_says_that_more_comes_in_than_lark_takes(make_daemon: MakeDaemon) -> None:
    """A remark, with how many could not go while they were fresh."""
    with make_daemon(lark={"requests_per_minute": 10}) as daemon:
        for number in range(30):
            daemon.drop(f"{number}.png", picture(number))
        status = wait_until(lambda: (s := ask(daemon, "status"))["late"] and s, what="the first seconds to be over")
        (remark,) = status["remarks"]
        assert remark.startswith(f"More comes in than Lark takes: {status['late']} of those dropped in the last minute")
        assert "pictures will take about" in remark
        assert status["well"]


def test_rejected_files_are_listed(make_daemon: MakeDaemon) -> None:
    """With their reasons; JSON too; exit 1 only where asked for."""
    daemon = make_daemon()
    assert "No file was rejected." in say(daemon, "status", "--rejected", "--strict")
    note, big = daemon.drop("note.txt", b"words"), daemon.drop("big.png", picture(1, size=(13_000, 10)))
    daemon.once()
    rows = {row["path"]: row["reason"] for row in ask(daemon, "status", "--rejected")}
    assert set(rows) == {str(note), str(big)}
    text = say(daemon, "status", "--rejected", "--strict", code=1)
    assert all(f"{path}: {reason}\n" in text for path, reason in rows.items())
    note.unlink()
    assert [row["path"] for row in ask(daemon, "status", "--rejected")] == [str(big)]
