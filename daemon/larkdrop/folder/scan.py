"""The folder is the queue: a walk finds every picture without a matching sidecar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from larkdrop.config import Watch
from larkdrop.folder import sidecar
from larkdrop.folder.drop import Drop, ignored, wanted


def scan(
    watch: Watch, *, below: str = "", left_before: float = 0.0, unreadable: Callable[[str, OSError], None]
) -> Iterator[Drop]:
    """Every file of a watched folder (or of its sub-folder ``below``) that two stats don't prove settled.

    Costs two stats a picture and no memory. Sidecars being written when a crash came are removed, where they are
    older than ``left_before`` (Unix seconds).
    ``unreadable`` is told of folders that can't be listed.
    """
    stack = [below or str(watch.path)]
    while stack:
        folder = stack.pop()
        try:
            entries = os.scandir(folder)
        except OSError as error:
            unreadable(folder, error)
            continue
        with entries:
            for entry in entries:
                name = entry.name
                if sidecar.is_ours(name):
                    if left_before and sidecar.is_temp(name):
                        with suppress(OSError):
                            if entry.stat(follow_symlinks=False).st_ctime < left_before:
                                os.unlink(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    if watch.recursive and not ignored(watch, name):
                        stack.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and wanted(watch, name) and not _settled(watch, entry):
                    yield Drop(entry.path, watch)


def _settled(watch: Watch, entry: os.DirEntry[str]) -> bool:
    if watch.after_upload != "keep":
        return False  # it is still to be moved or deleted
    try:
        image = entry.stat(follow_symlinks=False)
    except OSError:
        return True  # gone meanwhile: nothing to do
    try:
        beside = os.stat(entry.path[: -len(entry.name)] + sidecar.name_for(entry.name), follow_symlinks=False)
    except OSError:
        return False
    return sidecar.proves(image, beside)
