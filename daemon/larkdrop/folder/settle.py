"""When is a file finished?

A file that was closed by its writer or renamed in, and whose content is whole (``recognise.End``), goes at once.
Anything else waits until it has been quiet for ``settle_seconds``; a picture that is cut short waits a minute, and is
then rejected until it changes.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Picture, Stamp
from larkdrop.folder.recognise import End

# Seconds of quiet after which a picture that is cut short is given up until it changes.
CUT_SECONDS = 60.0
# Files held at the same time; past it the next rescan finds them.
MOST = 10_000


def left_to_settle(drop: Drop, read: Picture, settle_seconds: float) -> float:
    """For how many more seconds a file has to stay as it was read before it is believed to be finished; 0 if it is.

    An empty file whose writer never closed it is only begun.
    """
    if read.shape.end is End.CUT or (read.stamp.size == 0 and not drop.closed):
        needed = max(CUT_SECONDS, settle_seconds)
    else:
        needed = 0.0 if drop.closed and read.shape.end is End.WHOLE else settle_seconds
    held = drop.quiet if drop.stamp == read.stamp else 0.0
    unchanged = time.time() - read.stamp.ctime_ns / 1e9  # negative where a network file system's clock is ahead
    return max(0.0, needed - max(0.0, held, unchanged))


@dataclass(frozen=True)
class _Held:
    """A file that was in the state ``drop.stamp`` at ``since``, in monotonic seconds."""

    drop: Drop
    since: float
    seconds: float

    @property
    def due(self) -> float:
        return self.since + self.seconds


class Settle:
    """Holds files that may still be written to, and releases each once it has been quiet for long enough."""

    def __init__(self, release: Callable[[Drop], None]) -> None:
        self._release = release
        self._changed = threading.Condition()
        self._held: dict[str, _Held] = {}
        self._queue: list[tuple[float, str]] = []  # a heap: when due, and which path
        self._in_hand: _Held | None = None
        self._stopped = False

    def paths(self) -> set[str]:
        """Every file that is held, or just being looked at."""
        with self._changed:
            return {*self._held, *((self._in_hand.drop.path,) if self._in_hand else ())}

    @property
    def due(self) -> float | None:
        """When the next file is to be looked at, in monotonic seconds; None if there is none.

        As long as ``run`` gets on, this is never long past.
        """
        with self._changed:
            if self._in_hand:
                return self._in_hand.due
            return self._queue[0][0] if self._queue else None

    def park(self, drop: Drop, seconds: float) -> bool:
        """Release ``drop`` once its file was in the state ``drop.stamp`` for ``seconds``; False without room for it.

        What is known of that state is not forgotten for what a scan finds.
        """
        held = _Held(drop, time.monotonic(), seconds)
        with self._changed:
            before = self._held.get(drop.path)
            if before is None and len(self._held) >= MOST:
                return False
            if before and drop.by_scan and before.drop.stamp == drop.stamp:
                return True
            self._held[drop.path] = held
            heapq.heappush(self._queue, (held.due, drop.path))
            if self._queue[0][1] == drop.path:
                self._changed.notify()
        return True

    def count(self, watch: Watch) -> int:
        """How many files of a folder are held."""
        with self._changed:
            return sum(held.drop.watch == watch for held in self._held.values())

    def until(self, path: str) -> float | None:
        """When a file that is held is looked at again, in monotonic seconds; None where it is not held."""
        with self._changed:
            held = self._held.get(path)
        return held.due if held else None

    def forget(self, path: str) -> None:
        """The file was finished, or is gone."""
        with self._changed:
            self._held.pop(path, None)

    def stop(self) -> None:
        """End ``run``."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Look at each file when it is due, until stopped."""
        while held := self._next():
            drop = held.drop
            try:
                stamp = Stamp.of(os.lstat(drop.path))
            except OSError:
                continue  # gone, or its folder is
            if stamp == drop.stamp:
                self._release(replace(drop, quiet=drop.quiet + time.monotonic() - held.since))
            elif not self.park(changed := replace(drop, stamp=stamp, quiet=0.0), held.seconds):
                self._release(changed)  # whoever finds out that it is not finished looks for room again

    def _next(self) -> _Held | None:
        """Wait for the next file whose time has come, and take it in hand; None once stopped."""
        with self._changed:
            self._in_hand = None
            while not self._stopped:
                pause = self._queue[0][0] - time.monotonic() if self._queue else None
                if pause is None or pause > 0:
                    self._changed.wait(pause)
                    continue
                due, path = heapq.heappop(self._queue)
                held = self._held.get(path)
                if held and held.due <= due:  # else it was parked again since
                    self._in_hand = self._held.pop(path)
                    return self._in_hand
        return None
