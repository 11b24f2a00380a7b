"""In which order fresh drops go, and how many of them could not go while they were fresh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from larkdrop.pipeline.job import Job

# Seconds over which late drops are counted.
LATE_SECONDS = 60


class FreshLane:
    """Fresh jobs: the newest second first, and in order within a second; each path once."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[str, Job]] = {}
        self._second_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._second_of)

    def __contains__(self, path: str) -> bool:
        return path in self._second_of

    def __iter__(self) -> Iterator[Job]:
        return (job for second in sorted(self._seconds, reverse=True) for job in self._seconds[second].values())

    def add(self, job: Job) -> None:
        second = int(job.fresh_until)
        self._second_of[job.path] = second
        self._seconds.setdefault(second, {})[job.path] = job

    def pop(self, path: str) -> Job:
        second = self._second_of.pop(path)
        job = self._seconds[second].pop(path)
        if not self._seconds[second]:
            del self._seconds[second]
        return job

    def pop_newest(self) -> Job:
        return self.pop(next(iter(self._seconds[max(self._seconds)])))

    def pop_oldest(self) -> Job:
        return self.pop(next(iter(self._seconds[min(self._seconds)])))

    def is_late(self, now: float) -> bool:
        """Whether the oldest second is over: its jobs are no longer fresh."""
        return bool(self._seconds) and min(self._seconds) <= now - 1


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
