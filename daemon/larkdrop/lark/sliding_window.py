"""One rate limit: at most so many calls in any so many seconds."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import islice

# A call's way to the platform varies: windows a little longer than the platform's keep late arrivals apart.
MARGIN = 0.05
# The even rate is computed from this many calls at most.
SAMPLE = 250


class SlidingWindow:
    """At most ``limit`` calls in any ``length`` seconds; ``calls`` holds when they went, in order."""

    def __init__(self, limit: int, length: float) -> None:
        self.limit = limit
        self.length = length + MARGIN
        self.calls: deque[float] = deque()

    def expire(self, now: float) -> None:
        """Forget calls that are too long ago to count."""
        while self.calls and self.calls[0] <= now - self.length:
            self.calls.popleft()

    def delay(self, now: float, reserve: int = 0) -> float:
        """Seconds until there is room for one more call while ``reserve`` places stay free."""
        self.expire(now)
        over = len(self.calls) - max(1, self.limit - reserve)
        return 0.0 if over < 0 else self.calls[over] + self.length - now

    def even_interval(self, now: float, reserve: int) -> float:
        """Seconds between calls at the highest even rate that can be kept up for the length of the window.

        Before a call expires there is room for as many calls as there are places free now, and as expire before it.
        The call that leaves the least room sets the rate.
        """
        free, end = max(1, self.limit - reserve) - len(self.calls), self.length - now
        sample = islice(enumerate(self.calls), None, None, 1 + len(self.calls) // SAMPLE)
        return max((at + end) / (free + earlier + 1) for earlier, at in sample)

    def drop(self, at: float) -> bool:
        """Forget the call that went at ``at``. False where that is too long ago to count."""
        place = bisect_left(self.calls, at)
        if place == len(self.calls) or self.calls[place] != at:
            return False
        del self.calls[place]
        return True

    def postpone(self, at: float, seconds: float) -> None:
        """Count the call that went at ``at`` as if it had gone ``seconds`` later."""
        if self.drop(at):
            insort(self.calls, at + seconds)
