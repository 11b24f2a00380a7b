"""The lanes of the queue: in each a path waits once, and each has an order of its own; and how many are where."""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from larkdrop.pipeline.job import Job

# Seconds over which late drops are counted.
LATE_SECONDS = 60


class Lane(OrderedDict[str, Job]):
    """Jobs by path: first come, first served. Only ``add``, ``pop`` and ``pop_first`` change which are in it."""

    def add(self, job: Job) -> None:
        self[job.path] = job

    def add_in_turn(self, job: Job) -> None:
        """As ``add``, but first again where it has waited for longer than the first."""
        first = next(iter(self.values()), None)
        self.add(job)
        if first and job.queued_at < first.queued_at:
            self.move_to_end(job.path, last=False)

    def pop_first(self) -> Job:
        return self.pop(next(iter(self)))


class FreshLane(Lane):
    """Fresh jobs: the newest second first, and first come, first served within a second."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds: dict[int, dict[str, Job]] = {}

    def in_order(self) -> Iterator[Job]:
        return (job for second in sorted(self._seconds, reverse=True) for job in self._seconds[second].values())

    def add(self, job: Job) -> None:
        super().add(job)
        self._seconds.setdefault(int(job.fresh_until), {})[job.path] = job

    def pop(self, path: str) -> Job:  # type: ignore[override]
        job = super().pop(path)
        second = int(job.fresh_until)
        del self._seconds[second][path]
        if not self._seconds[second]:
            del self._seconds[second]
        return job

    def pop_first(self) -> Job:
        return self.pop(next(iter(self._seconds[max(self._seconds)])))

    def pop_oldest(self) -> Job:
        return self.pop(next(iter(self._seconds[min(self._seconds)])))

    def is_late(self, now: float) -> bool:
        """Whether the oldest second is over: its jobs are no longer fresh."""
        return bool(self._seconds) and min(self._seconds) <= now - 1


class BackoffLane(Lane):
    """Jobs that failed: the one that is due first."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int, Job]] = []  # some of them were popped by path
        self._numbers = count()

    def add(self, job: Job) -> None:
        super().add(job)
        heapq.heappush(self._heap, (job.due, next(self._numbers), job))

    def first_due(self) -> float:
        """Monotonic seconds; infinite where there is none."""
        while self._heap and self.get(self._heap[0][2].path) is not self._heap[0][2]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop_first(self) -> Job:
        self.first_due()
        return self.pop(heapq.heappop(self._heap)[2].path)

    def end_pauses(self, now: float) -> None:
        """All are due now."""
        for job in self.values():
            job.due = now
        self._heap = [(job.due, next(self._numbers), job) for job in self.values()]


class LateCount:
    """How many drops of the last minute could not go while they were fresh; times are monotonic seconds."""

    def __init__(self) -> None:
        self._by_second: Counter[int] = Counter()

    def add(self, now: float) -> None:
        """One more."""
        self._by_second[int(now)] += 1
        if len(self._by_second) > 2 * LATE_SECONDS:
            self._by_second = Counter({at: n for at, n in self._by_second.items() if at > now - LATE_SECONDS})

    def within(self, now: float) -> int:
        """Those of the minute before ``now``."""
        return sum(count for second, count in self._by_second.items() if second > now - LATE_SECONDS)


@dataclass(frozen=True)
class Counts:
    """How many paths are where."""

    fresh: int
    backlog: int
    backoff: int
    working: int

    def fields(self) -> dict[str, int]:
        """As JSON."""
        return {"waiting": self.fresh + self.backlog, "in_backoff": self.backoff, "uploading": self.working}

    @property
    def waiting(self) -> int:
        return self.fresh + self.backlog + self.backoff


@dataclass(frozen=True)
class FolderCounts:
    """Those of one folder, and for how many seconds the oldest has waited that waits; 0 where none does."""

    counts: Counts = field(default_factory=lambda: Counts(0, 0, 0, 0))
    oldest: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where one path is: being worked on, in backoff until ``job.due``, or waiting behind ``ahead`` others."""

    job: Job
    where: Literal["working", "backoff", "waiting"]
    ahead: int
