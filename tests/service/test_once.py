"""``larkdrop run --once``: it ends when nothing more can be done without a person, and says what is left and why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.faults.test_crash import fill, tmpfs
from tests.faults.test_machine import NOBODY, POWERLESS, needs_setpriv
from tests.helpers import Daemon, picture, sidecar_of, wait_until

MakeDaemon = Callable[..., Daemon]


def left_by(ended: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a run says is left, once it ended with 1."""
    assert ended.returncode == 1, ended.stderr
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert events[-1]["event"] == "finished"
    return [event for event in events if event["event"] == "not_done"]


@needs_setpriv
def test_an_inbox_that_can_not_be_listed(make_daemon: MakeDaemon) -> None:
    """Exit code 1, and the folder is named."""
    daemon = make_daemon()
    daemon.inbox.chmod(0o700)
    os.chown(daemon.inbox, NOBODY, NOBODY)
    daemon.prefix = POWERLESS
    (left,) = left_by(daemon.once())
    assert (left["path"], left["reason"]) == (str(daemon.inbox), "the folder can't be listed")


@needs_setpriv
def test_a_picture_that_can_not_be_read(make_daemon: MakeDaemon) -> None:
    """Exit code 1, and the file is named; the others are uploaded."""
    daemon = make_daemon()
    path, other = daemon.drop("private.png", picture(1)), daemon.drop("other.png", picture(2))
    path.chmod(0o600)
    os.chown(path, NOBODY, NOBODY)
    daemon.prefix = POWERLESS
    ended = daemon.once()
    (left,) = left_by(ended)
    assert (left["path"], left["reason"]) == (str(path), "the file can't be read")
    assert json.loads(ended.stderr.splitlines()[-1])["left"] == 1
    assert sidecar_of(other)


@needs_setpriv
def test_sidecars_that_can_not_be_written(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """It ends, with 1; every key is in the result log, and at most 20 files are named. Later nothing is sent again."""
    daemon = make_daemon()
    for number in range(25):
        daemon.drop(f"{number}.png", picture(number))
    daemon.inbox.chmod(0o755)
    os.chown(daemon.inbox, NOBODY, NOBODY)
    daemon.prefix = POWERLESS
    left = left_by(daemon.once())
    assert len(left) == 21
    assert "its sidecar can't be written; its key is in the result log" in left[0]["reason"]
    assert left[-1]["more"] == 5
    assert len(daemon.results()) == len(lark.uploads) == 25
    daemon.prefix = ()
    assert daemon.once().returncode == 0
    assert len(lark.uploads) == 25
    assert all(sidecar_of(path) for path in daemon.inbox.glob("*.png"))


@needs_setpriv
def test_a_folder_to_move_to_that_can_not_be_written(make_daemon: MakeDaemon) -> None:
    """It ends, with 1; what is said names that folder, not the inbox."""
    daemon = make_daemon()
    done = daemon.home / "done"
    done.mkdir()
    os.chown(done, NOBODY, NOBODY)
    daemon = make_daemon(watch=[{"path": daemon.inbox, "after_upload": "move", "move_to": done}])
    path = daemon.drop("a.png", picture(1))
    daemon.prefix = POWERLESS
    ended = daemon.once()
    (left,) = left_by(ended)
    assert (left["path"], left["reason"]) == (str(path), "it can't be moved after the upload")
    (failed,) = (json.loads(line) for line in ended.stderr.splitlines() if "recording_failed" in line)
    assert (failed["place"], failed["reason"]) == (str(done), "Permission denied")


def test_uploads_that_a_person_has_to_allow(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Held by the set-up: one line for all that is left, with what to do."""
    lark.faults.bot_off = True
    daemon = make_daemon()
    for number in range(3):
        daemon.drop(f"{number}.png", picture(number))
    (left,) = left_by(daemon.once())
    assert left["files"] == 3
    assert "uploads are held" in left["reason"]
    assert "Bot" in left["hint"]


def test_a_picture_for_which_lark_refuses_the_call(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Its next try may be an hour away: the run ends without it, with 1, and says what may help."""
    daemon = make_daemon()
    odd = daemon.drop("odd.png", picture(1))
    lark.odd.add(hashlib.sha256(picture(1)).hexdigest())
    good = daemon.drop("good.png", picture(2))
    (left,) = left_by(daemon.once())
    assert left["path"] == str(odd)
    assert "234001" in left["reason"]
    assert "save it again" in left["hint"]
    assert sidecar_of(good)
    assert sidecar_of(odd) is None


def test_an_outage_is_waited_for(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """While Lark can't be reached it goes on trying, and finishes when it is back."""
    lark.faults.down = True
    daemon = make_daemon()
    path = daemon.drop("a.png", picture(1))
    with daemon.stderr.open("wb") as log, subprocess.Popen(daemon.command("run", "--once"), stderr=log) as process:
        try:
            wait_until(lambda: len(daemon.events("upload_failed")) >= 3, what="failures")
            assert process.poll() is None
            lark.faults.down = False
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert sidecar_of(path)


@pytest.mark.needs("root", "mount")
def test_equal_pictures_whose_key_can_not_be_kept(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """The disk of the key cache is full: it ends, with 1, although the one waits for the other's key."""
    lark.faults.delay = 1.0
    daemon = make_daemon()
    with tmpfs(daemon.state, "1m"):
        for name in ("a.png", "same.png"):
            daemon.drop(name, picture(1))
        with daemon.stderr.open("wb") as log, subprocess.Popen(daemon.command("run", "--once"), stderr=log) as process:
            try:
                wait_until(lambda: lark.calls["upload"], what="the call")
                fill(daemon.state)
                assert process.wait(60) == 1
            finally:
                process.kill()
    assert len(daemon.events("not_done")) == 2
    assert len(lark.uploads) == 1


def test_an_inbox_that_goes_meanwhile(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Removed while it runs: it ends, with 1, and says so."""
    lark.faults.delay = 1.0
    daemon = make_daemon()
    daemon.drop("a.png", picture(1))
    with daemon.stderr.open("wb") as log, subprocess.Popen(daemon.command("run", "--once"), stderr=log) as process:
        try:
            wait_until(lambda: lark.calls["upload"], what="the call")
            shutil.rmtree(daemon.inbox)
            assert process.wait(60) == 1
        finally:
            process.kill()
    assert daemon.events("not_done")[0]["reason"] == "there is no such folder"


def test_a_signal_ends_it_with_0(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """What was left then is no fault."""
    lark.faults.delay = 0.5
    daemon = make_daemon(upload={"workers": 1})
    for number in range(5):
        daemon.drop(f"{number}.png", picture(number))
    with daemon.stderr.open("wb") as log, subprocess.Popen(daemon.command("run", "--once"), stderr=log) as process:
        try:
            wait_until(lambda: lark.calls["upload"], what="the call")
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not daemon.events("not_done")
