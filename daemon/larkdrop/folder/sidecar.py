"""The sidecar, an image's record beside it: its name, the proof by two stats, and writing it whole or not at all.

Its fields are those of ``records/sidecar_fields.py``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from larkdrop.folder import locks
from larkdrop.folder.picture import NotAFile, Stamp, stamp
from larkdrop.records.durable import write_whole
from larkdrop.records.sidecar_fields import Record

SUFFIX = ".lark.json"
TEMP_PREFIX, TEMP_SUFFIX = ".larkdrop-", ".tmp"
NAME_MAX = 255
# Hex digits of a name's hash: in the sidecar name of a name too long to take the suffix, and in temp names.
SHORT_HASH = 16
LARGEST = 64 * 1024
# What file systems answer that have no files without a name.
NO_NAMELESS_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
# What they answer that have no second name for a file.
NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# Every sidecar of ours begins with this, so that one that was cut short can be told from a stranger's file.
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
    start = cut(name, NAME_MAX - len(SUFFIX) - SHORT_HASH - 1)
    return f"{start}~{hashlib.sha256(raw).hexdigest()[:SHORT_HASH]}{SUFFIX}"


def cut(name: str, size: int) -> str:
    """As much of a name as fits into ``size`` bytes, cut between characters."""
    raw, end = os.fsencode(name), size
    while 0 < end < len(raw) and raw[end] & 0xC0 == 0x80:
        end -= 1
    return os.fsdecode(raw[:end])


def is_ours(name: str) -> bool:
    """Whether a name is one that larkdrop itself makes: never a picture."""
    return name.endswith(SUFFIX) or is_temp(name) or name == locks.NAME


def is_temp(name: str) -> bool:
    """Whether a name is that of a sidecar or picture being written, or left over from a crash."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


def proves(mtime_ns: int, ctime_ns: int, written: os.stat_result) -> bool:
    """Whether the times of an image and the stat of its sidecar show that the record is of the image as it is now.

    The sidecar was given the image's mtime, and the kernel stamped its ctime after the image's last change. Equal
    ctimes prove nothing: the image may have changed again within the file system's tick.
    """
    return written.st_mtime_ns == mtime_ns and written.st_ctime_ns > ctime_ns


def look(folder: int, name: str, image: Stamp) -> Record | None:
    """The record in the sidecar of the image ``name``, where two stats prove that it is of ``image``."""
    try:
        written = os.stat(name_for(name), dir_fd=folder, follow_symlinks=False)
        record = read(folder, name) if proves(image.mtime_ns, image.ctime_ns, written) else None
    except (OSError, Foreign):
        return None
    return record if record and record.size == image.size else None


