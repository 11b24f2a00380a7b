"""A lost event costs nothing: folders are walked through again, and what has no matching sidecar is work.

That is done at the start, after the kernel dropped events, when the queue had no room, when a folder is back, and every
few minutes. How a folder is walked through is ``folder/scan.py``'s.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import structlog

from larkdrop.config.settings import Watch
from larkdrop.folder.scan import Scan
from larkdrop.pipeline.queue import DropQueue

# The threads that walk through folders.
RESCAN, FOLDERS = "rescan", "new folders"


class Rescan:
    """Walks through folders when asked to, and through each when its time has come."""

    def __init__(self, watches: tuple[Watch, ...], queue: DropQueue, seconds: float) -> None:
        """``seconds`` lie between two walks through a folder that reports changes."""
        self._queue = queue
        self._seconds = seconds
        self._log = structlog.get_logger()
        self._changed = threading.Condition()
        # By the thread that will take them: watched folders, and new sub-folders, for which a walk is asked.
        self._wanted: dict[str, dict[tuple[Watch, str], None]] = {RESCAN: {}, FOLDERS: {}}
        self._seen = 0  # files and folders, in all walks that are over
        self._walks: dict[str, Scan | None] = {RESCAN: None, FOLDERS: None}  # under way
        self._stopped = False
        self._period = dict.fromkeys(watches, seconds)
        self.next_due = {watch: time.monotonic() + seconds for watch in watches}  # monotonic seconds
        self.unreadable: set[str] = set()  # folders that could not be listed when last looked at; replaced as a whole

    @property
    def idle(self) -> bool:
        """Whether every walk that was asked for is finished."""
        with self._changed:
            return not (any(self._wanted.values()) or any(self._walks.values()))

    def request(self, watch: Watch, below: str = "") -> None:
        """Look through a watched folder, or its sub-folder ``below``, as soon as possible."""
        with self._changed:
            self._wanted[FOLDERS if below else RESCAN][watch, below] = None
            self._changed.notify_all()

    def request_all(self) -> None:
        """Look through everything as soon as possible."""
        for watch in self.next_due:
            self.request(watch)

    def poll(self, watch: Watch, *, polled: bool) -> None:
        """Walk through a folder every ``poll_seconds``, since not all changes in it are reported; or no longer."""
        with self._changed:
            self._period[watch] = min(watch.poll_seconds, self._seconds) if polled else self._seconds
            self.next_due[watch] = time.monotonic() + self._period[watch]
            self._changed.notify_all()

    def tick(self) -> None:
        """Look again for what had no room, once there is room."""
        if self._queue.take_overflow():
            self.request_all()

    def activity(self) -> dict[str, tuple[bool, int]]:
        """For each thread: whether it walks through a folder (and doesn't wait for room), and how far it is."""
        waits = self._queue.scan_waits
        return {
            thread: (not (waits and thread == RESCAN), self._seen + scan.seen) if scan else (False, 0)
            for thread, scan in self._walks.items()
        }

    def stop(self) -> None:
        """End ``run`` and ``run_folders``."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self) -> None:
        """Walk through watched folders when asked to, and through each when its time has come, until stopped."""
        unswept = dict.fromkeys(self.next_due, time.time())
        while wanted := self._next(RESCAN):
            watch, _ = wanted
            self._walk(watch, sweep_before=unswept.pop(watch, 0.0))

    def run_folders(self) -> None:
        """Walk through new sub-folders, until stopped: in a thread of its own, since a rescan waits for room."""
        while wanted := self._next(FOLDERS):
            self._walk(*wanted)

    def _next(self, thread: str) -> tuple[Watch, str] | None:
        """The next walk for a thread to take; None once stopped."""
        wanted = self._wanted[thread]
        with self._changed:
            while not self._stopped:
                pause = self._until_due() if thread == RESCAN else None
                if wanted:
                    return next(iter(wanted))
                self._changed.wait(pause)
        return None

    def _until_due(self) -> float:
        """Ask for a rescan of each folder whose time has come. Returns the seconds until the next one's."""
        now = time.monotonic()
        for watch, due in self.next_due.items():
            if due <= now:
                self._wanted[RESCAN][watch, ""] = None
                self.next_due[watch] = now + self._period[watch]
        return min(self.next_due.values()) - now

    def _walk(self, watch: Watch, below: str = "", *, sweep_before: float = 0.0) -> None:
        began, found, root = time.monotonic(), 0, below or str(watch.path)
        unreadable: set[str] = set()

        def cannot_list(folder: str, error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                unreadable.add(folder)
                say = self._log.debug if folder in self.unreadable else self._log.error
                hint = "Let larkdrop's user list it; every rescan looks again."
                say("cannot_list", path=folder, reason=error.strerror, hint=hint)

        scan = Scan(
            watch, below=below, sweep_before=sweep_before, unreadable=cannot_list, stopped=lambda: self._stopped
        )
        thread = FOLDERS if below else RESCAN
        with self._changed:
            del self._wanted[thread][watch, below]
            self._walks[thread] = scan
        for drop in scan:
            found += 1
            if below:
                self._queue.put(drop)
            elif not self._queue.put_backlog(drop):
                return
        self._log.debug("looked", path=root, found=found, seconds=round(time.monotonic() - began, 3))
        with self._changed:
            self.unreadable = unreadable | {one for one in self.unreadable if not Path(one).is_relative_to(root)}
            self._seen += 1 + scan.seen
            self._walks[thread] = None
