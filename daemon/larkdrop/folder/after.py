"""What becomes of an image once its key is safely recorded: kept, moved or deleted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from larkdrop.folder import sidecar
from larkdrop.folder.picture import Changed, NotAFile, Stamp, stamp
from larkdrop.record import Record


def delete(folder: int, name: str, read_as: Stamp) -> None:
    """Remove the image ``name``; its sidecar stays. Raises Changed where it is no longer what was uploaded."""
    _still(folder, name, read_as)
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)


def arrive(folder: int, name: str, read_as: Stamp, target: Path, record: Record) -> Path:
    """Give the image ``name`` and its sidecar a place in the folder ``target``, durably; returns the image's new path.

    A taken name gets a number: ``photo.1.jpg``. ``leave`` ends the move. Raises Changed where the image is no longer
    what was uploaded, OSError where it can't be moved.
    """
    target.mkdir(parents=True, exist_ok=True)
    there = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _still(folder, name, read_as)
        for free in _names(name):
            if _same_content(there, free, record):
                break  # a crash came between arriving there and leaving here
            if sidecar.exists(there, free):
                continue
            try:
                # First the sidecar: an image that arrives without one could not be told from somebody else's.
                sidecar.write(there, free, replace(record, file=free))
                _arrive(folder, name, there, free)
            except sidecar.Foreign:
                continue
            except FileExistsError:
                sidecar.remove(there, free)
                continue
            break
        os.fsync(there)
    finally:
        os.close(there)
    return target / free


def leave(folder: int, name: str, read_as: Stamp) -> None:
    """Remove the image ``name`` and its sidecar, which have arrived elsewhere. Raises Changed, OSError."""
    _still(folder, name, read_as)
    with suppress(sidecar.Foreign):
        sidecar.remove(folder, name)  # before the image: without it nobody would come back for the sidecar
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)


def _still(folder: int, name: str, read_as: Stamp) -> None:
    try:
        now = stamp(folder, name)
    except NotAFile as error:
        raise Changed(name) from error
    if (now.inode, now.size, now.mtime_ns) != (read_as.inode, read_as.size, read_as.mtime_ns):
        raise Changed(name)


def _names(name: str) -> Iterator[str]:
    """``photo.jpg``, ``photo.1.jpg``, ``photo.2.jpg`` …, each at most 255 bytes."""
    yield name
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem:
        stem, ending = name, ""
    for number in count(1):
        tail = f".{number}{dot if ending else ''}{ending}"
        raw = os.fsencode(stem)[: sidecar.NAME_MAX - len(os.fsencode(tail))]
        yield os.fsdecode(raw) + tail


def _same_content(there: int, name: str, record: Record) -> bool:
    try:
        beside = sidecar.read(there, name)
        size = stamp(there, name).size
    except (sidecar.Foreign, NotAFile):
        return False
    return beside is not None and (beside.sha256, beside.size) == (record.sha256, size)


def _arrive(folder: int, name: str, there: int, free: str) -> None:
    """Give the image a second name in ``there``, never onto an existing file; by a copy across file systems."""
    try:
        os.link(name, free, src_dir_fd=folder, dst_dir_fd=there, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
            raise
        _copy(folder, name, there, free)


def _copy(folder: int, name: str, there: int, free: str) -> None:
    temp, file = sidecar.open_temp(there, free, 0o666)
    try:
        with (
            open(file, "wb") as copy,
            open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as source,
        ):
            shutil.copyfileobj(source, copy)
            copy.flush()
            status = os.fstat(source.fileno())
            os.fchmod(copy.fileno(), status.st_mode & 0o777)
            os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(copy.fileno())
        try:
            os.link(temp, free, src_dir_fd=there, dst_dir_fd=there, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
                raise
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=there))
            os.rename(temp, free, src_dir_fd=there, dst_dir_fd=there)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=there)
