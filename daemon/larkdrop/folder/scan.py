"""The folder is the queue: a walk finds every picture without a matching sidecar, so that a lost event costs nothing.

When it is walked through is decided in ``pipeline/rescan.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from larkdrop.config.settings import Watch
from larkdrop.folder import sidecar
from larkdrop.folder.drop import Drop, ignored, wanted
from larkdrop.records.durable import open_folder


@dataclass(eq=False)
class Scan:
    """Gives every file of a watched folder that two stats don't prove to be done. To be iterated once.

    Costs two stats a picture and no memory.
    """

    watch: Watch
    unreadable: Callable[[str, OSError], None]  # told of folders that can't be listed
    below: str = ""  # walk only this sub-folder, of which an event told: what is in it counts as dropped, not as found
    sweep_before: float = 0.0  # Unix seconds; temp files that a crash left before are removed
    changed: bool = True  # false passes over files that changed after they got their sidecar, for half the stats
    stopped: Callable[[], bool] = lambda: False  # asked before each file: whether to end the walk
    seen: int = field(default=0, init=False)  # files and folders that were passed so far

    def __iter__(self) -> Iterator[Drop]:
        folders = [self.below or str(self.watch.path)]
        while folders:
            path = folders.pop()
            try:
                # By the open folder, names are found faster than by whole paths.
                with open_folder(path, os.O_NOFOLLOW) as folder, os.scandir(folder) as entries:
                    for entry in entries:
                        if self.stopped():
                            return
                        self.seen += 1
                        name = entry.name
                        if entry.is_dir(follow_symlinks=False):
                            if self.watch.recursive and not ignored(self.watch, name):
                                folders.append(f"{path}/{name}")
                        elif sidecar.is_ours(name):
                            self._sweep(entry, folder)
                        elif (
                            entry.is_file(follow_symlinks=False)
                            and wanted(self.watch, name)
                            and not self._is_done(entry, folder)
                        ):
                            yield Drop(f"{path}/{name}", self.watch, by_scan=not self.below)
            except OSError as error:
                self.unreadable(path, error)

    def _sweep(self, entry: os.DirEntry[str], folder: int) -> None:
        """Remove a temp file that was left by a crash."""
        if self.sweep_before and sidecar.is_temp(entry.name):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_ctime < self.sweep_before:
                    os.unlink(entry.name, dir_fd=folder)

    def _is_done(self, entry: os.DirEntry[str], folder: int) -> bool:
        if self.watch.after_upload != "keep":
            return False  # it is still to be moved or deleted
        try:
            written = os.stat(sidecar.name_for(entry.name), dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        if not self.changed:
            return True
        try:
            image = entry.stat(follow_symlinks=False)
        except OSError:
            return True  # gone meanwhile: nothing to do
        return sidecar.proves(image.st_mtime_ns, image.st_ctime_ns, written)
