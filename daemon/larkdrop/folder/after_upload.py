"""What becomes of an image once its key is safely recorded: kept, moved or deleted.

To move it, ``place_for`` chooses a name, ``arrive`` gives image and sidecar that second place, and ``leave`` removes
the first. After a crash in between, what arrived is known by its sidecar, and the move goes on. Where it is deleted,
its sidecar stays. For which images this is done, and when, the pipeline's recorder decides.
"""

from __future__ import annotations

import errno
import os
import shutil
from bisect import bisect_left
from collections.abc import Container
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from larkdrop.folder import sidecar
from larkdrop.folder.picture import Changed, NotAFile, Stamp, stamp
from larkdrop.records.durable import make_folder, open_folder
from larkdrop.records.sidecar_fields import Record


def place_for(target: Path, name: str, record: Record, taken: Container[str]) -> Path:
    """Where in the folder ``target`` the image ``name`` is to go: under its name, or ``photo.1.jpg`` where it is taken.

    ``taken`` are paths that others will have. Where a crash left the same image under the last number that is
    taken, that is its place.
    """
    number = 0
    with suppress(FileNotFoundError), open_folder(target) as there:
        number = _free_number(there, name)
        last = target / _numbered(name, number - 1) if number else None
        if last and str(last) not in taken and _same_content(there, last.name, record):
            return last
    return next(place for n in count(number) if str(place := target / _numbered(name, n)) not in taken)


def arrive(folder: int, name: str, read_as: Stamp, place: Path, record: Record) -> Path:
    """Give the image ``name`` and its sidecar their ``place``, durably; where that is taken by now, the next free one.

    Returns the place; ``leave`` ends the move. Raises Changed where the image is no longer what was uploaded, OSError
    where it can't be moved.
    """
    make_folder(place.parent)
    taken: set[str] = set()
    try:
        with open_folder(place.parent) as there:
            _check_unchanged(folder, name, read_as)
            while not _put(folder, name, read_as, there, place.name, record):
                taken.add(str(place))
                place = place_for(place.parent, name, record, taken)
            os.fsync(there)
    except OSError as error:  # which names a file within the open folder
        raise OSError(error.errno, error.strerror, str(place.parent)) from error
    return place


def leave(folder: int, name: str, read_as: Stamp) -> None:
    """Remove the image ``name`` and its sidecar, which have arrived elsewhere. Raises Changed, OSError."""
    _check_unchanged(folder, name, read_as)
    with suppress(sidecar.Foreign):
        sidecar.remove(folder, name)  # before the image: without it nobody would come back for the sidecar
    delete(folder, name, read_as)


def delete(folder: int, name: str, read_as: Stamp) -> None:
    """Remove the image ``name``; its sidecar stays. Raises Changed where it is no longer what was uploaded."""
    _check_unchanged(folder, name, read_as)
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)


def _check_unchanged(folder: int, name: str, read_as: Stamp) -> None:
    """Raises Changed where the image is not what was read."""
    try:
        now = stamp(folder, name)
    except NotAFile as error:
        raise Changed(name) from error
    if not _same_file(now, read_as):
        raise Changed(name)


def _same_file(now: Stamp, read_as: Stamp) -> bool:
    """Whether it is what was read. Its ctime may differ: a link or a chmod changes it."""
    return (now.inode, now.size, now.mtime_ns) == (read_as.inode, read_as.size, read_as.mtime_ns)


def _numbered(name: str, number: int) -> str:
    """``photo.jpg``, ``photo.1.jpg``, ``photo.2.jpg`` …, each at most 255 bytes."""
    if number == 0:
        return name
    stem, ending = os.path.splitext(name)
    tail = f".{number}{ending}"
    return sidecar.cut(stem, sidecar.NAME_MAX - len(os.fsencode(tail))) + tail


def _free_number(there: int, name: str) -> int:
    """A number whose name is free while that of the number before is not, found in a few steps among many."""

    def is_free(number: int) -> bool:
        return not _exists(there, _numbered(name, number))

    if is_free(0):
        return 0
    high = 1
    while not is_free(high):
        high *= 2
    return bisect_left(range(high), x=True, lo=high // 2 + 1, key=is_free)


def _exists(folder: int, name: str) -> bool:
    """Whether the name is taken in the open folder, by whatever it is."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _same_content(there: int, name: str, record: Record) -> bool:
    """Whether ``name`` is the image of this record, with its sidecar."""
    try:
        written = sidecar.read(there, name)
        now, beside = stamp(there, name), stamp(there, sidecar.name_for(name))
    except (sidecar.Foreign, NotAFile):
        return False
    # Both keep the mtime, as exactly as the file system there can; what was changed since is another image. And a key
    # is for one app and one type of image.
    return (
        written is not None
        and (written.sha256, written.image_key) == (record.sha256, record.image_key)
        and (now.size, now.mtime_ns) == (written.size, beside.mtime_ns)
    )


def _put(folder: int, name: str, read_as: Stamp, there: int, free: str, record: Record) -> bool:
    """Give the image and its sidecar the name ``free`` in ``there``; False where something else has it."""
    if _exists(there, free):
        arrived = _same_content(there, free, record)
        if arrived:
            with suppress(OSError):  # there is one where a kill came just after the image got its name
                sidecar.discard_temp(there, free)
        return arrived
    try:
        # First the sidecar: an image that arrives without one could not be told from somebody else's.
        sidecar.write(there, free, replace(record, file=free))
        try:
            _link_or_copy(folder, name, read_as, there, free)
        except FileExistsError:
            sidecar.remove(there, free)
            return False
        except Changed:
            sidecar.remove(there, free)
            raise
    except sidecar.Foreign:
        return False
    return True


def _link_or_copy(folder: int, name: str, read_as: Stamp, there: int, free: str) -> None:
    """Give the image a second name in ``there``, never onto an existing file; by a copy across file systems.

    Raises Changed where another image has taken its first name just now.
    """
    try:
        os.link(name, free, src_dir_fd=folder, dst_dir_fd=there, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EXDEV, *sidecar.NO_HARD_LINKS}:
            raise
        _copy(folder, name, read_as, there, free)
        return
    if not _same_file(stamp(there, free), read_as):
        os.unlink(free, dir_fd=there)
        raise Changed(name)


def _copy(folder: int, name: str, read_as: Stamp, there: int, free: str) -> None:
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
            if not _same_file(Stamp.of(status), read_as):
                raise Changed(name)
        try:
            os.link(temp, free, src_dir_fd=there, dst_dir_fd=there, follow_symlinks=False)
        except OSError as error:
            if error.errno not in sidecar.NO_HARD_LINKS:
                raise
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=there))
            os.rename(temp, free, src_dir_fd=there, dst_dir_fd=there)
    finally:
        sidecar.discard_temp(there, free)
