"""How many calls may go in a second and in a minute, and which of them fresh drops may use.

The policy, in the order in which it is applied:

1. Never more calls than the limit in any second or minute.
2. The first half of a minute's calls may go as fast as the second allows, so that a few hundred pictures don't wait.
3. The rest goes at an even rate, so that no crowd uses the minute up and leaves nothing for the next drop.
4. A few places of each window are reserved for fresh drops, and fresh drops keep an even rate among themselves only:
   they don't wait for the backlog, it makes room for them.
5. The platform counts a call when it arrives. One that took longer than the fastest of late may have arrived that much
   later, and is counted so; the first calls of all, which may all be slow, are counted from their answers.
6. If the platform throttles nevertheless, `throttling.py` lowers a limit for some time.

Nothing here waits, and nothing locks: times are monotonic seconds, given by the caller.
Source of the limits: the platform's page *Rate limits* (per API, app and tenant).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from larkdrop.lark.throttling import Learning

# A call's way to the platform varies: windows a little longer than the platform's keep late arrivals apart.
MARGIN = 0.05
# The even rate is computed from this many calls at most.
SAMPLE = 250
# Of so many places, one is reserved for fresh drops. A minute needs fewer, since places become free all the time.
RESERVED_OF_SECOND, RESERVED_OF_MINUTE = 20, 200
# The part of a minute's calls that may go as fast as the second allows.
AT_ONCE = 0.5
# Who had nothing to send for a while may make up for this many seconds of the even rate.
CATCH_UP = 5.0
# So many calls are answered before the fastest of them says how early any can have arrived.
ENOUGH = 100
# The shortest way of a call is forgotten by this factor with each call, in case the network became slower: slowly, as a
# busy moment, in which all calls are late, must not be taken for that.
FORGETTING = 1.001


@dataclass(eq=False)
class Ticket:
    """Permission for one call; ``probe`` marks the one that tries whether a closed gate may open."""

    at: float  # monotonic seconds
    probe: bool = False
    until: float = math.inf  # monotonic seconds; a call that begins later may come together with too many others
    spent: bool = False  # the call was made, and its outcome reported
    moved: float = 0.0  # seconds by which it moved on when the next call is due at the even rate
    moved_fresh: float = 0.0  # the same of fresh drops


class SlidingWindow:
    """At most ``limit`` calls in any ``length`` seconds; ``calls`` holds when they went, in order."""

    def __init__(self, limit: int, length: float) -> None:
        self.learning = Learning(limit, length)
        self.length = length + MARGIN
        self.calls: deque[float] = deque()

    @property
    def limit(self) -> int:
        """As configured, or lower where a lower one was learned."""
        return self.learning.limit

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
        free = max(1, self.limit - reserve) - len(self.calls)
        sample = islice(enumerate(self.calls, 1), None, None, 1 + len(self.calls) // SAMPLE)
        return max((at + self.length - now) / (free + number) for number, at in sample)

    def drop(self, at: float) -> None:
        """Forget the call that went at ``at``."""
        place = bisect_left(self.calls, at)
        if place < len(self.calls) and self.calls[place] == at:
            del self.calls[place]

    def postpone(self, at: float, seconds: float, now: float) -> None:
        """Count the call that went at ``at`` as if it had gone ``seconds`` later, also where it was forgotten since."""
        self.drop(at)
        if at + seconds > now - self.length:
            insort(self.calls, at + seconds)


class RateWindows(Protocol):
    """Where calls are counted: in this process, or by several hosts that share an app (`fleet/windows.py`)."""

    @property
    def limits(self) -> tuple[int, int]:
        """Calls a second and a minute; lower than configured where a lower limit was learned."""

    @property
    def part(self) -> int:
        """Calls a minute that this host can count on."""

    def used(self, now: float) -> tuple[int, int]:
        """Calls of the last second and of the last minute."""

    def delay(self, now: float, *, fresh: bool) -> float:
        """Seconds until the next call may go, of a fresh drop or of the backlog."""

    def take(self, now: float, *, fresh: bool) -> Ticket:
        """Count a call; only where ``delay`` is 0."""

    def give_back(self, ticket: Ticket) -> None:
        """The call was not made: its places, and its turn, are free again."""

    def arrived(self, ticket: Ticket, now: float) -> float:
        """The call succeeded, and its answer came ``now``: it is counted from when it reached Lark, at the latest.

        Returns by how many seconds later it counts.
        """

    def throttled(self, ticket: Ticket, now: float, retry_after: float) -> None:
        """The platform refused the call for the rate limit, and does not count it."""


class LocalWindows(RateWindows):
    """Counts the calls of this process."""

    def __init__(self, per_second: int, per_minute: int) -> None:
        self._second = SlidingWindow(per_second, 1)
        self._minute = SlidingWindow(per_minute, 60)
        self._due = -math.inf  # when the last call was due at the even rate
        self._due_fresh = -math.inf  # the same of fresh drops
        self._answered = 0  # calls so far
        self._fastest = math.inf  # seconds from ticket to answer, of the fastest call of late

    @property
    def limits(self) -> tuple[int, int]:
        return self._second.limit, self._minute.limit

    @property
    def part(self) -> int:
        return self._minute.limit

    def set_limits(self, per_second: int, per_minute: int) -> None:
        """Other limits from now on: what was learned of a limit is forgotten where that is another now."""
        for window, limit in ((self._second, per_second), (self._minute, per_minute)):
            if window.learning.configured != limit:
                window.learning = Learning(limit, window.learning.length)

    def ages(self, now: float) -> list[float]:
        """For how many seconds the calls of the last minute have counted."""
        self._minute.expire(now)
        return [now - at for at in self._minute.calls]

    def used(self, now: float) -> tuple[int, int]:
        for window in (self._second, self._minute):
            window.learning.relearn(now)
            window.expire(now)
        return len(self._second.calls), len(self._minute.calls)

    def delay(self, now: float, *, fresh: bool) -> float:
        self._second.learning.relearn(now)
        self._minute.learning.relearn(now)
        reserve = 0 if fresh else self._second.limit // RESERVED_OF_SECOND
        return max(0.0, self._second.delay(now, reserve), self._next_due(now, fresh=fresh) - now)

    def take(self, now: float, *, fresh: bool) -> Ticket:
        ticket = Ticket(now)
        if fresh:
            due = max(self._next_due(now, fresh=True), now - CATCH_UP)
            ticket.moved_fresh, self._due_fresh = due - self._due_fresh, due
        due = max(self._next_due(now, fresh=False), now - CATCH_UP)
        ticket.moved, self._due = due - self._due, due
        for window in (self._second, self._minute):
            window.expire(now)
            window.calls.append(now)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        self._drop(ticket)
        self._due_fresh -= ticket.moved_fresh
        self._due -= ticket.moved

    def arrived(self, ticket: Ticket, now: float) -> float:
        seconds = now - ticket.at
        self._answered += 1
        self._fastest = min(seconds, self._fastest * FORGETTING)
        late = seconds - (self._fastest if self._answered > ENOUGH else 0.0)
        if late <= MARGIN / 2:
            return 0.0
        self._second.postpone(ticket.at, late, now)
        self._minute.postpone(ticket.at, late, now)
        return late

    def throttled(self, ticket: Ticket, now: float, retry_after: float) -> None:
        self._drop(ticket)
        self._answered = ENOUGH  # from now on throttles teach more, for which calls have to stay where they were
        # A short wait was the second's limit, a longer one the minute's.
        window = self._second if retry_after <= 2 * self._second.length else self._minute
        window.learning.throttled(ticket.at, self._minute.calls, now, now + retry_after)

    def _drop(self, ticket: Ticket) -> None:
        self._second.drop(ticket.at)
        self._minute.drop(ticket.at)

    def _next_due(self, now: float, *, fresh: bool) -> float:
        """When the next call may go, as far as the minute is concerned."""
        minute = self._minute
        minute.expire(now)
        reserve = 0 if fresh else max(1, minute.limit // RESERVED_OF_MINUTE)
        used, usable = len(minute.calls), max(1, minute.limit - reserve)
        if used == 0 or used < usable * AT_ONCE:
            return now
        if used >= usable:
            return now + minute.delay(now, reserve)
        return (self._due_fresh if fresh else self._due) + minute.even_interval(now, reserve)
