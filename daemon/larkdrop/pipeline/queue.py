"""Fresh before backlog, each path once, and nobody waits inside a worker.

A drop is fresh for ten seconds from when its file was finished, and the newest second goes first. What could not go by
then is backlog, and so is whatever a scan found: first come, first served.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from larkdrop.config.settings import Watch
from larkdrop.errors import LarkdropError
from larkdrop.folder.drop import Drop
from larkdrop.lark.pace import Pace
from larkdrop.lark.ticket import Ticket
from larkdrop.pipeline.recorder import Entry
from larkdrop.progress import waiting

# Paths held in each lane; past it the folder itself is the queue, and a rescan finds what had no room.
MOST = 10_000
# Seconds for which a drop is fresh.
FRESH_SECONDS = 10.0
# While fresh drops keep coming, one ticket of so many goes to the oldest of the backlog.
SHARE = 20
# Seconds over which drops that could not go while they were fresh are counted.
LATE_SECONDS = 60
# Seconds; a shorter wait is not worth a thread's sleep.
SOON = 0.0005


@dataclass(eq=False)
class Job:
    """One file's way. ``ticket`` is the leave for a call that came with it, if there was one."""

    drop: Drop
    fresh_until: float = -math.inf  # monotonic seconds
    ticket: Ticket | None = None
    calls: int = 0  # made for this file so far
    failures: int = 0  # of its calls, in a row
    refused: int = 0  # calls that were refused as such while others succeeded
    refused_at: float = 0.0  # monotonic seconds of the first of these
    due: float = 0.0  # monotonic seconds, while in backoff
    entry: Entry | None = None  # the outcome, known but not yet recorded everywhere
    claim: object = None  # what nobody else uploads meanwhile
    fault: LarkdropError | None = None  # of the last call that failed


@dataclass(frozen=True)
class Counts:
    """How many paths are where."""

    fresh: int
    backlog: int
    backoff: int
    working: int

    def fields(self) -> dict[str, int]:
        """As JSON."""
        return {"waiting": self.fresh + self.backlog, "in_backoff": self.backoff, "uploading": self.working}

    @property
    def waiting(self) -> int:
        return self.fresh + self.backlog + self.backoff


@dataclass(frozen=True)
class Place:
    """Where one path is: being worked on, in backoff until ``job.due``, or waiting behind ``ahead`` others."""

    job: Job
    where: Literal["working", "backoff", "waiting"]
    ahead: int


