"""Which file goes next: fresh before backlog, each path once, and what has to wait does so here.

A drop is fresh for ten seconds from when its file was finished, and the newest second goes first. What could not go by
then is backlog, and so is whatever a rescan found: first come, first served.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from larkdrop.folder.drop import Drop
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import Ticket
from larkdrop.pipeline.job import Job, Outcome
from larkdrop.pipeline.lanes import BackoffLane, Counts, FolderCounts, FreshLane, Lane, LateCount, Place

# Paths that may wait in a lane; past it the folder itself is the queue, and a rescan finds what had no room.
MOST = 10_000
# Seconds for which a drop is fresh.
FRESH_SECONDS = 10.0
# While fresh drops keep coming, one ticket of so many goes to the oldest of the backlog.
SHARE = 20
# Seconds; a shorter wait is not worth a thread's sleep.
SOON = 0.0005


class DropQueue:
    """Between those who find files and the workers. Thread-safe.

    A fresh drop is handed out at once, since it may need no call. A drop of the backlog, and one that is known to need
    a call, is handed out only with a ticket for it.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for workers: one looks, and has the next one look
        self._room = threading.Condition(self._lock)  # for the scan
        self._ready = Lane()  # needs no ticket, as far as is known
        self._fresh = FreshLane()
        self._calls = FreshLane()  # fresh, and known to need a ticket
        self._backlog = Lane()
        self._backoff = BackoffLane()
        self._lanes = (self._ready, self._fresh, self._calls, self._backlog, self._backoff)
        self._working: dict[str, Job] = {}  # until it is done: with a worker, the recorder, or waiting for a duplicate
        self._again: dict[str, Job] = {}  # came again while it was worked on
        self._fresh_in_a_row = 0  # tickets since the backlog had one
        self._late = LateCount()
        self.scan_waits = False  # until there is room in the backlog
        self._idle = 0  # workers that wait for a job
        self._handed_out = 0
        self._overflowed = False
        self._stopped = False

    def put(self, drop: Drop) -> None:
        """A drop that goes first while it is fresh, and ends a pause that the same path was in.

        What a scan found and had to settle is backlog, and changes nothing where the path waits already.
        """
        with self._lock:
            if drop.by_scan and (self._holds(drop.path) or drop.path in self._again):
                return
            now = self._clock()
            fresh_until = -math.inf if drop.by_scan else now + FRESH_SECONDS
            job = Job(drop, fresh_until, now, outcome=self._forget(drop.path))
            if drop.path in self._working:
                self._again[drop.path] = job
            else:
                self._line_up(job)
                self._changed.notify()

    def put_backlog(self, drop: Drop) -> bool:
        """A drop that a scan found. Waits while the backlog is full; False once stopped."""
        with self._lock:
            while len(self._backlog) >= MOST and not self._stopped:
                self.scan_waits = True
                self._room.wait()
            self.scan_waits = False
            if not self._holds(drop.path) and drop.path not in self._working:
                self._backlog.add(Job(drop, queued_at=self._clock()))
                self._changed.notify()
            return not self._stopped

    def take(self) -> Job | None:
        """The next job; waits for one. None once stopped."""
        with self._lock:
            while not self._stopped:
                if job := self._take():
                    return job
                self._idle += 1
                self._changed.wait(self._pause())
                self._idle -= 1
        return None

    def done(self, job: Job) -> None:
        """The job ended, whatever came of it."""
        with self._lock:
            if self._superseded(job):
                self._changed.notify()

    def wait_for_ticket(self, job: Job) -> None:
        """The job needs a call, and had no ticket for it."""
        with self._lock:
            if not self._superseded(job):
                self._line_up(job, needs_call=True)
            self._changed.notify()

    def look_again(self, job: Job) -> None:
        """The job is to be looked at again at once: it may need no call."""
        with self._lock:
            if not self._superseded(job):
                self._ready.add(job)
            self._changed.notify()

    def retry_later(self, job: Job, pause: float) -> None:
        """The job can't get on for now; hand it out again in ``pause`` seconds."""
        with self._lock:
            job.due = self._clock() + pause
            if not self._superseded(job):
                if len(self._backoff) >= MOST and job.outcome is None:
                    self._overflowed = True
                else:
                    self._backoff.add(job)
            self._changed.notify()

    @property
    def has_room_for_outcomes(self) -> bool:
        """Whether there may be more that wait to be recorded: other files than these have no more than ``MOST``."""
        return len(self._backoff) < 2 * MOST

    def overflow(self) -> None:
        """A file had no room, here or on its way here: a rescan has to find it again."""
        with self._lock:
            self._overflowed = True

    def take_overflow(self) -> bool:
        """Whether files had no room, and there is room by now; says so once."""
        with self._lock:
            is_due = self._overflowed and max(len(self._backlog), len(self._backoff)) < MOST // 2
            self._overflowed = self._overflowed and not is_due
            return is_due

    @property
    def late(self) -> int:
        """How many drops of the last minute could not go while they were fresh."""
        with self._lock:
            return self._late.within(self._clock())

    def counts(self) -> Counts:
        """How many paths are where."""
        with self._lock:
            fresh = len(self._ready) + len(self._fresh) + len(self._calls)
            return Counts(fresh, len(self._backlog), len(self._backoff), len(self._working))

    def needs_calls(self) -> tuple[int, int, int]:
        """How many calls may be needed for fresh drops and for the backlog; and how many paths wait in all."""
        with self._lock:
            fresh = len(self._fresh) + len(self._calls)
            return fresh, len(self._backlog), sum(map(len, self._lanes))

    def left(self, settling: Callable[[], set[str]]) -> int:
        """How many paths are in here or among ``settling``, which is asked while nothing moves between the two.

        A file that a scan and an event found at the same time may be in both for a moment, and counts once.
        """
        with self._lock:
            places = (*self._lanes, self._working)
            return sum(map(len, places)) + len(settling().difference(*places))

    def by_folder(self) -> dict[Path, FolderCounts]:
        """How many paths of each folder are where, and how long the oldest has waited; of folders that have some."""
        with self._lock:
            now = self._clock()
            fresh = (*self._ready.values(), *self._fresh.values(), *self._calls.values())
            lanes = (fresh, tuple(self._backlog.values()), tuple(self._backoff.values()), tuple(self._working.values()))
        numbers: dict[Path, list[int]] = {}
        oldest: dict[Path, float] = {}
        for place, jobs in enumerate(lanes):
            for job in jobs:
                folder = job.watch.path
                numbers.setdefault(folder, [0] * len(lanes))[place] += 1
                if jobs is not lanes[-1]:
                    oldest[folder] = min(oldest.get(folder, now), job.queued_at)
        return {folder: FolderCounts(Counts(*n), now - oldest.get(folder, now)) for folder, n in numbers.items()}

    def jobs(self) -> tuple[Job, ...]:
        """Every job that is not done."""
        with self._lock:
            return tuple(job for jobs in (*self._lanes, self._working) for job in jobs.values())

    def in_backoff(self) -> list[str]:
        """The paths that wait for their next try."""
        with self._lock:
            return list(self._backoff)

    def place(self, path: str) -> Place | None:
        """Where a path is now, None where it is not in here."""
        with self._lock:
            if job := self._working.get(path):
                return Place(job, "working", 0)
            if job := self._backoff.get(path):
                return Place(job, "backoff" if job.failures else "waiting", 0)
            lanes = (self._ready.values(), self._fresh.in_order(), self._calls.in_order(), self._backlog.values())
            waiting = enumerate(chain(*lanes))
            return next((Place(job, "waiting", ahead) for ahead, job in waiting if job.path == path), None)

    def activity(self) -> tuple[bool, int]:
        """Whether a job that may go now waits while a worker is idle, and how many jobs were handed out."""
        with self._lock:
            pause = 0.0 if self._ready or self._fresh else self._pause()
            return self._idle > 0 and pause is not None and pause <= SOON, self._handed_out

    def longest_in_hand(self) -> float:
        """For how many seconds a worker has had its job; the longest of all, 0 where none has one."""
        with self._lock:
            now = self._clock()
            return max((now - job.taken_at for job in self._working.values() if job.taken_at < now), default=0.0)

    def wake(self) -> None:
        """Something outside changed: look again whether anything may go."""
        with self._lock:
            self._changed.notify()

    def retry_now(self) -> None:
        """A person says that it is fixed: what failed for now needs to wait no longer."""
        with self._lock:
            self._backoff.end_pauses(self._clock())
            self._changed.notify()

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()
            self._room.notify_all()

    def _take(self) -> Job | None:
        if job := self._next():
            self._working[job.path] = job
            job.taken_at = self._clock()
            self._handed_out += 1
            if any(self._lanes):
                self._changed.notify()  # another worker looks whether more may go
        return job

    def _next(self) -> Job | None:
        now = self._clock()
        while self._backoff.first_due() <= now:  # it was in backoff for long enough
            self._line_up(self._backoff.pop_first(), needs_call=True)
        for lane in (self._fresh, self._calls):
            while lane.is_late(now):
                self._be_late(lane.pop_oldest())
        if self._ready:
            return self._ready.pop_first()
        # The backlog's turn, also on what is reserved for fresh drops: they would leave it nothing else.
        if self._backlog and self._fresh_in_a_row >= SHARE - 1 and (ticket := self._pace.ticket(fresh=True)):
            return self._from_backlog(ticket)
        if self._fresh:
            return self._with_ticket(self._fresh.pop_first(), self._pace.ticket(fresh=True))
        if self._calls and (ticket := self._pace.ticket(fresh=True)):
            return self._with_ticket(self._calls.pop_first(), ticket)
        if self._backlog and (ticket := self._pace.ticket(fresh=False)):
            return self._from_backlog(ticket)
        return None

    def _with_ticket(self, job: Job, ticket: Ticket | None) -> Job:
        job.ticket = ticket
        self._fresh_in_a_row += ticket is not None
        return job

    def _from_backlog(self, ticket: Ticket) -> Job:
        self._fresh_in_a_row = 0
        job = self._backlog.pop_first()
        self._tell_of_room()
        job.ticket = ticket
        return job

    def _tell_of_room(self) -> None:
        """A scan that waits may go on; not for each single place."""
        if len(self._backlog) <= MOST // 2:
            self._room.notify_all()

    def _pause(self) -> float | None:
        """Seconds until something may go that can't go now; None for as long as nothing new happens."""
        wait = self._backoff.first_due() - self._clock()
        if self._calls:
            wait = min(wait, self._pace.delay(fresh=True))
        if self._backlog:
            wait = min(wait, self._pace.delay(fresh=False))
        return None if wait == math.inf else max(wait, SOON)

    def _be_late(self, job: Job) -> None:
        """What could not go while it was fresh is backlog."""
        self._late.add(self._clock())
        job.fresh_until = -math.inf
        self._line_up(job)

    def _line_up(self, job: Job, *, needs_call: bool = False) -> None:
        """Put a job where it waits."""
        if job.outcome or job.is_locked:  # only to be recorded, or to see whether its file is free
            self._ready.add(job)
        elif job.fresh_until > self._clock():
            lane = self._calls if needs_call else self._fresh
            lane.add(job)
            if len(lane) > MOST:
                self._be_late(lane.pop_oldest())
        elif len(self._backlog) < 2 * MOST:
            add = self._backlog.add if job.failures else self._backlog.add_in_turn
            add(job)
        else:
            self._overflowed = True

    def _holds(self, path: str) -> bool:
        return any(path in lane for lane in self._lanes)

    def _forget(self, path: str) -> Outcome | None:
        """Drop the jobs of a path; an outcome that was still to be recorded is returned."""
        jobs = [lane.pop(path) for lane in self._lanes if path in lane]
        self._tell_of_room()
        return next((job.outcome for job in jobs if job.outcome), None)

    def _superseded(self, job: Job) -> bool:
        """End the work on a job. True where the same path came again meanwhile, which goes on with the outcome."""
        job.ticket = None
        self._working.pop(job.path, None)
        again = self._again.pop(job.path, None)
        if again:
            again.outcome = job.outcome
            self._line_up(again)
        return again is not None
