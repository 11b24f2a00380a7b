"""Folders that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from larkdrop.durable import make_folder


def test_every_folder_on_the_way_is_synced_with_the_one_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is there already, which a crash may have left before it was synced; but each only once."""
    synced: list[int] = []
    fsync = os.fsync

    def noted(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a" / "b" / "c", 0o700)
    expected = {folder.stat().st_ino for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")}
    assert expected <= set(synced)
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
    synced.clear()
    make_folder(tmp_path / "a" / "b" / "c")
    assert not synced
    (tmp_path / "a" / "b" / "c").rmdir()
    (tmp_path / "a" / "b" / "other").mkdir()  # takes the inode of the one before
    make_folder(tmp_path / "a" / "b" / "c")
    assert synced
