"""Fresh before backlog, each path once, and nobody waits inside a worker."""

from __future__ import annotations

import heapq
import math
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from larkdrop.errors import LarkdropError
from larkdrop.folder.drop import Drop
from larkdrop.lark.pace import Pace, Ticket
from larkdrop.progress import waiting
from larkdrop.recorder import Entry
from larkdrop.settings import Watch

# Paths held in each lane; past it the folder itself is the queue, and a rescan finds what had no room.
MOST = 10_000
# Seconds; a shorter wait is not worth a thread's sleep.
SOON = 0.0005


@dataclass(eq=False)
class Job:
    """One file's way. ``ticket`` is the leave for a call that came with it, if there was one."""

    drop: Drop
    fresh: bool
    ticket: Ticket | None = None
    calls: int = 0  # made for this file so far
    failures: int = 0  # of its calls, in a row
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


@dataclass(eq=False)
class _Lane:
    """First in, first out; each path once."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def pop(self) -> Job | None:
        return self.jobs.pop(next(iter(self.jobs))) if self.jobs else None


class DropQueue:
    """Between those who find files and the workers. Thread-safe.

    A fresh drop is handed out at once, since it may need no call. A drop of the backlog, and one that is known to need
    a call, is handed out only with a ticket for it.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for workers
        self._room = threading.Condition(self._lock)  # for the scan
        self._fresh = _Lane()
        self._calls = _Lane()  # fresh, looked at, in want of a ticket
        self._backlog = _Lane()
        self._backoff: list[tuple[float, int, Job]] = []
        self._in_backoff: dict[str, Job] = {}
        self._working: dict[str, Job] = {}
        self._again: dict[str, Job] = {}  # came again while it was worked on
        self._pushed = 0
        self._idle = 0  # workers that wait for a job
        self._due = math.inf  # monotonic seconds until which one of them keeps the time for all
        self._handed_out = 0
        self._stopped = False
        self.overflowed = False

    def put(self, drop: Drop) -> None:
        """A fresh drop; it overtakes the backlog, and ends a pause that the same path was in."""
        with self._changed:
            job = Job(drop, fresh=True, entry=self._forget(drop.path))
            if drop.path in self._working:
                self._again[drop.path] = job
            elif len(self._fresh.jobs) >= MOST:
                self.overflowed = True
            else:
                self._fresh.jobs[drop.path] = job
                self._changed.notify()

    def put_backlog(self, drop: Drop) -> bool:
        """A drop that a scan found. Waits while the backlog is full; False once stopped."""
        with self._changed:
            while len(self._backlog.jobs) >= MOST and not self._stopped:
                with waiting:
                    self._room.wait()
            if not self._known(drop.path):
                self._backlog.jobs[drop.path] = Job(drop, fresh=False)
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
                self._wait_for_call(job)
            self._changed.notify()

    def soon(self, job: Job) -> None:
        """The job waited for another with the same content, and may need no call now."""
        with self._changed:
            job.ticket = None
            if self._leave(job):
                self._fresh.jobs[job.drop.path] = job
            self._changed.notify()

    def later(self, job: Job, pause: float) -> None:
        """The job failed for now; hand it out again in ``pause`` seconds."""
        with self._changed:
            job.ticket = None
            job.due = time.monotonic() + pause
            if self._leave(job):
                if len(self._in_backoff) >= MOST:
                    self.overflowed = True
                else:
                    self._pushed += 1
                    heapq.heappush(self._backoff, (job.due, self._pushed, job))
                    self._in_backoff[job.drop.path] = job
            self._changed.notify()

    def counts(self) -> Counts:
        """How many paths are where."""
        with self._changed:
            fresh = len(self._fresh.jobs) + len(self._calls.jobs)
            return Counts(fresh, len(self._backlog.jobs), len(self._in_backoff), len(self._working))

    def counts_of(self, watch: Watch) -> Counts:
        """How many paths of one folder are where."""
        with self._changed:
            lanes = (self._fresh.jobs, self._calls.jobs, self._backlog.jobs, self._in_backoff, self._working)
            fresh, calls, backlog, backoff, working = (
                sum(job.drop.watch == watch for job in lane.values()) for lane in lanes
            )
            return Counts(fresh + calls, backlog, backoff, working)

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
            ahead = 0
            for lane in (self._fresh, self._calls, self._backlog):
                if job := lane.jobs.get(path):
                    return Place(job, "waiting", ahead + list(lane.jobs).index(path))
                ahead += len(lane.jobs)
        return None

    def look(self) -> tuple[bool, int]:
        """Whether a job that may go now waits while a worker is idle, and how many jobs were handed out."""
        with self._changed:
            pause = 0.0 if self._fresh.jobs else self._pause()
            return self._idle > 0 and pause is not None and pause <= SOON, self._handed_out

    def wake(self) -> None:
        """Something outside changed: look again whether anything may go."""
        with self._changed:
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
                if self._fresh.jobs or self._calls.jobs or self._backlog.jobs or self._backoff:
                    self._changed.notify()
            return job

    def _wait(self) -> None:
        """Until something may go, as far as can be told."""
        with self._changed:
            if self._stopped or self._fresh.jobs:
                return
            self._idle += 1
            pause = self._pause()
            due = math.inf if pause is None else time.monotonic() + pause
            if due < self._due:
                self._due = due
                self._changed.wait(pause)
                self._due = math.inf
            else:
                self._changed.wait()
            self._idle -= 1

    def _next(self) -> Job | None:
        now = time.monotonic()
        while self._backoff and (self._backoff[0][0] <= now or self._gone(self._backoff[0][2])):
            due = heapq.heappop(self._backoff)[2]
            if not self._gone(due):
                del self._in_backoff[due.drop.path]
                self._wait_for_call(due)
        if fresh_job := self._fresh.pop():
            fresh_job.ticket = self._pace.ticket(fresh=True)
            return fresh_job
        for lane, fresh in ((self._calls, True), (self._backlog, False)):
            if lane.jobs and (ticket := self._pace.ticket(fresh=fresh)):
                job = lane.pop()
                if job:
                    job.ticket = ticket
                    if lane is self._backlog and len(lane.jobs) == MOST // 2:
                        self._room.notify_all()
                    return job
        return None

    def _wait_for_call(self, job: Job) -> None:
        if job.entry:  # only the recording is left
            self._fresh.jobs[job.drop.path] = job
            return
        lane = self._calls if job.fresh else self._backlog
        if len(lane.jobs) < 2 * MOST:
            lane.jobs[job.drop.path] = job
        else:
            self.overflowed = True

    def _pause(self) -> float | None:
        """Seconds until something may go that can't go now; None for as long as nothing new happens."""
        waits = [self._backoff[0][0] - time.monotonic()] if self._backoff else []
        waits += [self._pace.delay(fresh=True)] if self._calls.jobs else []
        waits += [self._pace.delay(fresh=False)] if self._backlog.jobs else []
        wait = min(waits, default=math.inf)
        return None if wait == math.inf else max(wait, SOON)

    def _known(self, path: str) -> bool:
        lanes = (self._fresh.jobs, self._calls.jobs, self._backlog.jobs, self._in_backoff, self._working)
        return any(path in lane for lane in lanes)

    def _forget(self, path: str) -> Entry | None:
        """Drop the jobs of a path; an outcome that was still to be recorded is returned."""
        lanes = (self._fresh.jobs, self._calls.jobs, self._backlog.jobs, self._in_backoff)
        jobs = [lane.pop(path) for lane in lanes if path in lane]
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
            self._fresh.jobs[path] = again
            self._changed.notify()
        return again is None
