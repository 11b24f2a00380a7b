"""The folder is the queue: a walk finds every picture without a matching sidecar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from larkdrop.config.settings import Watch
from larkdrop.folder import sidecar
from larkdrop.folder.drop import Drop, ignored, wanted
from larkdrop.progress import step


def scan(
    watch: Watch,
    *,
    below: str = "",
    left_before: float = 0.0,
    changed: bool = True,
    unreadable: Callable[[str, OSError], None],
) -> Iterator[Drop]:
    """Every file of a watched folder (or of its sub-folder ``below``) that two stats don't prove settled.

    A sub-folder is looked through where an event told of it: what is in it counts as dropped, not as found by a scan.

    Costs two stats a picture and no memory. Sidecars being written when a crash came are removed, where they are
    older than ``left_before`` (Unix seconds).
    ``changed`` is false to pass over files that changed after they got their sidecar, for half the stats.
    ``unreadable`` is told of folders that can't be listed.
    """
    stack = [below or str(watch.path)]
    while stack:
        folder = stack.pop()
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            unreadable(folder, error)
            continue
        try:
            # By the open folder, names are found faster than by whole paths.
            with os.scandir(opened) as entries:
                for number, entry in enumerate(entries):
                    if not number & 1023:
                        step()
                    name = entry.name
                    if sidecar.is_ours(name):
                        if left_before and sidecar.is_temp(name):
                            with suppress(OSError):
                                if entry.stat(follow_symlinks=False).st_ctime < left_before:
                                    os.unlink(name, dir_fd=opened)
                    elif entry.is_dir(follow_symlinks=False):
                        if watch.recursive and not ignored(watch, name):
                            stack.append(f"{folder}/{name}")
                    elif (
                        entry.is_file(follow_symlinks=False)
                        and wanted(watch, name)
                        and not _settled(watch, entry, opened, changed=changed)
                    ):
                        yield Drop(f"{folder}/{name}", watch, by_scan=not below)
        except OSError as error:
            unreadable(folder, error)
        finally:
            os.close(opened)


def _settled(watch: Watch, entry: os.DirEntry[str], folder: int, *, changed: bool) -> bool:
    if watch.after_upload != "keep":
        return False  # it is still to be moved or deleted
    try:
        beside = os.stat(sidecar.name_for(entry.name), dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    if not changed:
        return True
    try:
        image = entry.stat(follow_symlinks=False)
    except OSError:
        return True  # gone meanwhile: nothing to do
    return sidecar.proves(image.st_mtime_ns, image.st_ctime_ns, beside)
