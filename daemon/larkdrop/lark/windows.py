"""How many calls may go in a second and in a minute: sliding windows, with places that only fresh drops may use.

Nothing here waits, and nothing locks: times are monotonic seconds, given by the caller.
Source of the limits: the platform's page *Rate limits* (per API, app and tenant).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

# A call's way to the platform varies: windows a little longer than the platform's keep late arrivals apart.
MARGIN = 0.05
# By this factor the shortest way of a call is forgotten with each call, in case the network became slower.
FORGETTING = 1.02
# Of how many places one is kept for fresh drops. A minute needs few, since steady expiry brings the rest.
KEPT_OF_SECOND, KEPT_OF_MINUTE = 20, 200
# The part of a minute that may be used up as fast as it can be; the rest is spread over the minute.
AT_ONCE = 0.5
# Of how many calls at most the even rate is computed.
EVALUATED = 250
# Seconds of the even rate that may be made up for by who could not go, or had nothing to send.
CATCH_UP = 5.0


@dataclass
class Window:
    """A sliding window: at most ``limit`` calls in any ``length`` seconds; ``taken`` holds when they went, in order."""

    limit: int
    length: float
    taken: deque[float] = field(default_factory=deque)

    def expire(self, now: float) -> None:
        """Forget calls that are too long ago to count."""
        while self.taken and self.taken[0] <= now - self.length:
            self.taken.popleft()

    def delay(self, now: float, keep: int = 0) -> float:
        """Seconds until there is room for one more while ``keep`` places stay free."""
        self.expire(now)
        over = len(self.taken) - max(1, self.limit - keep)
        return 0.0 if over < 0 else self.taken[over] + self.length - now

    def even_interval(self, now: float, keep: int) -> float:
        """Seconds between calls at the highest even rate that can be kept up for the length of the window.

        Until a call expires, there are the places that are free now and those of the calls that expire before it. Of a
        long window a part of the calls tells as much.
        """
        free, end = max(1, self.limit - keep) - len(self.taken), self.length - now
        some = islice(enumerate(self.taken), None, None, 1 + len(self.taken) // EVALUATED)
        return max((at + end) / (free + earlier + 1) for earlier, at in some)

    def drop(self, at: float) -> bool:
        """Free the place of the call that went ``at`` some moment; False where that is too long ago to count."""
        place = bisect_left(self.taken, at)
        if place == len(self.taken) or self.taken[place] != at:
            return False
        del self.taken[place]
        return True

    def put_off(self, at: float, seconds: float) -> None:
        """The call that went ``at`` some moment counts from ``seconds`` later."""
        if self.drop(at):
            insort(self.taken, at + seconds)


@dataclass(eq=False)
class Ticket:
    """Permission for one call. ``probe`` marks the one call that tries whether a held gate may open."""

    at: float  # monotonic seconds
    step: float = 0.0  # seconds by which it moved the plan on
    step_fresh: float = 0.0  # and that of fresh drops
    probe: bool = False
    spent: bool = False  # the call was made, and its outcome reported


class Windows:
    """Both limits, and who may use what is left of them: fresh drops, or the backlog.

    Up to a part of the minute goes at once. After that all calls together keep to an even rate, so that no crowd uses
    up the minute and leaves nothing for what comes next. Fresh drops keep to it among themselves only: they don't wait
    for the backlog, which makes room for them.
    """

    def __init__(self, per_second: int, per_minute: int) -> None:
        self.second = Window(per_second, 1 + MARGIN)
        self.minute = Window(per_minute, 60 + MARGIN)
        self._planned_fresh = -math.inf  # when the last call of a fresh drop was due
        self._planned = -math.inf  # when the last call was due
        self._shortest = math.inf  # seconds from a ticket to the answer, of the call that was fastest of late

    def delay(self, now: float, *, fresh: bool) -> float:
        """Seconds until the next call may go, of a fresh drop or of the backlog."""
        keep = 0 if fresh else self.second.limit // KEPT_OF_SECOND
        return max(0.0, self.second.delay(now, keep), self._due(now, fresh=fresh) - now)

    def take(self, now: float, *, fresh: bool) -> Ticket:
        """Use a place of both windows."""
        ticket = Ticket(now)
        if fresh:
            due = max(self._due(now, fresh=True), now - CATCH_UP)
            ticket.step_fresh, self._planned_fresh = due - self._planned_fresh, due
        due = max(self._due(now, fresh=False), now - CATCH_UP)
        ticket.step, self._planned = due - self._planned, due
        self.second.taken.append(now)
        self.minute.taken.append(now)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """The call was not made: its places, and its turn in the plan, are free again."""
        self.drop(ticket)
        self._planned_fresh -= ticket.step_fresh
        self._planned -= ticket.step

    def drop(self, ticket: Ticket) -> None:
        """The call was made and does not count."""
        self.second.drop(ticket.at)
        self.minute.drop(ticket.at)

    def arrived(self, ticket: Ticket, now: float) -> None:
        """Count a call from when it came to the platform: what took longer than the fastest may have left that late."""
        took = now - ticket.at
        self._shortest = min(took, self._shortest * FORGETTING)
        if took - self._shortest > MARGIN / 2:
            for window in (self.second, self.minute):
                window.put_off(ticket.at, took - self._shortest)

    def _due(self, now: float, *, fresh: bool) -> float:
        """When the next call may go, as far as the minute is concerned."""
        minute = self.minute
        minute.expire(now)
        keep = 0 if fresh or minute.limit == 1 else max(1, minute.limit // KEPT_OF_MINUTE)
        used, most = len(minute.taken), max(1, minute.limit - keep)
        if used == 0 or used < most * AT_ONCE:
            return now
        if used >= most:
            return now + minute.delay(now, keep)
        return (self._planned_fresh if fresh else self._planned) + minute.even_interval(now, keep)
