"""Open a file safely, read it once, and tell what picture it is from its bytes only."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from larkdrop.folder.recognise import End, Shape, recognise
from larkdrop.records.durable import sync_data

CHUNK = 1024 * 1024


class Changed(Exception):
    """The file is no longer what was read, or was to be."""


class NotAFile(Exception):
    """There is nothing at the path to take: a link, a FIFO, a folder, a device, or nothing at all."""


@dataclass(frozen=True)
class Stamp:
    """Which state of a file: two equal stamps are the same content, as far as the kernel tells."""

    inode: int
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class Picture:
    """What was read, once: ``content`` is what is sent and what ``sha256`` vouches for.

    ``content`` is empty where the file is larger than what was to be kept.
    """

    stamp: Stamp
    content: bytes
    sha256: str
    shape: Shape


@contextmanager
def parent_of(root: str, path: str) -> Iterator[tuple[int, str]]:
    """The open folder that holds ``path``, and the name in it; no link is followed below ``root``.

    Raises NotAFile where a folder on the way is gone or is none.
    """
    folder = _open(root, os.O_DIRECTORY)
    try:
        *parts, name = path[len(root) :].lstrip("/").split("/")
        for part in parts:
            inner = _open(part, os.O_DIRECTORY | os.O_NOFOLLOW, folder)
            os.close(folder)
            folder = inner
        yield folder, name
    finally:
        os.close(folder)


def read(folder: int, name: str, max_bytes: int) -> Picture:
    """Read the regular file ``name`` in the open ``folder``; content over ``max_bytes`` is hashed but not kept.

    What was read is on the disk then, so that no power cut leaves a record of a picture that is not there.
    Raises Changed, NotAFile, or OSError where it can't be read.
    """
    with _opened(folder, name) as (file, before):
        digest = hashlib.sha256()
        content = b""
        if before.size > max_bytes:
            shape = replace(recognise(os.pread(file, CHUNK, 0)), end=End.LIKELY)
            while chunk := os.read(file, CHUNK):
                digest.update(chunk)
                if before != Stamp.of(os.fstat(file)):
                    raise Changed(name)
        else:
            content = os.read(file, before.size + 1)  # all at once, as the kernel gives it for most file systems
            while len(content) < before.size and (chunk := os.read(file, CHUNK)):
                content += chunk
            digest.update(content)
            shape = recognise(content)
        sync_data(file)
        if before != Stamp.of(os.fstat(file)) or (content and len(content) != before.size):
            raise Changed(name)
    return Picture(before, content, digest.hexdigest(), shape)


def stamp(folder: int, name: str) -> Stamp:
    """The state of the regular file ``name``. Raises NotAFile, or OSError where it can't be looked at."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotAFile(name) from error
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(name)
    return Stamp.of(status)


@contextmanager
def _opened(folder: int, name: str) -> Iterator[tuple[int, Stamp]]:
    """Looked at before it is opened, since opening some devices does something; O_NONBLOCK so that no FIFO holds us."""
    stamp(folder, name)
    file = _open(name, os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, folder)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(name)
        yield file, Stamp.of(status)
    finally:
        os.close(file)


def _open(name: str, flags: int, folder: int | None = None) -> int:
    """Raises NotAFile where it is gone, of another kind, or a link where none is followed; OSError."""
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=folder)
    except OSError as error:
        is_link = error.errno == errno.ELOOP and flags & os.O_NOFOLLOW
        if is_link or error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENXIO}:
            raise NotAFile(name) from error
        raise
