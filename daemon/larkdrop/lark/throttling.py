"""A throttle (HTTP 429, or a code that `codes.py` lists as one): how long everything waits, and what it teaches.

Everything waits (`pace.py`) for as long as the answer asks, or for `WAIT` where it does not say. And the platform may
accept fewer calls than configured, as where another host uses the app:

1. A throttle after more calls in the window than any that passed of late: that many is the limit now.
2. A throttle after fewer calls has nothing to do with the rate: it costs its wait only, and what was learned before is
   forgotten.
3. A learned limit is raised by a quarter each time that nothing was throttled for `PATIENCE` seconds, up to what is
   configured. Each time that a throttle confirms it, the first raise waits twice as long.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

# Seconds to wait where the platform does not say, or says less than is a wait.
WAIT, SHORTEST = 1.0, 0.1
# Seconds for which a number of calls that passed proves that the platform accepts as many.
PROOF = 10.0
# Seconds without a throttle before a learned limit is raised; at most the longest, however often it is confirmed.
PATIENCE, LONGEST_PATIENCE = 2.0, 320.0


def wait(told: str | None) -> float:
    """Seconds to wait, by an answer's header; a date, which the platform never sends, says nothing."""
    try:
        seconds = float(told or "")
    except ValueError:
        return WAIT
    return seconds if SHORTEST <= seconds < math.inf else WAIT


class Learning:
    """Lowers and raises a ``limit`` of calls in ``length`` seconds."""

    def __init__(self, limit: int, length: float) -> None:
        self.limit = self.configured = limit
        self.length = length
        self._patience = PATIENCE
        self._throttled_until = -math.inf
        self._raise_at = math.inf

    def throttled(self, at: float, passed: Sequence[float], now: float, until: float) -> None:
        """A call that went at ``at`` was throttled until ``until``.

        ``passed`` is when the calls of the last minute went that were not, in order.
        """
        together = now < self._throttled_until  # one throttle that hit several calls in flight
        self._throttled_until = max(self._throttled_until, until)
        before = [when for when in passed if when <= at]
        *counts, count = _counts([*before, at], self.length)
        proved = max((n for n, when in zip(counts, before, strict=True) if when > at - PROOF), default=0)
        if count <= proved:
            self.limit, self._patience, self._raise_at = self.configured, PATIENCE, math.inf
            return
        if not together:
            confirmed = self.limit < self.configured
            self._patience = min(2 * self._patience, LONGEST_PATIENCE) if confirmed else PATIENCE
        self.limit = min(self.limit, count)
        self._raise_at = max(self._throttled_until, now + self._patience)

    def relearn(self, now: float) -> None:
        """Raise a learned limit where it is time to."""
        if now >= self._raise_at:
            self.limit = min(self.configured, self.limit + max(1, self.limit // 4))
            self._raise_at = now + PATIENCE if self.limit < self.configured else math.inf


def _counts(moments: Sequence[float], length: float) -> list[int]:
    """For each of the moments, which are in order, how many came in the ``length`` seconds before it."""
    return [place - bisect_right(moments, moment - length) for place, moment in enumerate(moments)]
