"""Does every part make progress? Asked before systemd's watchdog is fed: systemd restarts larkdrop where one does not.

The parts don't know of this: each answers what it has to do and how much it has done. A call to Lark has a deadline, so
a worker is stuck when it has had its job for longer than any job can take.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from larkdrop.folder.watch import Watcher
from larkdrop.service.parts import Parts

# Whether a part has something to do, and a number that changes with everything it does.
Activity = tuple[bool, float]


class Liveness:
    """Asks the parts of a running daemon."""

    def __init__(self, parts: Parts, watcher: Watcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._watcher = watcher
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}  # what a part had done, and since when nothing more

    def stuck(self, seconds: float, threads: Sequence[threading.Thread]) -> list[str]:
        """The parts that had something to do and did nothing for ``seconds``, as far as calls of this have seen.

        ``threads`` are those that have to be there.
        """
        found = [thread.name for thread in threads if not thread.is_alive()]
        found += [name for name, activity in self._activities() if self._is_stuck(name, activity, seconds)]
        if self._parts.queue.longest_in_hand() > self._parts.client.longest_upload + seconds:
            found += ["workers"]
        return found

    def _activities(self) -> Iterator[tuple[str, Activity]]:
        due = self._parts.settle.due
        yield "settle", (due is not None and due <= self._clock(), due or 0.0)
        yield "queue", self._parts.queue.activity()
        for part in (self._parts.rescan, self._parts.recorder, self._watcher):
            yield from part.activity().items()

    def _is_stuck(self, name: str, activity: Activity, seconds: float) -> bool:
        now, (busy, done) = self._clock(), activity
        before, since = self._seen.get(name, (None, now))
        if busy and done == before:
            return now - since > seconds
        self._seen[name] = done, now
        return False
