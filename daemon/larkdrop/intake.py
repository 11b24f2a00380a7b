"""What events and rescans find goes to the queue, by way of settling where a file may still be written to."""

from __future__ import annotations

import threading
import time

import structlog

from larkdrop.config import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.scan import scan
from larkdrop.folder.settle import Settle
from larkdrop.queue import MOST, DropQueue


class Intake:
    """Told by the watcher what happens, and looks for itself at start-up, after a loss and every few minutes."""

    def __init__(
        self,
        watches: tuple[Watch, ...],
        queue: DropQueue,
        settle: Settle,
        *,
        settle_seconds: float,
        rescan_seconds: float,
    ) -> None:
        self._watches = watches
        self._queue = queue
        self._settle = settle
        self._settle_seconds = settle_seconds
        self._rescan_seconds = rescan_seconds
        self._log = structlog.get_logger()
        self._changed = threading.Condition()
        self._wanted: dict[tuple[Watch, str], None] = {}
        self._looking = False
        self._stopped = False
        self._unreadable: set[str] = set()

    @property
    def idle(self) -> bool:
        """Whether every look that was asked for is finished."""
        with self._changed:
            return not self._wanted and not self._looking

    def finished(self, drop: Drop) -> None:
        """A file was closed by its writer, or renamed in."""
        self._settle.forget(drop.path)
        self._queue.put(drop)

    def begun(self, drop: Drop) -> None:
        """A file appeared, and nobody closed it yet."""
        if not self._settle.park(drop, self._settle_seconds):
            self._queue.overflowed = True

    def look(self, watch: Watch, below: str = "") -> None:
        """Look through a watched folder, or its sub-folder ``below``, as soon as possible."""
        with self._changed:
            self._wanted[watch, below] = None
            self._changed.notify()

    def rescan(self) -> None:
        """Look through everything as soon as possible."""
        for watch in self._watches:
            self.look(watch)

    def lost(self) -> None:
        """The kernel dropped events: whatever they told of is found by looking."""
        self._log.warning("events_lost", reason="the kernel's inotify queue was full", doing="rescan")
        self.rescan()

    def short_of_watches(self, path: str) -> None:
        """A folder can't be watched."""
        self._log.error("watch_limit", path=path, hint="Raise the sysctl fs.inotify.max_user_watches.")

    def root_gone(self, watch: Watch) -> None:
        """A watched folder is not there any more."""
        self._log.warning("folder_gone", path=str(watch.path), hint="It is watched again as soon as it is back.")

    def root_back(self, watch: Watch) -> None:
        """A watched folder is there again."""
        self._log.info("folder_back", path=str(watch.path))
        self.look(watch)

    def tick(self) -> None:
        """Look again for what had no room, once there is room."""
        counts = self._queue.counts()
        if self._queue.overflowed and max(counts.fresh, counts.backoff) < MOST // 2:
            self._queue.overflowed = False
            self.rescan()

    def stop(self) -> None:
        """End ``run``."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Look when asked to, and at least every ``rescan_seconds``, until stopped."""
        sweep = True  # nothing of ours is being written before the first look ends
        due = time.monotonic() + self._rescan_seconds
        while True:
            with self._changed:
                while not self._wanted and not self._stopped and time.monotonic() < due:
                    self._changed.wait(due - time.monotonic())
                if self._stopped:
                    return
                if not self._wanted:
                    due = time.monotonic() + self._rescan_seconds
                    self._wanted = {(watch, ""): None for watch in self._watches}
                (watch, below) = next(iter(self._wanted))
                del self._wanted[watch, below]
                self._looking = True
            self._look(watch, below, sweep=sweep and not below)
            with self._changed:
                self._looking = False
                sweep = sweep and bool(self._wanted)

    def _look(self, watch: Watch, below: str, *, sweep: bool) -> None:
        began, found = time.monotonic(), 0
        for drop in scan(watch, below=below, sweep=sweep, unreadable=self._cannot_list):
            found += 1
            if below:
                self._queue.put(drop)
            elif not self._queue.put_backlog(drop):
                return
        seconds = round(time.monotonic() - began, 3)
        self._log.debug("looked", path=below or str(watch.path), found=found, seconds=seconds)

    def _cannot_list(self, folder: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError) or folder in self._unreadable:
            return
        self._unreadable.add(folder)
        hint = "Let larkdrop's user list it; every rescan looks again."
        self._log.warning("cannot_list", path=folder, reason=error.strerror, hint=hint)
