"""What was counted and timed since the start, for those who ask (``service/metrics.py``)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from itertools import accumulate


class Tally:
    """Counts, by what they are of. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter()

    def add(self, *of: str, count: int = 1) -> None:
        """So many more."""
        with self._lock:
            self._counts[of] += count

    def counts(self) -> Counter[tuple[str, ...]]:
        """As they are now; 0 of what was never counted."""
        with self._lock:
            return self._counts.copy()


class Durations:
    """How long something took, as counts by ``bounds`` in seconds. Thread-safe."""

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        with self._lock:
            self._counts[bisect_left(self.bounds, seconds)] += 1
            self._sum += seconds

    def cumulative(self) -> tuple[list[int], float]:
        """How many took up to each of the bounds, and of all, which comes last; and their sum in seconds."""
        with self._lock:
            return list(accumulate(self._counts)), self._sum
