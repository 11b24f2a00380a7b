"""What outlives a power cut: content once its file was synced, a name once the folder that holds it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

# What file systems answer that can't sync a file that is open for reading.
CAN_NOT_SYNC = frozenset({errno.EINVAL, errno.EROFS, errno.EOPNOTSUPP, errno.ENOSYS})


def write_whole(file: int, data: bytes) -> None:
    """Write all of ``data``, however little of it the file system takes at a time. Raises OSError."""
    while data:
        data = data[os.write(file, data) :]


def sync_data(file: int) -> None:
    """Have the content of an open file on the disk, where its file system can do that. Raises OSError."""
    try:
        os.fdatasync(file)
    except OSError as error:
        if error.errno not in CAN_NOT_SYNC:
            raise


@contextmanager
def open_folder(folder: str | Path, flags: int = 0) -> Iterator[int]:
    """The open ``folder``, in which names are found whatever becomes of its own. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    try:
        yield opened
    finally:
        os.close(opened)


def sync_folder(folder: str | Path) -> None:
    """Have every name in ``folder`` on the disk. Raises OSError."""
    with open_folder(folder) as opened:
        os.fsync(opened)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make ``folder`` and those above it where they are missing, durably. ``mode`` is for ``folder``. Raises OSError.

    One that is there already may have been made a moment ago, by another thread or before a crash, and not be synced
    yet; so every name on the way, up to a mount point, is synced once a process.
    """
    missing = {one for one in (folder, *folder.parents) if not one.exists()}
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for made in (folder, *folder.parents):
        if os.path.ismount(made):
            break
        if made in missing:  # which may get the inode of one that was removed
            _sync_parent(made)
        else:
            status = made.stat()
            _sync_name(made, status.st_dev, status.st_ino)


@lru_cache(maxsize=10_000)
def _sync_name(folder: Path, _device: int, _inode: int) -> None:
    _sync_parent(folder)


def _sync_parent(folder: Path) -> None:
    with suppress(PermissionError):  # who may not list the folder above has made no name in it
        sync_folder(folder.parent)


def still_named(path: Path, opened: os.stat_result) -> bool:
    """Whether the file that was opened still has its name."""
    try:
        return os.path.samestat(opened, os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # a file system that does not answer has lost nothing yet


def writable(folder: str) -> str:
    """What to do about a read-only file system: for a service it may be read-only by its unit."""
    if "INVOCATION_ID" not in os.environ:
        return "Mount the file system writable"
    return f"Open it to the service (ReadWritePaths=-{folder} in a drop-in of its unit) or mount it writable"
