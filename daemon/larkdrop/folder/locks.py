"""Locks on files of a folder that several processes watch, on one host or on many: each ends with its process.

A file's lock is one byte of ``.larkdrop.lock`` in its folder, by the hash of its name; the last process that has one
there removes that. Locks of open file descriptions (fcntl(2)) are kept by the kernel, and for NFS by the file server.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

NAME = ".larkdrop.lock"
# What a lock is refused with that another has.
TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
# Bytes of a hash by which a file has its place: fewer than a lock's offset has.
PLACE_BYTES = 7


class FileLocks:
    """Thread-safe. Never waits for another process, and no folder waits for another one's disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[tuple[int, int], _LockFile] = {}  # by the folder's device and inode
        self._held: dict[str, tuple[tuple[int, int], int]] = {}  # folder and place, by the path that is locked

    def acquire(self, path: str, folder: int) -> bool:
        """Lock the file at ``path``, in the open ``folder``; False where another process has.

        Where the folder can have no locks, there is none, and nothing is refused.
        """
        status = os.fstat(folder)
        key = status.st_dev, status.st_ino
        with self._lock:
            if path in self._held:
                return True
            file = self._files.setdefault(key, _LockFile())
            file.users += 1
        place = int.from_bytes(hashlib.sha256(os.fsencode(os.path.basename(path))).digest()[:PLACE_BYTES])
        try:
            locked = file.lock(folder, place)
        except OSError:
            self._leave(key, file)
            return True
        if locked:
            self._held[path] = key, place
        else:
            self._leave(key, file)
        return locked

    def release(self, path: str) -> None:
        """Unlock a path, where it is locked."""
        if path in self._held:
            key, place = self._held.pop(path)
            file = self._files[key]
            file.unlock(place)
            self._leave(key, file)

    def _leave(self, key: tuple[int, int], file: _LockFile) -> None:
        with self._lock:
            file.users -= 1
            if file.users:
                return
            del self._files[key]
        file.close()


@dataclass(eq=False)
class _LockFile:
    """The file of one folder; ``users`` are locks in it, and those who try for one."""

    users: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _file: int = -1
    _folder: int = -1

    def lock(self, folder: int, place: int) -> bool:
        """Raises OSError where there can be no lock."""
        with self._lock:
            for is_last in (False, False, True):  # some file systems count no links
                if self._file < 0:
                    self._open(folder)
                if not _set_lock(self._file, place, 1):
                    return False
                if is_last or os.fstat(self._file).st_nlink:
                    break
                self._close()  # another process removed it after it was opened here
            return True

    def unlock(self, place: int) -> None:
        with self._lock, suppress(OSError):
            _set_lock(self._file, place, 1, fcntl.F_UNLCK)

    def close(self) -> None:
        """Remove the file, unless another process uses it, or somebody wrote into it."""
        with self._lock:
            with suppress(OSError):
                if os.fstat(self._file).st_size == 0 and _set_lock(self._file, 0, 0):  # all of it
                    os.unlink(NAME, dir_fd=self._folder)
            self._close()

    def _open(self, folder: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.open(NAME, flags, os.fstat(folder).st_mode & 0o666, dir_fd=folder)
        self._folder = os.dup(folder)

    def _close(self) -> None:
        for one in (self._file, self._folder):
            with suppress(OSError):
                os.close(one)
        self._file = self._folder = -1


def _set_lock(file: int, start: int, length: int, kind: int = fcntl.F_WRLCK) -> bool:
    """Lock bytes of a file; False where another has one of them. Raises OSError where there can be no lock."""
    flock = struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)  # type, whence, start, length, pid
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, flock)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True
