"""What is known of a file is kept while it waits, and the next one due is known.

When files of real writers are finished is in ``faults/test_writers.py``.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Stamp
from larkdrop.folder.settle import Settle
from tests.helpers import wait_until


def test_what_an_event_told_is_not_forgotten_for_a_scan(tmp_path: Path) -> None:
    """A file that its writer closed needs less quiet than one that a scan found a moment later; unless it changed."""
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    settle, watch = Settle(lambda _: None), Watch(path=tmp_path)
    stamp = Stamp.of(os.lstat(path))
    assert settle.park(Drop(str(path), watch, closed=True, stamp=stamp), 2)
    soon = settle.until(str(path))
    assert settle.park(Drop(str(path), watch, stamp=stamp, by_scan=True), 60)
    assert settle.until(str(path)) == soon
    path.write_bytes(b"more")
    assert settle.park(Drop(str(path), watch, stamp=Stamp.of(os.lstat(path)), by_scan=True), 60)
    assert settle.until(str(path)) != soon


def test_scan_after_scan_does_not_put_a_file_off(tmp_path: Path) -> None:
    """As where a folder is polled, and the clock of its server is ahead, so that its files look new."""
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    settle, watch = Settle(lambda _: None), Watch(path=tmp_path)
    drop = Drop(str(path), watch, stamp=Stamp.of(os.lstat(path)), by_scan=True)
    assert settle.park(drop, 60)
    due = settle.until(str(path))
    assert settle.park(drop, 60)
    assert settle.until(str(path)) == due


def test_the_next_file_due_is_known(tmp_path: Path) -> None:
    """As long as it is held, and while it is released."""
    released: list[float | None] = []
    settle, watch = Settle(lambda _: released.append(settle.due)), Watch(path=tmp_path)
    assert settle.due is None
    for name, seconds in (("later.png", 3600.0), ("soon.png", 0.01)):
        (tmp_path / name).touch()
        path = str(tmp_path / name)
        settle.park(Drop(path, watch, stamp=Stamp.of(os.lstat(path))), seconds)
    soon = settle.until(str(tmp_path / "soon.png"))
    assert settle.due == soon
    running = threading.Thread(target=settle.run)
    running.start()
    wait_until(lambda: settle.due == settle.until(str(tmp_path / "later.png")))
    assert released == [soon]
    assert len(settle.paths()) == 1
    settle.stop()
    running.join()


def test_a_file_for_which_there_is_no_room_any_more_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changed while it was held, and another file has its place by the time that is seen: it is not forgotten."""
    monkeypatch.setattr("larkdrop.folder.settle.MOST", 1)
    released: list[str] = []
    settle, watch = Settle(lambda drop: released.append(drop.path)), Watch(path=tmp_path)
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    first.write_bytes(b"")
    second.write_bytes(b"")
    stale = Stamp(0, 0, 0, 0)
    works = os.lstat

    def take_the_place(path: str) -> os.stat_result:
        monkeypatch.setattr(os, "lstat", works)
        assert settle.park(Drop(str(second), watch, stamp=Stamp.of(works(second))), 3600)
        return works(path)

    monkeypatch.setattr(os, "lstat", take_the_place)
    assert settle.park(Drop(str(first), watch, stamp=stale), 0)
    running = threading.Thread(target=settle.run)
    running.start()
    wait_until(lambda: released)
    settle.stop()
    running.join()
    assert released == [str(first)]
