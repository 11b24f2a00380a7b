"""Locks on files of a folder: one process has one, and it ends with that process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from larkdrop.folder.locks import NAME, FileLocks

OTHER = """
import os, sys
from larkdrop.folder.locks import FileLocks
folder, name = os.path.split(sys.argv[1])
print(FileLocks().acquire(sys.argv[1], os.open(folder, os.O_RDONLY)), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that has the lock of ``path``."""
    command = [sys.executable, "-c", OTHER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """An open one."""
    opened = os.open(tmp_path, os.O_RDONLY)
    yield opened
    os.close(opened)


def test_one_process_has_it_until_it_ends(tmp_path: Path, folder: int) -> None:
    """Killed, too; other files of the folder are free meanwhile."""
    locks, path = FileLocks(), tmp_path / "a.png"
    with another_process(path) as process:
        assert not locks.acquire(str(path), folder)
        assert locks.acquire(str(tmp_path / "b.png"), folder)
        process.kill()
        process.wait()
        assert locks.acquire(str(path), folder)


def test_released(tmp_path: Path, folder: int) -> None:
    """Others may have it then; nothing is left in the folder."""
    one, other, path = FileLocks(), FileLocks(), str(tmp_path / "a.png")
    assert one.acquire(path, folder)
    assert one.acquire(path, folder)
    assert not other.acquire(path, folder)
    one.release(path)
    assert other.acquire(path, folder)
    one.release(path)
    assert not one.acquire(path, folder)
    other.release(path)
    assert not list(tmp_path.iterdir())


def test_the_last_one_removes_the_file(tmp_path: Path, folder: int) -> None:
    """Not while another process has a lock there."""
    one, other = FileLocks(), FileLocks()
    assert one.acquire(str(tmp_path / "a.png"), folder)
    assert other.acquire(str(tmp_path / "b.png"), folder)
    one.release(str(tmp_path / "a.png"))
    assert (tmp_path / NAME).exists()
    assert not one.acquire(str(tmp_path / "b.png"), folder)
    other.release(str(tmp_path / "b.png"))
    assert not (tmp_path / NAME).exists()


def test_a_file_that_was_removed_meanwhile_locks_nothing(tmp_path: Path, folder: int) -> None:
    """Whoever had it open before that takes the new one."""
    one, other, path = FileLocks(), FileLocks(), str(tmp_path / "a.png")
    assert one.acquire(str(tmp_path / "b.png"), folder)
    (tmp_path / NAME).unlink()
    assert other.acquire(path, folder)
    assert not one.acquire(path, folder)


def test_a_strangers_file_of_that_name_stays(tmp_path: Path, folder: int) -> None:
    """It serves, and is not removed."""
    locks, path = FileLocks(), str(tmp_path / "a.png")
    (tmp_path / NAME).write_text("mine")
    assert locks.acquire(path, folder)
    locks.release(path)
    assert (tmp_path / NAME).read_text() == "mine"


def test_a_file_system_that_counts_no_links(tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are locks there, too."""
    one, other, path = FileLocks(), FileLocks(), str(tmp_path / "a.png")
    fstat = os.fstat

    def without_links(file: int) -> os.stat_result:
        found = list(fstat(file))
        found[3] = 0
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", without_links)
    assert one.acquire(path, folder)
    assert not other.acquire(path, folder)


def test_a_folder_that_can_have_no_locks(tmp_path: Path, folder: int) -> None:
    """Nobody waits for one."""
    (tmp_path / NAME).mkdir()
    assert FileLocks().acquire(str(tmp_path / "a.png"), folder)
    (tmp_path / NAME).rmdir()
    tmp_path.rmdir()
    assert FileLocks().acquire(str(tmp_path / "a.png"), folder)
