"""When is a file finished?

A closed or renamed-in file whose structure is whole goes at once. Anything else waits until it has been quiet for
``settle_seconds``; a picture that is cut short waits a minute, and is then rejected until it changes.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Stamp
from larkdrop.folder.recognise import End, Shape
from larkdrop.progress import waiting

# Seconds of quiet after which a picture that is cut short is given up until it changes.
CUT_SECONDS = 60.0
# Files watched at the same time; past it the next rescan finds them.
MOST = 10_000


def quiet_needed(drop: Drop, size: int, shape: Shape, settle_seconds: float) -> float:
    """For how many seconds a file of this size and shape has to be quiet before it is believed to be finished.

    An empty file whose writer never closed it is only begun.
    """
    if shape.end is End.CUT or (size == 0 and not drop.closed):
        return max(CUT_SECONDS, settle_seconds)
    return 0.0 if drop.closed and shape.end is End.WHOLE else settle_seconds


class Settle:
    """Holds files that may still be written to, and releases each once it has been quiet for long enough."""

    def __init__(self, release: Callable[[Drop], None]) -> None:
        self._release = release
        self._changed = threading.Condition()
        self._since: dict[str, tuple[Drop, float, float]] = {}
        self._due: list[tuple[float, str]] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self._since)

    def park(self, drop: Drop, seconds: float) -> bool:
        """Release ``drop`` once its file was in the state ``drop.stamp`` for ``seconds``; False without room for it.

        What an event told of that state is not forgotten for what a scan finds.
        """
        now = time.monotonic()
        with self._changed:
            held = self._since.get(drop.path)
            if held is None and len(self._since) >= MOST:
                return False
            if held and drop.by_scan and not held[0].by_scan and held[0].stamp == drop.stamp:
                return True
            self._since[drop.path] = (drop, now, seconds)
            heapq.heappush(self._due, (now + seconds, drop.path))
            if self._due[0][1] == drop.path:
                self._changed.notify()
        return True

    @property
    def due(self) -> float | None:
        """When the next file is due."""
        with self._changed:
            return self._due[0][0] if self._due else None

    def count(self, watch: Watch) -> int:
        """How many files of a folder are held."""
        with self._changed:
            return sum(drop.watch == watch for drop, _, _ in self._since.values())

    def until(self, path: str) -> float | None:
        """When a file that is held is looked at again, in monotonic seconds; None where it is not held."""
        with self._changed:
            held = self._since.get(path)
        return held[1] + held[2] if held else None

    def forget(self, path: str) -> None:
        """The file was finished, or is gone."""
        with self._changed:
            self._since.pop(path, None)

    def stop(self) -> None:
        """End ``run``."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Watch until stopped."""
        while due := self._wait():
            for drop, since, seconds in due:
                try:
                    stamp = Stamp.of(os.lstat(drop.path))
                except OSError:
                    continue  # gone, or a link by now
                if stamp == drop.stamp:
                    self._release(replace(drop, quiet=drop.quiet + time.monotonic() - since))
                else:
                    self.park(replace(drop, stamp=stamp, quiet=0.0), seconds)

    def _wait(self) -> list[tuple[Drop, float, float]]:
        """The files whose time has come; empty once stopped."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                ready = []
                while self._due and self._due[0][0] <= now:
                    at, path = heapq.heappop(self._due)
                    known = self._since.get(path)
                    if known and known[1] + known[2] <= at + 1e-6:
                        ready.append(self._since.pop(path))
                if ready:
                    return ready
                with waiting:
                    self._changed.wait(self._due[0][0] - now if self._due else None)
        return []
