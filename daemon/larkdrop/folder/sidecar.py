"""The record beside an image: its name, the proof by two stats, and writing it whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from contextlib import suppress

from larkdrop.record import Record

SUFFIX = ".lark.json"
TEMP_PREFIX, TEMP_SUFFIX = ".larkdrop-", ".tmp"
NAME_MAX = 255
# Hex digits of a name's hash: in the sidecar name of a name too long to take the suffix, and in temp names.
SHORT_HASH = 16
LARGEST = 64 * 1024
# Every sidecar of ours begins with this, so that a cut one can be told from a stranger's file.
OPENING = '{\n  "schema": 1,\n  "status": "'


class Foreign(Exception):
    """The sidecar's name is taken by a file that larkdrop did not write."""


def name_for(name: str) -> str:
    """The sidecar's name for an image's name.

    ``name.lark.json``; where that would pass 255 bytes, ``START~HASH.lark.json``: as much of the name as fits, cut
    between characters, and 16 hex digits of the SHA-256 of the whole name. The sidecar's ``file`` holds the whole name.
    """
    if len(name) * 4 + len(SUFFIX) <= NAME_MAX:
        return name + SUFFIX
    raw = os.fsencode(name)
    if len(raw) + len(SUFFIX) <= NAME_MAX:
        return name + SUFFIX
    start = raw[: NAME_MAX - len(SUFFIX) - SHORT_HASH - 1]
    while start and raw[len(start)] & 0xC0 == 0x80:
        start = start[:-1]
    return f"{os.fsdecode(start)}~{hashlib.sha256(raw).hexdigest()[:SHORT_HASH]}{SUFFIX}"


def is_ours(name: str) -> bool:
    """Whether a name is one that larkdrop itself makes: never a picture."""
    return name.endswith(SUFFIX) or is_temp(name)


def is_temp(name: str) -> bool:
    """Whether a name is that of a sidecar being written, or left over from a crash."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


def proves(image: os.stat_result, beside: os.stat_result) -> bool:
    """Whether two stats alone show that the sidecar speaks of this very state of the image.

    The sidecar was given the image's mtime, and the kernel stamped its ctime after the image's last change. Equal
    ctimes prove nothing: the image may have changed again within the file system's tick.
    """
    return beside.st_mtime_ns == image.st_mtime_ns and beside.st_ctime_ns > image.st_ctime_ns


def proven(folder: int, name: str) -> Record | None:
    """The record beside the image ``name`` where two stats prove that it speaks of this very state of it."""
    try:
        image = os.stat(name, dir_fd=folder, follow_symlinks=False)
        beside = os.stat(name_for(name), dir_fd=folder, follow_symlinks=False)
        return read(folder, name) if proves(image, beside) else None
    except (OSError, Foreign):
        return None


def read(folder: int, name: str) -> Record | None:
    """The record beside the image ``name``, or None where there is none or only the rest of one.

    Raises Foreign where the place is taken by something else.
    """
    place = name_for(name)
    try:
        file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Foreign(place) from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise Foreign(place)
        text = os.read(file, LARGEST).decode("utf-8", "replace")
    finally:
        os.close(file)
    try:
        record = Record.from_fields(json.loads(text))
    except ValueError:
        record = None
    if record is None and not (text.startswith(OPENING) or OPENING.startswith(text)):
        raise Foreign(place)
    return record


def write(folder: int, name: str, record: Record) -> None:
    """Put the record beside the image ``name``, durably and whole, with the image's mtime.

    Raises Foreign where the place is taken by a file that is not ours, OSError where it can't be written.
    """
    place = name_for(name)
    replace = exists(folder, place)
    if replace:
        read(folder, name)
    temp, file = open_temp(folder, place, os.fstat(folder).st_mode & 0o666)
    try:
        try:
            _write_all(file, json.dumps(record.fields(), indent=2).encode("ascii") + b"\n")
            os.utime(file, ns=(record.mtime_ns, record.mtime_ns))
            os.fsync(file)
        finally:
            os.close(file)
        _publish(folder, temp, place, replace=replace)
    except BaseException:
        with suppress(OSError):
            os.unlink(temp, dir_fd=folder)
        raise
    os.fsync(folder)


def open_temp(folder: int, place: str, mode: int) -> tuple[str, int]:
    """A new file that becomes ``place``: its name and descriptor. What a crash left of an earlier one is removed.

    Each place has one temp name, since only one worker at a time works on a path.
    """
    temp = f"{TEMP_PREFIX}{hashlib.sha256(os.fsencode(place)).hexdigest()[:SHORT_HASH]}{TEMP_SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return temp, os.open(temp, flags, mode, dir_fd=folder)
    except FileExistsError:
        os.unlink(temp, dir_fd=folder)
        return temp, os.open(temp, flags, mode, dir_fd=folder)


def confirm(folder: int, name: str, record: Record) -> None:
    """Renew the proof by two stats after the image's content was found to be the same."""
    with suppress(OSError):
        os.utime(name_for(name), ns=(record.mtime_ns, record.mtime_ns), dir_fd=folder, follow_symlinks=False)


def remove(folder: int, name: str) -> bool:
    """Remove the record beside the image ``name``; False where there is none. Raises Foreign."""
    if read(folder, name) is None:
        return False
    os.unlink(name_for(name), dir_fd=folder)
    return True


def exists(folder: int, place: str) -> bool:
    """Whether the name is taken in the open folder, by whatever it is."""
    try:
        os.stat(place, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _publish(folder: int, temp: str, place: str, *, replace: bool) -> None:
    """Give the temp file its name. A first sidecar is linked, which fails where a stranger's file came first."""
    if not replace:
        try:
            os.link(temp, place, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError as error:
            raise Foreign(place) from error
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                raise
        else:
            os.unlink(temp, dir_fd=folder)
            return
    os.rename(temp, place, src_dir_fd=folder, dst_dir_fd=folder)
