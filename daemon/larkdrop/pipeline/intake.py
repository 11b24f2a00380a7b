"""What the watcher tells of goes to the queue, by way of settling where a file may still be written to."""

from __future__ import annotations

from pathlib import Path

import structlog

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.settle import Settle
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.rescan import Rescan


class Intake:
    """The watcher's listener."""

    def __init__(self, queue: DropQueue, settle: Settle, rescan: Rescan, *, settle_seconds: float) -> None:
        self._queue = queue
        self._settle = settle
        self._rescan = rescan
        self._settle_seconds = settle_seconds
        self._log = structlog.get_logger()

    def finished(self, drop: Drop) -> None:
        """A file was closed by its writer, or renamed in."""
        self._settle.forget(drop.path)
        self._queue.put(drop)

    def created(self, drop: Drop) -> None:
        """A file appeared, and nobody closed it yet."""
        if not self._settle.park(drop, self._settle_seconds):
            self._queue.overflow()

    def request_scan(self, watch: Watch, below: str = "") -> None:
        """Something may be in the folder, or in its sub-folder ``below``, that no event told of."""
        self._rescan.request(watch, below)

    def events_lost(self) -> None:
        """The kernel dropped events: whatever they told of is found by looking."""
        self._log.warning("events_lost", reason="the kernel's inotify queue was full", doing="rescan")
        self._rescan.request_all()

    def observer_chosen(self, watch: Watch, *, polled: bool, reason: str) -> None:
        """How a folder is watched."""
        self._rescan.poll(watch, polled=polled)
        self._log.info("observer", path=str(watch.path), chosen="polling" if polled else "inotify", reason=reason)

    def watch_limit_reached(self, watch: Watch) -> None:
        """The kernel won't watch all of a folder."""
        try:
            now = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text(encoding="ascii"))
            more = f"sysctl fs.inotify.max_user_watches={2 * now} (now {now})"
        except OSError:  # hidden from a hardened service
            more = "a larger sysctl fs.inotify.max_user_watches"
        self._log.error(
            "watch_limit", path=str(watch.path), doing=f"scans every {watch.poll_seconds:g} s meanwhile",
            hint=f"Allow more: {more}, and if that is not it, fs.inotify.max_user_instances; it is tried again every "
            "minute.",
        )  # fmt: skip
        self._rescan.poll(watch, polled=True)

    def folder_gone(self, watch: Watch) -> None:
        """A watched folder is not there any more."""
        self._log.warning("folder_gone", path=str(watch.path), hint="It is watched again as soon as it is back.")

    def folder_back(self, watch: Watch) -> None:
        """A watched folder is there again."""
        self._log.info("folder_back", path=str(watch.path))
        self._rescan.request(watch)
