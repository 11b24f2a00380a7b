"""When may the next call go: per-second and per-minute limits, and the gate that holds all calls while Lark says no.

Nothing here waits: callers ask for a ticket and, where there is none, how long until it is worth asking again.
Source of the limits: the platform's page *Rate limits* (per API, app and tenant).
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from larkdrop.errors import LarkdropError, SetupFault, Throttled

# A call's way to the platform varies: windows a little longer than the platform's keep late arrivals apart.
MARGIN = 0.05
# The part of the minute's budget a backlog may use up as fast as it can; the rest is spread over the minute.
BURST = 0.5
# By this factor the shortest way of a call is forgotten with each call, in case the network became slower.
FORGETTING = 1.02
# Seconds by which a backlog that was woken late may still keep to its plan.
CATCH_UP = 0.25
# Pictures in a row whose first call fails that count as an outage.
OUTAGE = 5
# One throttle lowers a limit to this fraction at most, since it may be another host's burst.
LESSON = 8
# Seconds without a throttle after which a learned limit is raised; doubles with every new throttle, up to the most.
PATIENCE = 2.0
PATIENCE_MOST = 320.0


@dataclass
class Window:
    """A sliding window: at most ``limit`` tickets in any ``length`` seconds."""

    limit: int
    length: float
    taken: deque[float] = field(default_factory=deque)
    _paced: float = -math.inf

    def expire(self, now: float) -> None:
        while self.taken and self.taken[0] <= now - self.length:
            self.taken.popleft()

    def delay(self, now: float, spare: int = 0) -> float:
        """Seconds until there is room for one more while ``spare`` places stay free."""
        self.expire(now)
        over = len(self.taken) - max(1, self.limit - spare)
        return 0.0 if over < 0 else self.taken[over] + self.length - now

    def even_delay(self, now: float, spare: int) -> float:
        """Seconds until a backlog that spreads what is left over the window takes its next place.

        Up to BURST of the limit goes at once. Past it, the backlog keeps to the highest even rate that the places
        free now and the places that fall free later can carry to the window's end.
        """
        return max(0.0, self._even_due(now, spare) - now)

    def drop(self, at: float) -> bool:
        """Free the place that was taken ``at`` some moment; False where that is long ago."""
        place = bisect_left(self.taken, at)
        if place == len(self.taken) or self.taken[place] != at:
            return False
        del self.taken[place]
        return True

    def put_off(self, at: float, seconds: float) -> None:
        """The place that was taken ``at`` some moment was needed ``seconds`` later."""
        if self.drop(at):
            insort(self.taken, at + seconds)

    def take(self, now: float) -> None:
        """Use a place."""
        self.taken.append(now)

    def take_evenly(self, now: float, spare: int) -> None:
        """Use a place for the backlog; a late taker does not make the next one later."""
        self._paced = max(self._even_due(now, spare), now - CATCH_UP)
        self.taken.append(now)

    def _even_due(self, now: float, spare: int) -> float:
        self.expire(now)
        used, most = len(self.taken), max(1, self.limit - spare)
        if used < most * BURST or used == 0:
            return now
        if used >= most:
            return now + self.delay(now, spare)
        free, end = most - used, self.length - now
        return self._paced + max((at + end) / (free + k) for k, at in enumerate(self.taken))


@dataclass(eq=False)
class Ticket:
    """Leave for one call. ``probe`` marks the one call that tries whether a held gate may open."""

    at: float  # monotonic seconds
    probe: bool = False
    spent: bool = False  # the call was made, and what became of it reported


@dataclass(frozen=True)
class Hold:
    """Why calls are held: ``since`` in monotonic seconds; ``person`` is true where somebody has to act."""

    reason: LarkdropError
    since: float
    person: bool


class Pace:
    """Hands out tickets to all workers, and learns from what became of each call. Thread-safe."""

    def __init__(
        self,
        *,
        per_second: int,
        per_minute: int,
        probe_seconds: float,
        backoff: Callable[[int], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``backoff`` gives the pause in seconds after the n-th failed probe of an outage."""
        self._most = (per_second, per_minute)
        self._second = Window(per_second, 1 + MARGIN)
        self._minute = Window(per_minute, 60 + MARGIN)
        self._probe_seconds = probe_seconds
        self._backoff = backoff
        self._clock = clock
        self._lock = threading.Lock()
        self._hold: Hold | None = None
        self._probing: Ticket | None = None
        self._next_probe = 0.0
        self._shortest = math.inf  # seconds from a ticket to the answer, of the call that was fastest of late
        self._mended_at = -math.inf  # as a person said
        self._probes = 0
        self._failures = 0
        self._quiet_until = 0.0
        self._patience = PATIENCE
        self._relearn_at = math.inf
        self._before = per_second  # the limit before the throttled calls now in flight

    @property
    def hold(self) -> Hold | None:
        """Why everything is held, or None."""
        return self._hold

    def ticket(self, *, fresh: bool) -> Ticket | None:
        """Leave for one call now, or None. ``fresh`` drops may use what the backlog has to leave free."""
        with self._lock:
            now = self._clock()
            if self._delay(now, fresh=fresh) > 0:
                return None
            self._second.take(now)
            if fresh or self._hold:
                self._minute.take(now)
            else:
                self._minute.take_evenly(now, self._keep())
            made = Ticket(now, probe=self._hold is not None)
            if made.probe:
                self._probing = made
            return made

    def delay(self, *, fresh: bool) -> float:
        """Seconds until asking for a ticket is worth it; infinite while only a running probe can tell."""
        with self._lock:
            return self._delay(self._clock(), fresh=fresh)

    def _delay(self, now: float, *, fresh: bool) -> float:
        if self._hold:
            if self._probing:
                return math.inf
            # A probe is not worth making where the platform would throttle it.
            return max(self._next_probe - now, self._quiet_until - now, self._second.delay(now), 0.0)
        self._relearn(now)
        keep = 0 if fresh else self._keep()
        minute = self._minute.delay(now) if fresh else self._minute.even_delay(now, keep)
        return max(0.0, self._quiet_until - now, self._second.delay(now), minute)

    def _keep(self) -> int:
        """Places of the minute that only fresh drops may use: half a percent, since steady expiry brings the rest."""
        return max(1, self._minute.limit // 200) if self._minute.limit > 1 else 0

    def give_back(self, ticket: Ticket) -> None:
        """The call was not needed after all."""
        with self._lock:
            self._drop(ticket)
            if self._probing is ticket:
                self._probing = None

    def succeeded(self, ticket: Ticket) -> Hold | None:
        """The platform answered as it should. Returns the hold that this ended, if it did."""
        with self._lock:
            ticket.spent = True
            self._arrived(ticket, self._clock())
            ended = self._hold if ticket.probe or not (self._hold and self._hold.person) else None
            if ended:
                self._hold = None
            if self._probing is ticket:
                self._probing = None
            self._failures = 0
            return ended

    def failed(self, ticket: Ticket, reason: LarkdropError, *, first: bool) -> Hold | None:
        """The call failed. Returns the hold that this began, if it did.

        ``first`` tells a picture's first failure from those of its retries, so that a few bad pictures are not taken
        for an outage however often they fail.
        """
        with self._lock:
            ticket.spent = True
            now = self._clock()
            mine = self._probing is ticket
            if mine:
                self._probing = None
            if isinstance(reason, Throttled):
                self._throttled(now, ticket, reason)
                return None
            if isinstance(reason, SetupFault):
                self._probe_in(self._probe_seconds, now, ticket)
                began = not (self._hold and self._hold.person and self._hold.reason.code == reason.code)
                return self._close(reason, now, person=True) if began else None
            if mine:
                self._probes += 1
                person = self._hold is not None and self._hold.person
                self._probe_in(self._probe_seconds if person else self._backoff(self._probes), now, ticket)
                return None
            if self._hold or not first:
                return None
            self._failures += 1
            if self._failures >= OUTAGE:
                self._probes = 1
                self._probe_in(self._backoff(1), now, ticket)
                return self._close(reason, now, person=False)
            return None

    def probe_now(self) -> None:
        """A person says that it is mended: the next call may try at once."""
        with self._lock:
            self._next_probe, self._mended_at = 0.0, self._clock()

    def _probe_in(self, seconds: float, now: float, failed: Ticket) -> None:
        """Put the next probe off; but a call from before a person said that it is mended proves nothing."""
        if failed.at >= self._mended_at:
            self._next_probe = now + seconds

    def _close(self, reason: LarkdropError, now: float, *, person: bool) -> Hold:
        self._failures = 0
        self._hold = Hold(reason, now, person)
        return self._hold

    def _arrived(self, ticket: Ticket, now: float) -> None:
        """Count a call from when it came to the platform: what took longer than the fastest may have left that late."""
        took = now - ticket.at
        self._shortest = min(took, self._shortest * FORGETTING)
        if took - self._shortest > MARGIN / 2:
            for window in (self._second, self._minute):
                window.put_off(ticket.at, took - self._shortest)

    def _throttled(self, now: float, ticket: Ticket, reason: Throttled) -> None:
        """Wait as told, and take what went through in the window before as the true limit for a while."""
        self._drop(ticket)
        window = self._second if reason.retry_after <= 2 * self._second.length else self._minute
        if now >= self._quiet_until:  # the first of those that were in flight together
            self._before = window.limit
            again = window.limit < self._most[window is self._minute]
            self._patience = min(2 * self._patience, PATIENCE_MOST) if again else PATIENCE
        # Calls still in flight may be throttled too; each that is brings the count down further.
        passed = len(self._minute.taken) - bisect_right(self._minute.taken, ticket.at - window.length)
        window.limit = max(1, min(window.limit, max(passed, self._before // LESSON)))
        self._quiet_until = max(self._quiet_until, now + reason.retry_after)
        self._relearn_at = max(self._quiet_until, now + self._patience)

    def _relearn(self, now: float) -> None:
        """Raise learned limits again by a quarter each time that nothing was throttled for long enough."""
        if now < self._relearn_at:
            return
        for window, most in zip((self._second, self._minute), self._most, strict=True):
            window.limit = min(most, window.limit + max(1, window.limit // 4))
        if (self._second.limit, self._minute.limit) == self._most:
            self._patience, self._relearn_at = PATIENCE, math.inf
        else:
            self._relearn_at = now + self._patience

    def _drop(self, ticket: Ticket) -> None:
        for window in (self._second, self._minute):
            window.drop(ticket.at)
