"""Open safely, read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from larkdrop.folder import picture
from larkdrop.folder.picture import Changed, NotAFile
from tests.helpers import picture as picture_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """An open folder."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_what_is_read_is_what_is_hashed(folder: int, tmp_path: Path) -> None:
    """Content, hash and stamp speak of the same bytes."""
    (tmp_path / "a").write_bytes(b"GIF89a content")
    read = picture.read(folder, "a", 100)
    assert read.content == b"GIF89a content"
    assert read.sha256 == hashlib.sha256(read.content).hexdigest()
    assert read.stamp.size == len(read.content)


def test_too_much_is_hashed_but_not_kept(folder: int, tmp_path: Path) -> None:
    """Nothing over the limit stays in memory."""
    content = bytes(3_000_000)
    (tmp_path / "a").write_bytes(content)
    read = picture.read(folder, "a", 1000)
    assert read.content == b""
    assert read.sha256 == hashlib.sha256(content).hexdigest()


def test_what_is_too_large_is_told_by_how_it_begins(folder: int, tmp_path: Path) -> None:
    """And not by what stands somewhere in it."""
    begins, holds = picture_of(1, "JPEG") + bytes(3_000_000), bytes(2**20) + picture_of(1, "JPEG") + bytes(2**20)
    for content, form in ((begins, "JPEG"), (holds, None)):
        (tmp_path / "a").write_bytes(content)
        assert picture.read(folder, "a", 1000).shape.format == form


def test_links_and_fifos_and_nothing(folder: int, tmp_path: Path) -> None:
    """None is followed, none blocks."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    for name in ("link", "fifo", "dir", "nothing"):
        with pytest.raises(NotAFile):
            picture.read(folder, name, 100)


def test_a_file_that_changes_while_it_is_read(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told, whether it is kept or only hashed."""
    path = tmp_path / "a"
    path.write_bytes(bytes(2_000_000))
    real = os.read

    def read_and_append(file: int, size: int) -> bytes:
        content = real(file, min(size, 1_000_000))
        with path.open("ab") as more:
            more.write(b"more")
        return content

    monkeypatch.setattr(os, "read", read_and_append)
    for most in (10, 10_000_000):
        with pytest.raises(Changed):
            picture.read(folder, "a", most)


def test_no_folder_on_the_way_may_be_a_link(tmp_path: Path) -> None:
    """Not even one that was swapped after it was scanned."""
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    outside.mkdir()
    (root / "real").mkdir(parents=True)
    (outside / "x.png").write_bytes(b"secret")
    (root / "swapped").symlink_to(outside)
    with pytest.raises(NotAFile), picture.parent_of(str(root), f"{root}/swapped/x.png"):
        pass
    with picture.parent_of(str(root), f"{root}/real/x.png") as (_, name):
        assert name == "x.png"
    with pytest.raises(NotAFile), picture.parent_of(str(root), f"{root}/gone/x.png"):
        pass


def test_what_is_read_is_on_the_disk(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave an empty file beside a record of its content."""
    (tmp_path / "a").write_bytes(b"GIF89a content")
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file).st_ino))
    picture.read(folder, "a", 100)
    assert synced == [(tmp_path / "a").stat().st_ino]
