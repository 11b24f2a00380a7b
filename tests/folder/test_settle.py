"""Settling: what is known of a file is kept while it waits."""

from __future__ import annotations

import os
from pathlib import Path

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Stamp
from larkdrop.folder.settle import Settle


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
