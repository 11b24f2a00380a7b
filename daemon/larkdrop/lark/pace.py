"""When may the next call go? Hands out a ticket where rate windows, gate and a throttle's pause let one through."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from larkdrop.errors import LarkdropError, SetupFault, Throttled
from larkdrop.lark.gate import Gate, Hold, Pauses
from larkdrop.lark.windows import RateWindows, Ticket

# The part of a minute's calls past which it is called used up.
USED_UP = 0.99


class Pace:
    """Hands out tickets to all workers, and is told what became of each call. Nothing here waits. Thread-safe."""

    def __init__(
        self, windows: RateWindows, *, probe_seconds: float, pauses: Pauses, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._windows = windows
        self._gate = Gate(probe_seconds=probe_seconds, pauses=pauses)
        self._paused_until = -math.inf  # when the longest wait that Lark asked for is over
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def hold(self) -> Hold | None:
        """Why everything is held, or None."""
        return self._gate.hold

    @property
    def is_paused(self) -> bool:
        """Whether Lark asked for a pause that is not over."""
        return self._paused_until > self._clock()

    @property
    def is_closed(self) -> bool:
        """Whether the gate or a pause lets no call through now, whatever the rate limits are."""
        with self._lock:
            return self._closed_for(self._clock()) > 0

    def rate(self) -> dict[str, tuple[int, int]]:
        """Calls of the last second and of the last minute, and how many may be."""
        with self._lock:
            (second, minute), limits = self._windows.used(self._clock()), self._windows.limits
            return {"second": (second, limits[0]), "minute": (minute, limits[1])}

    def ticket(self, *, fresh: bool) -> Ticket | None:
        """Permission for one call now, or None. ``fresh`` drops may use what is reserved for them."""
        with self._lock:
            now = self._clock()
            if self._delay(now, fresh=fresh) > 0:
                return None
            return self._gate.let_through(self._windows.take(now, fresh=fresh))

    def ticket_to_sign_in(self) -> Ticket | None:
        """Permission for one call for a token, which no rate limit counts; or None."""
        with self._lock:
            now = self._clock()
            if self._closed_for(now) > 0:
                return None
            return self._gate.let_through(Ticket(now))

    def delay(self, *, fresh: bool) -> float:
        """Seconds until asking for a ticket is worth it; infinite while only a running probe can tell."""
        with self._lock:
            return self._delay(self._clock(), fresh=fresh)

    def limited(self, ahead: int) -> tuple[float, str]:
        """Seconds that a picture with ``ahead`` others before it waits for the rate limits, about; and which, in words.

        0 and an empty string where it need not wait, or where the gate is held.
        """
        with self._lock:
            now = self._clock()
            delay, (_, minute) = self._delay(now, fresh=False), self._windows.limits
            if self._gate.hold or (delay == 0 and ahead == 0):
                return 0.0, ""
            why = f"Lark takes {minute:,} calls a minute"
            if self._paused_until > now:
                why = "Lark asked for a pause"
            elif self._windows.used(now)[1] >= USED_UP * minute:
                why = f"{minute:,} calls a minute are used up"
            return delay + ahead * 60 / self._windows.part, why

    def give_back(self, ticket: Ticket) -> None:
        """The call was not needed after all."""
        with self._lock:
            self._windows.give_back(ticket)
            self._gate.give_back(ticket)

    def succeeded(self, ticket: Ticket) -> Hold | None:
        """Lark answered an upload as it should. Returns the hold that this ended, if it did."""
        with self._lock:
            ticket.spent = True
            self._windows.arrived(ticket, self._clock())
            return self._gate.succeeded(ticket)

    def signed_in(self, ticket: Ticket) -> Hold | None:
        """As ``succeeded``, of a call for a token: it does not show how long an upload takes."""
        with self._lock:
            ticket.spent = True
            return self._gate.succeeded(ticket)

    def failed(self, ticket: Ticket, reason: LarkdropError, *, first: bool) -> Hold | None:
        """The call failed. Returns the hold that this began, if it did. ``first``: it was this picture's first call."""
        with self._lock:
            ticket.spent = True
            now = self._clock()
            if isinstance(reason, Throttled):
                self._paused_until = max(self._paused_until, now + reason.retry_after)
                if reason.of_upload:
                    self._windows.throttled(ticket, now, reason.retry_after)
                self._gate.give_back(ticket)
                return None
            return self._gate.failed(ticket, reason, now, first=first)

    def probe_now(self) -> None:
        """A person says that it is fixed: the next call may try at once."""
        with self._lock:
            self._paused_until = -math.inf
            self._gate.probe_now(self._clock())

    @property
    def fixed_at(self) -> float:
        """When a person last said that it is fixed, in monotonic seconds."""
        return self._gate.fixed_at

    def hold_with_others(self, reason: SetupFault, *, probe: bool) -> Hold:
        """Every host that shares the app holds; this one sends the ``probe``, or leaves that to another."""
        with self._lock:
            return self._gate.hold_with_others(reason, self._clock(), probe=probe)

    def probe_in(self, seconds: float) -> None:
        """The other hosts are out of reach: probe without them."""
        with self._lock:
            self._gate.probe_in(seconds, self._clock())

    def open(self) -> None:
        """Another host's probe succeeded."""
        with self._lock:
            self._gate.open()

    def _delay(self, now: float, *, fresh: bool) -> float:
        return max(self._closed_for(now), self._windows.delay(now, fresh=fresh))

    def _closed_for(self, now: float) -> float:
        """Seconds for which the gate or a pause lets no call through, whatever the rate limits are."""
        return max(self._gate.delay(now), self._paused_until - now)
