"""Queue, pace and a platform with limits of its own, on a clock that the simulation turns: minutes pass in a second."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from larkdrop.config.settings import Watch
from larkdrop.errors import Throttled
from larkdrop.folder.drop import Drop
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.pipeline.job import Job
from larkdrop.pipeline.queue import DropQueue

# Seconds by which the clock moves at a time.
TICK = 0.02


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Platform:
    """A Lark that enforces its limits, and throttles a part of the calls besides for no reason at all."""

    per_second: int = 50
    per_minute: int = 1000
    random_throttles: float = 0.0
    taken: deque[float] = field(default_factory=deque)
    throttled: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def call(self, now: float) -> Throttled | None:
        """Take a picture, or say how long to wait, in whole seconds."""
        while self.taken and self.taken[0] <= now - 60:
            self.taken.popleft()
        wait = 0.0
        if len(self.taken) >= self.per_minute:
            wait = self.taken[-self.per_minute] + 60 - now
        elif len(self.taken) >= self.per_second and self.taken[-self.per_second] > now - 1:
            wait = self.taken[-self.per_second] + 1 - now
        elif self.dice.random() < self.random_throttles:
            wait = 1.0
        if not wait:
            self.taken.append(now)
            return None
        self.throttled += 1
        fault = Throttled("slow down")
        fault.retry_after = float(max(1, -int(-wait // 1)))
        return fault


class Simulation:
    """16 workers whose calls take 200 ms; every picture needs a call."""

    def __init__(self, per_second: int = 50, per_minute: int = 1000, platform: Platform | None = None) -> None:
        self.clock = Clock()
        self.began = self.clock.now
        self.platform = platform or Platform(per_second, per_minute)
        self.pace = Pace(
            LocalWindows(per_second, per_minute), probe_seconds=60, pauses=lambda: repeat(1.0), clock=self.clock
        )
        self.queue = DropQueue(self.pace, self.clock)
        self.watch = Watch(path=Path(__file__).parent)  # any folder that is there
        self.dropped: dict[str, float] = {}
        self.started: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self._calls: list[tuple[float, Job, Throttled | None]] = []

    @property
    def now(self) -> float:
        """Seconds since the simulation began."""
        return self.clock.now - self.began

    def drop(self, name: str) -> None:
        """A writer closed a picture."""
        self.dropped[name] = self.now
        self.queue.put(Drop(f"/inbox/{name}", self.watch, closed=True))

    def found(self, name: str) -> None:
        """A scan found a picture."""
        self.dropped[name] = self.now
        assert self.queue.put_backlog(Drop(f"/inbox/{name}", self.watch, by_scan=True))

    def run_until(self, seconds: float) -> None:
        """Let time pass until ``seconds`` after the beginning."""
        while self.now < seconds - TICK / 2:
            self._work()
            self.clock.now += TICK

    def wait(self, name: str) -> float:
        """Seconds from a drop until its call began; until now, where it did not begin yet."""
        return self.started.get(name, self.now) - self.dropped[name]

    def by_minute(self) -> Counter[int]:
        """How many were done in each minute."""
        return Counter(int(at // 60) for at in self.done.values())

    def _next(self) -> Job | None:
        with self.queue._lock:
            return self.queue._take()

    def _work(self) -> None:
        ended = [call for call in self._calls if call[0] <= self.clock.now]
        self._calls = [call for call in self._calls if call[0] > self.clock.now]
        for _, called, fault in ended:
            assert called.ticket
            if fault:
                self.pace.failed(called.ticket, fault, first=False)
                self.queue.wait_for_ticket(called)
            else:
                self.pace.succeeded(called.ticket)
                self.done[Path(called.drop.path).name] = self.now
                self.queue.done(called)
        while len(self._calls) < 16 and (job := self._next()):
            if job.ticket:
                self.started[Path(job.drop.path).name] = self.now
                self._calls.append((self.clock.now + 0.2, job, self.platform.call(self.clock.now)))
            else:
                self.queue.wait_for_ticket(job)
