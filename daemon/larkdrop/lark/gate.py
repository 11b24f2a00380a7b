"""The gate: what holds every call until a probe succeeds. A throttle does not; see `throttling.py`.

- **Something in the set-up is wrong** (wrong credentials, a missing scope, …): closed until a call succeeds. One call,
  the probe, goes every `probe_seconds`, or at once when a person says that it is fixed.
  Where hosts share an app, one of them probes for all (`fleet/gate.py`).
- **An outage**: the first calls of `OUTAGE` pictures in a row failed. Closed until a call succeeds; a probe goes after
  pauses that grow.

Nothing here waits or locks: times are monotonic seconds, given by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from larkdrop.errors import CallFault, LarkdropError, SetupFault
from larkdrop.lark.windows import Ticket

# Begins an outage's pauses: seconds after its first failure, its second, and so on.
Pauses = Callable[[], Iterator[float]]
# Pictures in a row whose first call fails that count as an outage.
OUTAGE = 5


@dataclass(frozen=True)
class Hold:
    """Why calls are held: ``since`` in monotonic seconds; ``person`` is true where the set-up is wrong."""

    reason: LarkdropError
    since: float
    person: bool

    @property
    def needs_person(self) -> bool:
        """Whether somebody has to act before it ends: also where every call is refused as wrong."""
        return self.person or isinstance(self.reason, CallFault)


class Gate:
    """Open, or held until a probe succeeds."""

    def __init__(self, *, probe_seconds: float, pauses: Pauses) -> None:
        self.hold: Hold | None = None
        self._probe_seconds = probe_seconds
        self._new_pauses = pauses
        self._pauses = pauses()  # of the outage
        self._failures = 0  # first calls in a row
        self._probe: Ticket | None = None  # in flight
        self._probe_at = 0.0
        self.fixed_at = -math.inf  # as a person said

    def delay(self, now: float) -> float:
        """Seconds until a call may go; infinite while only the running probe can tell."""
        if self.hold and self._probe:
            return math.inf
        return max(0.0, self._probe_at - now) if self.hold else 0.0

    def let_through(self, ticket: Ticket) -> Ticket:
        """A call is about to go: the probe, where the gate is held. Returns its ticket."""
        if self.hold:
            ticket.probe, self._probe = True, ticket
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """The call was not made: another may be the probe."""
        if self._probe is ticket:
            self._probe = None

    def succeeded(self, ticket: Ticket) -> Hold | None:
        """Lark answered as it should. Returns the hold that this ended, if it did.

        A call from before the hold doesn't show that a person has fixed anything.
        """
        self.give_back(ticket)
        self._failures = 0
        if self.hold and self.hold.person and not ticket.probe:
            return None
        ended, self.hold = self.hold, None
        return ended

    def failed(self, ticket: Ticket, reason: LarkdropError, now: float, *, first: bool) -> Hold | None:
        """The call failed. Returns the hold that this began, if it did.

        ``first`` tells a picture's first failure from those of its retries, so that a few bad pictures are not
        mistaken for an outage however often they fail.
        """
        is_probe = self._probe is ticket
        self.give_back(ticket)
        if isinstance(reason, SetupFault):
            self._probe_in(self._probe_seconds, now, ticket)
            before = self.hold.reason if self.hold and self.hold.person else None
            if before is None or (before.code, before.hint) != (reason.code, reason.hint):
                return self._close(reason, now, person=True)
        elif is_probe:
            person = self.hold is not None and self.hold.person
            self._probe_in(self._probe_seconds if person else next(self._pauses), now, ticket)
        elif first and not self.hold:
            self._failures += 1
            if self._failures >= OUTAGE:
                self._pauses = self._new_pauses()
                self._probe_in(next(self._pauses), now, ticket)
                return self._close(reason, now, person=False)
        return None

    def probe_now(self, now: float) -> None:
        self._probe_at, self.fixed_at = 0.0, now

    def hold_with_others(self, reason: SetupFault, now: float, *, probe: bool) -> Hold:
        """All hosts hold; this one sends the ``probe``, or leaves that to another."""
        self._probe_at = now if probe else math.inf
        if self.hold and self.hold.person:
            return self.hold
        return self._close(reason, now, person=True)

    def probe_in(self, seconds: float, now: float) -> None:
        """Nobody else probes any more."""
        self._probe_at = now + seconds

    def open(self) -> None:
        """Another host's probe succeeded."""
        self.hold, self._failures = None, 0

    def _probe_in(self, seconds: float, now: float, failed: Ticket) -> None:
        """Put the next probe off; but a call from before a person said that it is fixed proves nothing."""
        if failed.at >= self.fixed_at:
            self._probe_at = now + seconds

    def _close(self, reason: LarkdropError, now: float, *, person: bool) -> Hold:
        self.hold = Hold(reason, now, person)
        return self.hold
