"""When may the next call go: the rate limits, and the gate that holds all calls while Lark says no.

Nothing here waits: callers ask for a ticket and, where there is none, how long until it is worth asking again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from larkdrop.errors import LarkdropError, SetupFault, Throttled
from larkdrop.lark.learning import Learning
from larkdrop.lark.windows import Ticket, Windows

# Pictures in a row whose first call fails that count as an outage.
OUTAGE = 5


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
        pauses: Callable[[], Iterator[float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``backoff`` gives the pause in seconds after the n-th failed probe of an outage."""
        self._windows = Windows(per_second, per_minute)
        self._learning = [Learning(window) for window in (self._windows.second, self._windows.minute)]
        self._probe_seconds = probe_seconds
        self._pauses = pauses
        self._probe_pauses = pauses()
        self._clock = clock
        self._lock = threading.Lock()
        self._hold: Hold | None = None
        self._probing: Ticket | None = None
        self._next_probe = 0.0
        self._fixed_at = -math.inf  # as a person said
        self._failures = 0
        self._quiet_until = 0.0

    @property
    def hold(self) -> Hold | None:
        """Why everything is held, or None."""
        return self._hold

    def ticket(self, *, fresh: bool) -> Ticket | None:
        """Permission for one call now, or None. ``fresh`` drops may use what the backlog has to leave free."""
        with self._lock:
            now = self._clock()
            if self._delay(now, fresh=fresh) > 0:
                return None
            made = self._windows.take(now, fresh=fresh)
            made.probe = self._hold is not None
            if made.probe:
                self._probing = made
            return made

    def delay(self, *, fresh: bool) -> float:
        """Seconds until asking for a ticket is worth it; infinite while only a running probe can tell."""
        with self._lock:
            return self._delay(self._clock(), fresh=fresh)

    def limited(self, ahead: int) -> tuple[float, str]:
        """Seconds that a picture with ``ahead`` others before it waits for the rate limits, about; and which, in words.

        0 and an empty string where it need not wait.
        """
        with self._lock:
            now = self._clock()
            delay, minute = self._delay(now, fresh=False), self._windows.minute.limit
            if self._hold or (delay == 0 and ahead == 0):
                return 0.0, ""
            why = f"Lark takes {minute:,} calls a minute"
            if now < self._quiet_until:
                why = "Lark asked for a pause"
            elif self._windows.minute.delay(now) > 0:
                why = f"{minute:,} calls a minute are used up"
            return delay + ahead * 60 / minute, why

    def _delay(self, now: float, *, fresh: bool) -> float:
        if self._hold:
            if self._probing:
                return math.inf
            # A probe is not worth making where the platform would throttle it.
            return max(self._next_probe - now, self._quiet_until - now, self._windows.second.delay(now), 0.0)
        for learning in self._learning:
            learning.relearn(now)
        return max(self._quiet_until - now, self._windows.delay(now, fresh=fresh))

    def give_back(self, ticket: Ticket) -> None:
        """The call was not needed after all."""
        with self._lock:
            self._windows.give_back(ticket)
            if self._probing is ticket:
                self._probing = None

    def succeeded(self, ticket: Ticket) -> Hold | None:
        """The platform answered as it should. Returns the hold that this ended, if it did."""
        with self._lock:
            ticket.spent = True
            self._windows.arrived(ticket, self._clock())
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
                person = self._hold is not None and self._hold.person
                self._probe_in(self._probe_seconds if person else next(self._probe_pauses), now, ticket)
                return None
            if self._hold or not first:
                return None
            self._failures += 1
            if self._failures >= OUTAGE:
                self._probe_pauses = self._pauses()
                self._probe_in(next(self._probe_pauses), now, ticket)
                return self._close(reason, now, person=False)
            return None

    def probe_now(self) -> None:
        """A person says that it is fixed: the next call may try at once."""
        with self._lock:
            self._next_probe, self._fixed_at = 0.0, self._clock()

    def _probe_in(self, seconds: float, now: float, failed: Ticket) -> None:
        """Put the next probe off; but a call from before a person said that it is fixed proves nothing."""
        if failed.at >= self._fixed_at:
            self._next_probe = now + seconds

    def _close(self, reason: LarkdropError, now: float, *, person: bool) -> Hold:
        self._failures = 0
        self._hold = Hold(reason, now, person)
        return self._hold

    def _throttled(self, now: float, ticket: Ticket, reason: Throttled) -> None:
        """Wait as told, and learn from it."""
        self._windows.drop(ticket)
        short = reason.retry_after <= 2 * self._windows.second.length
        self._quiet_until = max(self._quiet_until, now + reason.retry_after)
        learning = self._learning[0 if short else 1]
        learning.throttled(ticket.at, self._windows.minute.taken, now, self._quiet_until)