class _FreshLane:
    """Fresh jobs: the newest second first, and within a second in order; each path once."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[str, Job]] = {}
        self._second_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._second_of)

    def __contains__(self, path: str) -> bool:
        return path in self._second_of

    def __iter__(self) -> Iterator[Job]:
        return (job for second in sorted(self._seconds, reverse=True) for job in self._seconds[second].values())

    def add(self, job: Job) -> None:
        second = int(job.fresh_until)
        self._second_of[job.drop.path] = second
        self._seconds.setdefault(second, {})[job.drop.path] = job

    def pop(self, path: str) -> Job:
        second = self._second_of.pop(path)
        job = self._seconds[second].pop(path)
        if not self._seconds[second]:
            del self._seconds[second]
        return job

    def pop_newest(self) -> Job:
        return self.pop(next(iter(self._seconds[max(self._seconds)])))

    def pop_oldest(self) -> Job:
        return self.pop(next(iter(self._seconds[min(self._seconds)])))

    def is_late(self, now: float) -> bool:
        """Whether the oldest second is over."""
        return bool(self._seconds) and min(self._seconds) <= now - 1


class DropQueue:
    """Between those who find files and the workers. Thread-safe.

    A fresh drop is handed out at once, since it may need no call. A drop of the backlog, and one that is known to need
    a call, is handed out only with a ticket for it.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for workers
        self._room = threading.Condition(self._lock)  # for the scan
        self._ready: dict[str, Job] = {}  # in want of no ticket, as far as is known
        self._fresh = _FreshLane()
        self._calls = _FreshLane()  # looked at, in want of a ticket
        self._backlog: dict[str, Job] = {}
        self._backoff: list[tuple[float, int, Job]] = []
        self._in_backoff: dict[str, Job] = {}
        self._lanes = (self._ready, self._fresh, self._calls, self._backlog, self._in_backoff)
        self._working: dict[str, Job] = {}
        self._again: dict[str, Job] = {}  # came again while it was worked on
        self._pushed = 0
        self._fresh_in_a_row = 0  # tickets since the backlog had one
        self._late: Counter[int] = Counter()  # drops that could not go while they were fresh, by the second
        self._idle = 0  # workers that wait for a job
        self._due = math.inf  # monotonic seconds until which one of them keeps the time for all
        self._handed_out = 0
        self._stopped = False
        self.overflowed = False

    def put(self, drop: Drop) -> None:
        """A drop that goes first while it is fresh, and ends a pause that the same path was in.

        What a scan found and had to settle is backlog, and changes nothing where the path is known already.
        """
        with self._changed:
            if drop.by_scan and (self._holds(drop.path) or drop.path in self._again):
                return
            fresh_until = -math.inf if drop.by_scan else self._clock() + FRESH_SECONDS
            job = Job(drop, fresh_until, entry=self._forget(drop.path))
            if drop.path in self._working:
                self._again[drop.path] = job
            else:
                self._line_up(job)
            self._changed.notify()

    def put_backlog(self, drop: Drop) -> bool:
        """A drop that a scan found. Waits while the backlog is full; False once stopped."""
        with self._changed:
            while len(self._backlog) >= MOST and not self._stopped:
                with waiting:
                    self._room.wait()
            if not self._holds(drop.path) and drop.path not in self._working:
                self._backlog[drop.path] = Job(drop)
                self._changed.notify()
            return not self._stopped

    def take(self) -> Job | None:
        """The next job; waits for one. None once stopped."""
        while not self._stopped:
            if job := self._take():
                return job
            with waiting:  # and only then for a turn, so that no ticket grows old over it
                self._wait()
        return None

    def done(self, job: Job) -> None:
        """The job ended, whatever came of it."""
        with self._changed:
            self._leave(job)

    def back(self, job: Job) -> None:
        """The job needs a call, and had no ticket for it."""
        with self._changed:
            job.ticket = None
            if self._leave(job):
                self._line_up(job, looked=True)
            self._changed.notify()

    def soon(self, job: Job) -> None:
        """The job waited for another with the same content, and may need no call now."""
        with self._changed:
            job.ticket = None
            if self._leave(job):
                self._ready[job.drop.path] = job
            self._changed.notify()

    def later(self, job: Job, pause: float) -> None:
        """The job failed for now; hand it out again in ``pause`` seconds."""
        with self._changed:
            job.ticket = None
            job.due = self._clock() + pause
            if self._leave(job):
                if len(self._in_backoff) >= MOST and job.entry is None:
                    self.overflowed = True
                else:
                    self._pushed += 1
                    heapq.heappush(self._backoff, (job.due, self._pushed, job))
                    self._in_backoff[job.drop.path] = job
            self._changed.notify()

    @property
    def late(self) -> int:
        """How many drops of the last minute could not go while they were fresh."""
        with self._changed:
            since = self._clock() - LATE_SECONDS
            return sum(count for second, count in self._late.items() if second > since)

    def counts(self) -> Counts:
        """How many paths are where."""
        with self._changed:
            fresh = len(self._ready) + len(self._fresh) + len(self._calls)
            return Counts(fresh, len(self._backlog), len(self._in_backoff), len(self._working))

    def counts_of(self, watch: Watch) -> Counts:
        """How many paths of one folder are where."""
        with self._changed:
            first = chain(self._ready.values(), self._fresh, self._calls)
            lanes = (first, self._backlog.values(), self._in_backoff.values(), self._working.values())
            return Counts(*(sum(job.drop.watch == watch for job in jobs) for jobs in lanes))

    def jobs(self) -> tuple[Job, ...]:
        """Every job that is not done."""
        with self._changed:
            return tuple(self._all())

    def every(self, condition: Callable[[Job], bool]) -> bool:
        """Whether a condition holds for every job that is not done."""
        with self._changed:
            return all(map(condition, self._all()))

    def in_backoff(self) -> list[str]:
        """The paths that wait for their next try."""
        with self._changed:
            return list(self._in_backoff)

    def place(self, path: str) -> Place | None:
        """Where a path is now, None where it is not in here."""
        with self._changed:
            if job := self._working.get(path):
                return Place(job, "working", 0)
            if job := self._in_backoff.get(path):
                return Place(job, "backoff", 0)
            order = chain(self._ready.values(), self._fresh, self._calls, self._backlog.values())
            return next((Place(job, "waiting", n) for n, job in enumerate(order) if job.drop.path == path), None)
        return None

    def look(self) -> tuple[bool, int]:
        """Whether a job that may go now waits while a worker is idle, and how many jobs were handed out."""
        with self._changed:
            pause = 0.0 if self._ready or self._fresh else self._pause()
            return self._idle > 0 and pause is not None and pause <= SOON, self._handed_out

    def wake(self) -> None:
        """Something outside changed: look again whether anything may go."""
        with self._changed:
            self._changed.notify()

    def retry_now(self) -> None:
        """A person says that it is fixed: what failed for now needs to wait no longer."""
        with self._changed:
            for job in self._in_backoff.values():
                job.due = self._clock()
            self._backoff = [(job.due, number, job) for number, job in enumerate(self._in_backoff.values())]
            self._changed.notify()

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            self._room.notify_all()

    def _take(self) -> Job | None:
        with self._changed:
            job = None if self._stopped else self._next()
            if job:
                self._working[job.drop.path] = job
                self._handed_out += 1
                if self._ready or self._fresh or self._calls or self._backlog or self._backoff:
                    self._changed.notify()
            return job

    def _wait(self) -> None:
        """Until something may go, as far as can be told."""
        with self._changed:
            if self._stopped or self._ready or self._fresh:
                return
            self._idle += 1
            pause = self._pause()
            due = math.inf if pause is None else self._clock() + pause
            if due < self._due:
                self._due = due
                self._changed.wait(pause)
                self._due = math.inf
            else:
                self._changed.wait()
            self._idle -= 1

    def _next(self) -> Job | None:
        self._end_pauses()
        self._end_freshness()
        if self._ready:
            return _first(self._ready)
        if self._backlog and self._fresh_in_a_row >= SHARE - 1 and (ticket := self._pace.ticket(fresh=True)):
            return self._from_backlog(ticket)
        if self._fresh:
            return self._with_ticket(self._fresh.pop_newest(), self._pace.ticket(fresh=True))
        if self._calls and (ticket := self._pace.ticket(fresh=True)):
            return self._with_ticket(self._calls.pop_newest(), ticket)
        if self._backlog and (ticket := self._pace.ticket(fresh=False)):
            return self._from_backlog(ticket)
        return None

    def _with_ticket(self, job: Job, ticket: Ticket | None) -> Job:
        job.ticket = ticket
        self._fresh_in_a_row += ticket is not None
        return job

    def _from_backlog(self, ticket: Ticket) -> Job:
        self._fresh_in_a_row = 0
        if len(self._backlog) == MOST // 2:
            self._room.notify_all()
        job = _first(self._backlog)
        job.ticket = ticket
        return job

    def _end_pauses(self) -> None:
        """What was in backoff for long enough lines up again."""
        while self._backoff and (self._backoff[0][0] <= self._clock() or self._gone(self._backoff[0][2])):
            due = heapq.heappop(self._backoff)[2]
            if not self._gone(due):
                del self._in_backoff[due.drop.path]
                self._line_up(due, looked=True)

    def _end_freshness(self) -> None:
        """What could not go while it was fresh is backlog."""
        now = self._clock()
        for lane in (self._fresh, self._calls):
            while lane.is_late(now):
                self._be_late(lane.pop_oldest())

    def _be_late(self, job: Job) -> None:
        second = int(self._clock())
        self._late[second] += 1
        if len(self._late) > 2 * LATE_SECONDS:
            self._late = Counter({at: count for at, count in self._late.items() if at > second - LATE_SECONDS})
        job.fresh_until = -math.inf
        self._line_up(job)

    def _line_up(self, job: Job, *, looked: bool = False) -> None:
        """Where a job waits; ``looked`` where it is known that it needs a call."""
        if job.entry:  # only the recording is left
            self._ready[job.drop.path] = job
        elif job.fresh_until > self._clock():
            lane = self._calls if looked else self._fresh
            lane.add(job)
            if len(lane) > MOST:
                self._be_late(lane.pop_oldest())
        elif len(self._backlog) < 2 * MOST:
            self._backlog[job.drop.path] = job
        else:
            self.overflowed = True

    def _pause(self) -> float | None:
        """Seconds until something may go that can't go now; None for as long as nothing new happens."""
        waits = [self._backoff[0][0] - self._clock()] if self._backoff else []
        waits += [self._pace.delay(fresh=True)] if self._calls else []
        waits += [self._pace.delay(fresh=False)] if self._backlog else []
        wait = min(waits, default=math.inf)
        return None if wait == math.inf else max(wait, SOON)

    def _all(self) -> Iterator[Job]:
        first = chain(self._ready.values(), self._fresh, self._calls)
        return chain(first, self._backlog.values(), self._in_backoff.values(), self._working.values())

    def _holds(self, path: str) -> bool:
        return any(path in lane for lane in self._lanes)

    def _forget(self, path: str) -> Entry | None:
        """Drop the jobs of a path; an outcome that was still to be recorded is returned."""
        jobs = [lane.pop(path) for lane in self._lanes if path in lane]
        return next((job.entry for job in jobs if job.entry), None)

    def _gone(self, job: Job) -> bool:
        return self._in_backoff.get(job.drop.path) is not job

    def _leave(self, job: Job) -> bool:
        """End the work on a job. False where the same path came again meanwhile, which then goes first."""
        path = job.drop.path
        self._working.pop(path, None)
        again = self._again.pop(path, None)
        if again:
            again.entry = job.entry
            self._line_up(again)
            self._changed.notify()
        return again is None


def _first(lane: dict[str, Job]) -> Job:
    """Take the one that has waited longest."""
    return lane.pop(next(iter(lane)))
