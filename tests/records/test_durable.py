"""Folders and content that outlive a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from larkdrop.records.durable import make_folder, sync_data


def test_every_folder_on_the_way_is_synced_with_the_one_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is there already, which a crash may have left before it was synced; but no more often than that."""
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
    make_folder(tmp_path / "a" / "b" / "c")
    synced.clear()
    make_folder(tmp_path / "a" / "b" / "c")
    assert not synced
    (tmp_path / "a" / "b" / "c").rmdir()
    make_folder(tmp_path / "a" / "b" / "c")
    assert synced, "it may have the inode of the one before"


def test_a_file_system_that_can_not_sync_keeps_nobody_from_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """But a disk that fails is an error."""
    answer = errno.EINVAL

    def fail(_file: int) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "fdatasync", fail)
    sync_data(0)
    answer = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        sync_data(0)