def read(folder: int, name: str) -> Record | None:
    """The record in the sidecar of the image ``name``, or None where there is none, or one that was cut short.

    Raises Foreign where its name is taken by something else.
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
    except (ValueError, RecursionError):
        record = None
    if record is None and not (text.startswith(OPENING) or OPENING.startswith(text)):
        raise Foreign(place)
    return record


def write(folder: int, name: str, record: Record) -> None:
    """Write the sidecar of the image ``name``, durably and whole, with the image's mtime.

    Raises Foreign where its name is taken by a file that is not ours, OSError where it can't be written.
    """
    for error in write_all(folder, {name: record}).values():
        raise error


def write_all(folder: int, records: Mapping[str, Record]) -> dict[str, Foreign | OSError]:
    """Write sidecars of images of the open folder, by the images' names, at the price of one fsync of the folder.

    Returns those that ``write`` would raise; raises OSError where it concerns them all.
    """
    drafts = [_Draft(name, record) for name, record in records.items()]
    failed: dict[str, Foreign | OSError] = {}
    try:
        # Step by step for all, so that their syncs have less to wait for.
        for step in (_write, _sync, _publish):
            for draft in drafts:
                if draft.name not in failed:
                    try:
                        step(folder, draft)
                    except (OSError, Foreign) as error:
                        failed[draft.name] = error
        if len(failed) < len(records):
            os.fsync(folder)
    finally:
        for draft in drafts:
            if draft.file >= 0:
                os.close(draft.file)
            if draft.temp:
                with suppress(OSError):
                    os.unlink(draft.temp, dir_fd=folder)
    return failed


@dataclass(eq=False)
class _Draft:
    """A sidecar that does not have its name yet: ``file`` is open, where it is not -1.

    ``temp`` is the file's name meanwhile, empty where the file system has files without a name.
    """

    name: str
    record: Record
    file: int = -1
    temp: str = ""


def _write(folder: int, draft: _Draft) -> None:
    mode = os.fstat(folder).st_mode & 0o666
    try:
        draft.file = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder)
    except OSError as error:
        if os.fstat(folder).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), draft.name) from error
        if error.errno not in NO_NAMELESS_FILES:
            raise
        draft.temp, draft.file = open_temp(folder, name_for(draft.name), mode)
    write_whole(draft.file, json.dumps(draft.record.fields(), indent=2).encode("ascii") + b"\n")
    os.utime(draft.file, ns=(draft.record.mtime_ns, draft.record.mtime_ns))


def _sync(_folder: int, draft: _Draft) -> None:
    os.fsync(draft.file)


def _publish(folder: int, draft: _Draft) -> None:
    """Give a draft its name: by a link, which fails where a file is there; a sidecar of ours is replaced."""
    place = name_for(draft.name)
    try:
        _link(folder, draft, place)
    except FileExistsError:
        read(folder, draft.name)  # raises Foreign where it is not ours
    except OSError as error:
        if not draft.temp or error.errno not in NO_HARD_LINKS:
            raise
    else:
        return
    if not draft.temp:
        temp = discard_temp(folder, place)
        _link(folder, draft, temp)
        draft.temp = temp
    os.rename(draft.temp, place, src_dir_fd=folder, dst_dir_fd=folder)
    draft.temp = ""


def _link(folder: int, draft: _Draft, name: str) -> None:
    if draft.temp:
        os.link(draft.temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    else:
        os.link(f"/proc/self/fd/{draft.file}", name, dst_dir_fd=folder, follow_symlinks=True)


def discard_temp(folder: int, place: str) -> str:
    """Remove what was written to become ``place``, also before a crash. Returns its temp name.

    Each place has one, since a path is worked on by one thread at a time.
    """
    temp = f"{TEMP_PREFIX}{hashlib.sha256(os.fsencode(place)).hexdigest()[:SHORT_HASH]}{TEMP_SUFFIX}"
    with suppress(FileNotFoundError):
        os.unlink(temp, dir_fd=folder)
    return temp


def open_temp(folder: int, place: str, mode: int) -> tuple[str, int]:
    """A new file that becomes ``place``: its name and descriptor. What a crash left of an earlier one is removed."""
    temp = discard_temp(folder, place)
    return temp, os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)


def unprove_if_changed(folder: int, name: str, image: Stamp) -> bool:
    """Whether the image ``name`` has changed, even with its mtime kept, since the state that its new sidecar is about.

    Then the two stats prove nothing from now on. Where it is gone, it has not changed.
    """
    try:
        if stamp(folder, name) == image:
            return False
    except NotAFile:
        return False
    with suppress(FileNotFoundError):
        os.utime(name_for(name), ns=(0, 0), dir_fd=folder, follow_symlinks=False)
    return True


def confirm(folder: int, name: str, record: Record) -> None:
    """Renew the proof by two stats after the image's content was found to be the same. Raises OSError."""
    os.utime(name_for(name), ns=(record.mtime_ns, record.mtime_ns), dir_fd=folder, follow_symlinks=False)


def remove(folder: int, name: str) -> None:
    """Remove the sidecar of the image ``name``, where there is a whole one. Raises Foreign, OSError."""
    if read(folder, name):
        os.unlink(name_for(name), dir_fd=folder)
