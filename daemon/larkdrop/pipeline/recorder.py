"""An outcome is recorded in this order: key cache, result log, sidecar; then the image is moved or deleted.

What came together is recorded together: one commit, one write to the log, one fsync of a folder. Each watched folder
has a thread that writes beside its images, so that no sidecar waits for another folder's disk. A step that fails is
said once and tried again later, without repeating those that succeeded.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import structlog

from larkdrop.config.settings import Watch
from larkdrop.folder import after_upload as after
from larkdrop.folder import picture, sidecar
from larkdrop.folder.picture import Changed, NotAFile, Stamp
from larkdrop.progress import aside, step, waiting
from larkdrop.records.durable import writable
from larkdrop.records.key_cache import Content, KeyCache, Outcome
from larkdrop.records.record import Record
from larkdrop.records.result_log import ResultLog

# Outcomes of a folder whose sidecars wait to be written; their keys are safe meanwhile.
MOST_WAITING = 10_000
# Sidecars written together: each is an open file until they have their names.
MOST_TOGETHER = 128
# Files remembered that are done without a sidecar, since its place is taken.
MOST_BARE = 10_000

CURES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "raise the disk quota",
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
    content: Content | None = None  # what a new key belongs to
    kept: bool = False  # in the key cache
    logged: bool = False
    beside: bool = False  # the sidecar is written, or has no place
    cleared: bool = False  # the image is where the set-up wants it
    place: str = ""  # where the image is moved to, once that is known

    @property
    def finished(self) -> bool:
        """Whether every step succeeded."""
        return self.kept and self.logged and self.beside and self.cleared


@dataclass(eq=False)
class _Order:
    """An entry to be recorded, and who is told that its key is safe, and whether it is finished."""

    entry: Entry
    kept: Callable[[], None]
    then: Callable[[bool], None]


@dataclass(eq=False)
class _Lane:
    """What waits to be recorded in one watched folder."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    orders: list[_Order] = field(default_factory=list)


