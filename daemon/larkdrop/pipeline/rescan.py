"""A lost event costs nothing: folders are walked through again, and what has no matching sidecar is work.

That is done at the start, after the kernel dropped events, when the queue had no room, when a folder is back, and every
few minutes. How a folder is walked through is ``folder/scan.py``'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from larkdrop.config.settings import Watch
from larkdrop.folder.scan import Scan
from larkdrop.pipeline.queue import DropQueue

T = TypeVar("T")
# The threads that walk through folders.
RESCAN, FOLDERS = "rescan", "new folders"


class Rescan:
    """Walks through folders when asked to, and through each when its time has come."""

    def __init__(self, watches: tuple[Watch, ...], queue: DropQueue, seconds: float) -> None:
        """``seconds`` lie between two walks through a folder that reports changes."""
        self._watches = watches
        self._queue = queue
        self._seconds = seconds
        self._log = structlog.get_logger()
        self._changed = threading.Condition()
        self._scans: dict[Watch, None] = {}  # asked for
        self._folders: dict[tuple[Watch, str], None] = {}  # new sub-folders, asked for
        self._walking = 0
        self._seen = 0  # files and folders, in all walks that are over
        self._walks: dict[str, Scan | None] = {RESCAN: None, FOLDERS: None}  # under way
        self._stopped = False
        self._unreadable: set[str] = set()
        self._period = dict.fromkeys(watches, seconds)
        self._due = {watch: time.monotonic() + seconds for watch in watches}

    @property
    def idle(self) -> bool:
        """Whether every walk that was asked for is finished."""
        with self._changed:
            return not (self._scans or self._folders or self._walking)

    @property
    def next_due(self) -> dict[Watch, float]:
        """When each folder is walked through next, in monotonic seconds."""
        return dict(self._due)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Folders that could not be listed when they were last looked at."""
        return tuple(self._unreadable)

    def request(self, watch: Watch, below: str = "") -> None:
        """Look through a watched folder, or its sub-folder ``below``, as soon as possible."""
        with self._changed:
            if below:
                self._folders[watch, below] = None
            else:
                self._scans[watch] = None
            self._changed.notify_all()

    def request_all(self) -> None:
        """Look through everything as soon as possible."""
        for watch in self._watches:
            self.request(watch)

    def poll(self, watch: Watch, *, polled: bool) -> None:
        """Walk through a folder every ``poll_seconds``, since not all changes in it are reported; or no longer."""
        with self._changed:
            self._period[watch] = min(watch.poll_seconds, self._seconds) if polled else self._seconds
            self._due[watch] = time.monotonic() + self._period[watch]
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
        began = time.time()
        swept: set[Watch] = set()
        while watch := self._next(self._scans, self._until_due):
            self._walk(watch, sweep_before=0.0 if watch in swept else began)
            swept.add(watch)

    def run_folders(self) -> None:
        """Walk through new sub-folders, until stopped: in a thread of its own, since a rescan waits for room."""
        while wanted := self._next(self._folders, lambda: None):
            self._walk(*wanted)

    def _next(self, wanted: dict[T, None], until_due: Callable[[], float | None]) -> T | None:
        """The next walk to take; None once stopped. ``until_due`` asks for what is due, and tells when more will be."""
        with self._changed:
            while not self._stopped:
                pause = until_due()
                if wanted:
                    self._walking += 1
                    found = next(iter(wanted))
                    del wanted[found]
                    return found
                self._changed.wait(pause)
        return None

    def _until_due(self) -> float:
        """Ask for a rescan of each folder whose time has come. Returns the seconds until the next one's."""
        now = time.monotonic()
        for watch, due in self._due.items():
            if due <= now:
                self._scans[watch] = None
                self._due[watch] = now + self._period[watch]
        return min(self._due.values()) - now

    def _walk(self, watch: Watch, below: str = "", *, sweep_before: float = 0.0) -> None:
        began, found, root = time.monotonic(), 0, below or str(watch.path)
        unreadable: set[str] = set()

        def cannot_list(folder: str, error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                unreadable.add(folder)
                say = self._log.debug if folder in self._unreadable else self._log.error
                hint = "Let larkdrop's user list it; every rescan looks again."
                say("cannot_list", path=folder, reason=error.strerror, hint=hint)

        scan = Scan(
            watch, below=below, sweep_before=sweep_before, unreadable=cannot_list, stopped=lambda: self._stopped
        )
        thread = FOLDERS if below else RESCAN
        self._walks[thread] = scan
        for drop in scan:
            found += 1
            if below:
                self._queue.put(drop)
            elif not self._queue.put_backlog(drop):
                return
        self._walks[thread] = None
        self._seen += 1 + scan.seen
        self._log.debug("looked", path=root, found=found, seconds=round(time.monotonic() - began, 3))
        with self._changed:
            self._unreadable = unreadable | {one for one in self._unreadable if not Path(one).is_relative_to(root)}
            self._walking -= 1
