"""What throttles teach: the platform may take less than it is said to, for example while another host uses the app.

A limit is learned where a throttle came after more calls than any that had passed of late, and forgotten where it came
after fewer. So a stricter platform is not asked in vain, and a throttle that has nothing to do with the rate costs no
more than its wait.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from larkdrop.lark.windows import MARGIN, Window

# Seconds for which calls that passed prove that the platform takes as many.
PROOF = 10.0
# Seconds without a throttle after which a learned limit is raised again; the first raise waits twice as long each time
# that the limit is confirmed.
PATIENCE = 2.0
PATIENCE_MOST = 320.0


class Learning:
    """Lowers and raises the limit of one window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._most = window.limit
        self._patience = PATIENCE
        self._quiet_until = -math.inf
        self._raise_at = math.inf

    def throttled(self, at: float, passed: Sequence[float], now: float, until: float) -> None:
        """A call that went ``at`` some moment was refused, and none may go ``until`` then.

        ``passed`` are the moments, in order, at which the calls of the last minute went that were not refused.
        """
        window = self._window
        together = now < self._quiet_until  # with the call before: one throttle, which hit several in flight
        self._quiet_until = until
        before = list(passed)[: bisect_right(passed, at)]
        *others, count = _counts([*before, at], window.length - MARGIN)
        proved = max((n for n, when in zip(others, before, strict=True) if when > at - PROOF), default=0)
        if count <= proved:
            window.limit, self._patience, self._raise_at = self._most, PATIENCE, math.inf
            return
        if not together:
            self._patience = min(2 * self._patience, PATIENCE_MOST) if window.limit < self._most else PATIENCE
        window.limit = min(window.limit, max(1, count))
        self._raise_at = max(until, now + self._patience)

    def relearn(self, now: float) -> None:
        """Raise a learned limit by a quarter each time that nothing was throttled for long enough."""
        if now >= self._raise_at:
            window = self._window
            window.limit = min(self._most, window.limit + max(1, window.limit // 4))
            self._raise_at = now + PATIENCE if window.limit < self._most else math.inf


def _counts(moments: Sequence[float], length: float) -> list[int]:
    """For each of the moments, which are in order, how many came in the ``length`` seconds before it."""
    counts, first = [], 0
    for place, moment in enumerate(moments):
        while moments[first] <= moment - length:
            first += 1
        counts.append(place - first)
    return counts
