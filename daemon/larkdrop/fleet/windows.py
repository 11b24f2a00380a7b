"""The rate windows of a host that shares its app: the database gives tickets in advance, and this hands them out.

While the database is away, or has not been reached yet, the host keeps windows of its own, with its part of the limit.
How tickets are given stands in ``sql/2_functions.sql``. Times are monotonic seconds, as in ``lark/windows.py``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from larkdrop.fleet.gate import PROBE_SECONDS
from larkdrop.lark.windows import LocalWindows, RateWindows, Ticket

# Seconds for which a ticket may be handed out, and in which its call has to begin: less than by what the second's
# window in the database is longer than Lark's.
VALID, BEGIN_WITHIN = 0.2, 0.4
# Seconds by which a call has to be late for the database to be told.
NOTICEABLE = 0.025
# Seconds until another look, where there is no ticket: whoever waits is woken up when one comes.
LOOK = 1.0
# Tickets asked for at once: fewer where some were not used in time, more where as many were given.
FIRST, MOST = 8, 64


@dataclass(frozen=True)
class Lease:
    """A ticket from the database: ``id`` there, and from and until when it may be used."""

    id: int
    at: float
    until: float
    fresh: bool  # for fresh drops only


@dataclass(eq=False)
class LeasedTicket(Ticket):
    """Permission for one call, by the database."""

    lease: Lease | None = None


@dataclass
class Report:
    """What became of tickets since the database was told last."""

    returned: list[int] = field(default_factory=list)  # not used
    late: dict[int, float] = field(default_factory=dict)  # seconds by which the call counts later
    pause: float = 0.0  # seconds that the platform asked to wait


class FleetWindows(RateWindows):
    """Hands out what the database gave. Thread-safe."""

    def __init__(self, per_second: int, per_minute: int, *, notify: Callable[[], None]) -> None:
        """``notify`` is called when the database should be asked for tickets."""
        self._limits = per_second, per_minute
        self._own = LocalWindows(per_second, per_minute)  # this host's calls; decides while it is alone
        self._notify = notify
        self._lock = threading.Lock()
        self._is_alone = True
        self._leases: list[Lease] = []
        self._report = Report()
        self._batch = FIRST
        self._ask_at = {True: -math.inf, False: -math.inf}  # for fresh drops, for the backlog
        self._used, self._part = (0, 0), per_minute  # by the whole fleet, for this host: as the database said last

    @property
    def limits(self) -> tuple[int, int]:
        return self._own.limits if self._is_alone else self._limits

    @property
    def part(self) -> int:
        return self._own.part if self._is_alone else self._part

    def used(self, now: float) -> tuple[int, int]:
        with self._lock:
            return self._own.used(now) if self._is_alone else self._used

    def delay(self, now: float, *, fresh: bool) -> float:
        with self._lock:
            if self._is_alone:
                return self._own.delay(now, fresh=fresh)
            self._expire(now)
            if lease := self._first(fresh=fresh):
                return max(0.0, lease.at - now)
        self._notify()
        return LOOK

    def take(self, now: float, *, fresh: bool) -> Ticket:
        with self._lock:
            ticket = LeasedTicket(**vars(self._own.take(now, fresh=fresh)))
            if not self._is_alone and (lease := self._first(fresh=fresh)):
                self._leases.remove(lease)
                ticket.lease, ticket.until = lease, max(lease.until, lease.at + BEGIN_WITHIN)
            return ticket

    def give_back(self, ticket: Ticket) -> None:
        with self._lock:
            self._own.give_back(ticket)
            if lease := _lease(ticket):
                self._leases = sorted((*self._leases, lease), key=lambda one: one.at)

    def arrived(self, ticket: Ticket, now: float) -> float:
        with self._lock:
            late = self._own.arrived(ticket, now)
            if (lease := _lease(ticket)) and (late := late + ticket.at - lease.at) > NOTICEABLE:
                self._report.late[lease.id] = late
            return late

    def throttled(self, ticket: Ticket, now: float, retry_after: float) -> None:
        with self._lock:
            self._own.throttled(ticket, now, retry_after)
            if lease := _lease(ticket):
                self._report.returned.append(lease.id)
                self._report.pause = max(self._report.pause, retry_after)
        self._notify()

    # What follows is for the one who asks the database.

    def ages(self, now: float) -> list[float]:
        """For how many seconds this host's calls have counted."""
        with self._lock:
            return self._own.ages(now)

    def join(self) -> None:
        """The database has these; from now on it decides."""
        with self._lock:
            self._is_alone = False
            self._report, self._leases = Report(), []
            self._ask_at = {True: -math.inf, False: -math.inf}
            self._own.set_limits(*self._limits)

    def go_alone(self, hosts: int) -> None:
        """The database is away: keep an equal part of the limits, of so many hosts."""
        with self._lock:
            self._leases = []
            self._own.set_limits(*(max(1, limit // hosts) for limit in self._limits))
            self._is_alone = True

    def report(self, now: float) -> Report:
        """What became of tickets since the last report."""
        with self._lock:
            self._expire(now)
            report, self._report = self._report, Report()
            return report

    def wanted(self, now: float, *, fresh: int, backlog: int) -> tuple[int, int]:
        """How many tickets are worth asking for, where so many calls are waiting."""
        with self._lock:
            room = max(0, self._batch - len(self._leases))
            counts = self._missing(fresh=fresh, backlog=backlog)
            asked = [min(count, room) if now >= self._ask_at[kind] else 0 for kind, count in counts.items()]
            return asked[0], asked[1]

    def ask_at(self, *, fresh: int, backlog: int) -> float:
        """When asking is worth it, where so many calls are waiting; infinite where none is."""
        with self._lock:
            if len(self._leases) >= self._batch:
                return math.inf
            wanted = self._missing(fresh=fresh, backlog=backlog)
            return min((self._ask_at[kind] for kind, count in wanted.items() if count > 0), default=math.inf)

    def given(self, answer: dict[str, Any], wanted: tuple[int, int], now: float) -> bool:
        """Keep what the database gave. Whether there are new tickets."""
        with self._lock:
            ids, slots, fresh = answer["ids"], answer["slots"], answer["fresh"]
            probe = answer["probe"]
            for number, (id_, slot) in enumerate(zip(ids, slots, strict=True)):
                at = now + slot - answer["now"]
                until = at + (PROBE_SECONDS if probe else VALID)
                self._leases.append(Lease(id_, at, until, fresh=number < fresh and not probe))
            self._leases.sort(key=lambda one: one.at)
            got = (fresh, len(ids) - fresh)
            self._ask_at = {
                kind: now + again if given < count else now
                for kind, again, given, count in zip((True, False), answer["again"], got, wanted, strict=True)
            }
            if len(ids) - fresh == self._batch:
                self._batch = min(2 * self._batch, MOST)
            self._used, self._part = (answer["used_second"], answer["used_minute"]), answer["level"]
            return bool(ids)

    def _missing(self, *, fresh: int, backlog: int) -> dict[bool, int]:
        """How many tickets are missing for fresh drops, and for the backlog."""
        held = sum(lease.fresh for lease in self._leases)
        return {True: max(0, fresh - held), False: max(0, backlog - (len(self._leases) - held))}

    def _first(self, *, fresh: bool) -> Lease | None:
        return next((lease for lease in self._leases if fresh or not lease.fresh), None)

    def _expire(self, now: float) -> None:
        """Return what was not used in time."""
        late = [lease for lease in self._leases if lease.until < now]
        if late:
            self._leases = [lease for lease in self._leases if lease not in late]
            self._report.returned += [lease.id for lease in late]
            self._batch = max(1, self._batch // 2)


def _lease(ticket: Ticket) -> Lease | None:
    return ticket.lease if isinstance(ticket, LeasedTicket) else None
