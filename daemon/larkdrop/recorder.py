"""An outcome is recorded in this order: key cache, result log, sidecar; then the image is moved or deleted.

A step that fails is said once and tried again later, without repeating those that succeeded.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from larkdrop.config import Watch
from larkdrop.folder import after, sidecar
from larkdrop.folder.picture import Changed, Stamp
from larkdrop.keycache import Content, KeyCache, Known
from larkdrop.record import Record
from larkdrop.results import ResultLog

# Files remembered that are done without a sidecar, since its place is taken.
MOST_BARE = 10_000

MEND = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "raise the disk quota",
    errno.EROFS: "mount the file system writable",
    errno.EACCES: "let larkdrop's user write there",
    errno.EPERM: "let larkdrop's user write there",
}


@dataclass(eq=False)
class Entry:
    """One outcome on its way into the records. ``stamp`` is the state of the file that it speaks of."""

    path: str
    watch: Watch
    stamp: Stamp
    record: Record
    content: Content | None = None  # what a new key belongs to, until the key cache has it
    logged: bool = False
    beside: bool = False  # the sidecar is written, or its place is taken


class Recorder:
    """Writes outcomes down. Thread-safe."""

    def __init__(self, cache: KeyCache, results: ResultLog) -> None:
        self._cache = cache
        self._results = results
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._troubles: dict[str, int] = {}
        self._bare: OrderedDict[str, Stamp] = OrderedDict()
        self.rejected = 0  # outcomes since the start

    @property
    def keeps_keys(self) -> bool:
        """Whether the last key could be kept: while not, no further one should be asked for."""
        return "key cache" not in self._troubles

    def is_bare(self, path: str, stamp: Stamp) -> bool:
        """Whether a file in this state is done, although its sidecar's place is taken."""
        return self._bare.get(path) == stamp

    def write(self, entry: Entry, folder: int, name: str) -> bool:
        """Record an outcome of the image ``name`` in the open ``folder``. False where it has to be called again."""
        kept = self.keep(entry)
        where = os.path.dirname(entry.path)
        if not entry.beside:
            entry.beside = self._step("sidecar", where, lambda: self._write_sidecar(entry, folder, name))
        if not (kept and entry.beside):
            return False
        return self._step("picture", where, lambda: self.clear(entry, folder, name))

    def keep(self, entry: Entry) -> bool:
        """The part of ``write`` that needs no folder: key cache and result log."""
        if content := entry.content:
            known = Known(entry.record.image_key, entry.record.log_id, entry.record.at)
            if self._step("key cache", str(self._cache.path), lambda: self._cache.put(content, known)):
                entry.content = None
        if not entry.logged:
            entry.logged = self._step(
                "result log", str(self._results.path), lambda: self._results.append(entry.path, entry.record)
            )
            if entry.logged and entry.record.status == "rejected":
                with self._lock:
                    self.rejected += 1
        return entry.content is None and entry.logged

    def clear(self, entry: Entry, folder: int, name: str) -> None:
        """Move or delete a recorded image, where the set-up says so. Raises OSError."""
        watch, record = entry.watch, entry.record
        if watch.after_upload == "keep" or record.status != "uploaded":
            return
        try:
            if watch.after_upload == "delete":
                after.delete(folder, name, entry.stamp)
                self._log.info("deleted", path=entry.path)
            elif watch.move_to:
                target = watch.move_to / os.path.relpath(os.path.dirname(entry.path), watch.path)
                moved = after.move(folder, name, entry.stamp, target, record)
                self._log.info("moved", path=entry.path, to=str(moved))
        except Changed:
            self._log.debug("changed_after_upload", path=entry.path)

    def _write_sidecar(self, entry: Entry, folder: int, name: str) -> None:
        try:
            sidecar.write(folder, name, entry.record)
        except FileNotFoundError:
            self._log.debug("gone", path=entry.path)  # with its whole folder
        except sidecar.Foreign as taken:
            with self._lock:
                self._bare[entry.path] = entry.stamp
                if len(self._bare) > MOST_BARE:
                    self._bare.popitem(last=False)
            self._log.warning(
                "sidecar_name_taken",
                path=entry.path,
                sidecar=str(taken),
                hint="larkdrop did not write this file and leaves it alone; the key is in the result log.",
            )

    def _step(self, what: str, place: str, action: Callable[[], None]) -> bool:
        """Do one step; a trouble is said when it begins and when it ends, and counted in between."""
        trouble = what if what == "key cache" else f"{what} {place}"
        try:
            action()
        except (OSError, sqlite3.Error) as error:
            with self._lock:
                self._troubles[trouble] = self._troubles.get(trouble, 0) + 1
                first = self._troubles[trouble] == 1
            if first:
                self._log.error("recording_failed", what=what, place=place, reason=_reason(error), hint=_hint(error))
            return False
        if trouble in self._troubles:
            with self._lock:
                count = self._troubles.pop(trouble, 0)
            self._log.warning("recording_works_again", what=what, place=place, failures=count)
        return True


def _reason(error: OSError | sqlite3.Error) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _hint(error: OSError | sqlite3.Error) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        number = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EACCES}.get(name)
    return f"{MEND.get(number or 0, 'look at the disk').capitalize()}; it is tried again by itself."