class Recorder:
    """Writes outcomes down. Thread-safe; ``run`` is meant for one thread a watched folder."""

    def __init__(self, watches: Sequence[Watch], cache: KeyCache, results: ResultLog) -> None:
        self._cache = cache
        self._results = results
        self._log = structlog.get_logger()
        self._lanes = {watch: _Lane() for watch in watches}
        self._stopped = False
        self._keeping = threading.Lock()
        self._unkept: list[_Order] = []
        self._lock = threading.Lock()
        self._troubles: dict[str, tuple[int, str]] = {}  # how often, and what a person reads
        self._places: set[str] = set()  # to which images are on their way
        self._bare: OrderedDict[str, Stamp] = OrderedDict()
        self.outcomes: Counter[str] = Counter()  # since the start, by the result log's name for them

    @property
    def troubles(self) -> tuple[str, ...]:
        """What can't be written now."""
        with self._lock:
            return tuple(shown for _, shown in self._troubles.values())

    @property
    def keeps_keys(self) -> bool:
        """Whether the last key could be kept, and there is a file to keep the next: while not, ask for none."""
        return "key cache" not in self._troubles and self._cache.in_place

    def is_bare(self, path: str, stamp: Stamp) -> bool:
        """Whether a file in this state is done, although its sidecar's place is taken."""
        return self._bare.get(path) == stamp

    def record(self, entry: Entry, *, kept: Callable[[], None], then: Callable[[bool], None]) -> None:
        """Have an outcome recorded. ``then`` is told whether that is finished, or has to be asked for again.

        ``kept`` is told before, as soon as a crash can't lose the key any more.
        """
        order, lane = _Order(entry, kept, then), self._lanes[entry.watch]
        with self._lock:
            self._unkept.append(order)
        with waiting if len(lane.orders) >= MOST_WAITING else nullcontext(), lane.changed:
            lane.changed.wait_for(lambda: len(lane.orders) < MOST_WAITING)
            lane.orders.append(order)
            lane.changed.notify_all()

    def keep_all(self) -> None:
        """Put what waits for it into the key cache."""
        with aside, self._keeping:
            with self._lock:
                orders, self._unkept = self._unkept, []
            self._each_or_all(orders, self._keep)
            for order in orders:
                if order.entry.kept:
                    order.kept()

    def stop(self) -> None:
        """End ``run`` once nothing waits; for when nobody records any more."""
        self._stopped = True
        for lane in self._lanes.values():
            with lane.changed:
                lane.changed.notify_all()

    def run(self, watch: Watch) -> None:
        """Record what comes for a watched folder, until stopped."""
        lane = self._lanes[watch]
        while True:
            with waiting, lane.changed:
                lane.changed.wait_for(lambda: lane.orders or self._stopped)
                taken, lane.orders = lane.orders, []
                lane.changed.notify_all()
            if not taken:
                return
            entries = [order.entry for order in taken]
            news = [entry for entry in entries if not entry.logged]
            self.keep_all()
            with aside:
                self._each_or_all(taken, self._append)
            for where, together in groupby(taken, lambda order: os.path.dirname(order.entry.path)):
                while some := list(islice(together, MOST_TOGETHER)):
                    self._each_or_all(some, partial(self._stand_beside, where))
                    step()
            with self._lock:
                self.outcomes.update(entry.record.event for entry in news if entry.logged)
                self._places -= {entry.place for entry in entries if entry.finished}
            for order in taken:
                order.then(order.entry.finished)

    def _each_or_all(self, orders: list[_Order], action: Callable[[list[Entry]], None]) -> None:
        """Do something for all at once; where that goes wrong as nobody expected, for each of them."""
        try:
            action([order.entry for order in orders])
        except Exception as error:  # noqa: BLE001 - a bug may cost a picture a pause, but not the folder its thread
            if len(orders) > 1:
                for order in orders:
                    self._each_or_all([order], action)
            elif orders:
                self._log.error(
                    "unexpected", path=orders[0].entry.path, reason=repr(error),
                    hint="This is a bug of larkdrop; please report it. The file is tried again.",
                )  # fmt: skip

    def _keep(self, entries: list[Entry]) -> None:
        outcomes = [Outcome(one.path, str(one.watch.path), one.record, one.content) for one in entries if not one.kept]
        if outcomes and self._step("key cache", str(self._cache.path), lambda: self._cache.put(outcomes)):
            for one in entries:
                one.kept = True

    def _append(self, entries: list[Entry]) -> None:
        news = [one for one in entries if not one.logged]

        def add() -> None:
            for one in news:
                with suppress(OSError):  # which is said when the image is to be moved
                    self._choose_place(one)
            for one in news[: self._results.append([(one.path, one.place, one.record) for one in news])]:
                one.logged = True

        while news and self._step("result log", str(self._results.path), add):
            news = [one for one in news if not one.logged]

    def _choose_place(self, entry: Entry) -> None:
        """Settle where an image will be moved to, so that the result log can tell. Raises OSError."""
        watch = entry.watch
        if entry.place or not watch.move_to or entry.record.status != "uploaded":
            return
        sub_folder = os.path.relpath(os.path.dirname(entry.path), watch.path)
        target = Path(os.path.realpath(watch.move_to / sub_folder))
        with self._lock:
            entry.place = str(after.place_for(target, os.path.basename(entry.path), entry.record, self._places))
            self._places.add(entry.place)

    def _stand_beside(self, where: str, entries: list[Entry]) -> None:
        """The sidecars of one folder, and what becomes of the images then."""

        def write() -> None:
            try:
                with picture.parent_of(str(entries[0].watch.path), entries[0].path) as (folder, _):
                    self._write_sidecars(folder, [entry for entry in entries if not entry.beside])
                    for entry in entries:
                        if entry.kept and entry.logged and entry.beside and not entry.cleared:
                            entry.cleared = self._step("picture", where, partial(self._clear, entry, folder))
            except (NotAFile, FileNotFoundError):
                self._log.debug("gone", path=where)
                for entry in entries:
                    entry.beside = entry.cleared = True

        self._step("sidecar", where, write)

    def _write_sidecars(self, folder: int, entries: list[Entry]) -> None:
        """Raises OSError where at least one could not be written."""
        named = {os.path.basename(entry.path): entry for entry in entries}
        failed = sidecar.write_all(folder, {name: entry.record for name, entry in named.items()})
        for name, entry in named.items():
            error = failed.get(name)
            entry.beside = error is None or isinstance(error, sidecar.Foreign)
            if isinstance(error, sidecar.Foreign):
                self._leave_bare(entry, error)
        for error in failed.values():
            if isinstance(error, OSError):
                raise error

    def _clear(self, entry: Entry, folder: int) -> None:
        """Move or delete a recorded image, where the set-up says so. Raises OSError."""
        watch, record, name = entry.watch, entry.record, os.path.basename(entry.path)
        if watch.after_upload == "keep" or record.status != "uploaded":
            return
        try:
            if watch.after_upload == "delete":
                after.delete(folder, name, entry.stamp)
                self._log.info("deleted", path=entry.path)
                with suppress(sqlite3.Error):  # it only tells `larkdrop keys` where to look
                    self._cache.moved(entry.path, record.sha256, "")
            elif watch.move_to:
                self._choose_place(entry)
                place = str(after.arrive(folder, name, entry.stamp, Path(entry.place), record))
                # While the image is here, a crash repeats all of this.
                self._cache.moved(entry.path, record.sha256, place)
                after.leave(folder, name, entry.stamp)
                self._log.info("moved", path=entry.path, to=place)
        except Changed:
            self._log.debug("changed_after_upload", path=entry.path)

    def _leave_bare(self, entry: Entry, taken: sidecar.Foreign) -> None:
        with self._lock:
            self._bare[entry.path] = entry.stamp
            if len(self._bare) > MOST_BARE:
                self._bare.popitem(last=False)
        self._log.warning(
            "sidecar_name_taken",
            path=entry.path,
            sidecar=str(taken),
            hint="larkdrop did not write this file and does not touch it; the key is in the result log.",
        )

    def _step(self, what: str, place: str, action: Callable[[], None]) -> bool:
        """Do one step; a trouble is said when it begins and when it ends, and counted in between."""
        trouble = what if what == "key cache" else f"{what} {place}"
        try:
            action()
        except (OSError, sqlite3.Error) as error:
            at = _failed_at(error) or place
            with self._lock:
                count = self._troubles.get(trouble, (0, ""))[0] + 1
                self._troubles[trouble] = count, what if what == "key cache" else f"{what} {at}"
            if count == 1:
                self._log.error("recording_failed", what=what, place=at, reason=_reason(error), hint=_hint(error, at))
            return False
        if trouble in self._troubles:
            with self._lock:
                count, _ = self._troubles.pop(trouble, (0, ""))
            self._log.warning("recording_works_again", what=what, place=place, failures=count)
        return True


def _reason(error: OSError | sqlite3.Error) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _failed_at(error: OSError | sqlite3.Error) -> str:
    """The folder or file that the error names, which may be another than the one at hand: move_to."""
    name = error.filename if isinstance(error, OSError) else ""
    return name if isinstance(name, str) and os.path.isabs(name) else ""


def _hint(error: OSError | sqlite3.Error, place: str) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        number = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EACCES}.get(name)
    cure = writable(place) if number == errno.EROFS else CURES.get(number or 0, "check the disk").capitalize()
    return f"{cure}; it is tried again by itself."
