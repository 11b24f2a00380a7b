"""Does every part get on? A thread that neither waits nor gets any further is stuck.

Threads that take turns compute one at a time. Each of a picture's many system calls gives the interpreter's lock away,
and where others want it at once, most of the time goes into switching between them; so a thread lets another one in
only where it comes to a wait.

Costs a few assignments a wait; nothing is computed before somebody looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# Whether a part has something to do, and a number that changes with everything it does.
Look = Callable[[], tuple[bool, int]]
# Seconds after which a thread goes on without its turn, since another was caught in something slow.
PATIENCE = 0.05

_here = threading.local()


@dataclass(eq=False)
class _Thread:
    turn: threading.Lock | None
    waits: bool = False
    steps: int = 0
    has_turn: bool = False

    def look(self) -> tuple[bool, int]:
        return not self.waits, self.steps

    def take_turn(self) -> None:
        if self.turn and not self.has_turn:
            self.has_turn = self.turn.acquire(timeout=PATIENCE)

    def give_turn(self) -> None:
        if self.turn and self.has_turn:
            self.has_turn = False
            self.turn.release()


class _Aside:
    """Around a wait that is known to be short, for a disk: another thread may have the turn meanwhile."""

    def __enter__(self) -> None:
        if thread := getattr(_here, "thread", None):
            thread.give_turn()

    def __exit__(self, *_: object) -> None:
        if thread := getattr(_here, "thread", None):
            thread.take_turn()


class _Waiting:
    """Around whatever may rightly take as long as it likes: for work, for room, for Lark."""

    def begin(self) -> None:
        """The wait begins, where it is not begun yet."""
        if thread := getattr(_here, "thread", None):
            thread.waits = True
            thread.give_turn()

    def end(self) -> None:
        """The wait is over."""
        if thread := getattr(_here, "thread", None):
            thread.take_turn()
            thread.steps += 1
            thread.waits = False

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()


aside, waiting = _Aside(), _Waiting()


def step() -> None:
    """This thread got further in something long."""
    if thread := getattr(_here, "thread", None):
        thread.steps += 1


class Progress:
    """Watches over threads and other parts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._parts: dict[str, Look] = {}
        self._seen: dict[str, tuple[int, float]] = {}

    def add(self, name: str, look: Look) -> None:
        """Watch over a part."""
        self._parts[name] = look

    def run(self, target: Callable[[], None], *, in_turn: bool = False) -> None:
        """Run ``target`` in this thread, and watch over it; that it ended early counts as stuck.

        Of the threads that run ``in_turn``, one at a time computes.
        """
        _here.thread = _Thread(self._turn if in_turn else None)
        self.add(threading.current_thread().name, _here.thread.look)
        _here.thread.take_turn()
        try:
            target()
        finally:
            _here.thread.give_turn()

    def stuck(self, seconds: float) -> list[str]:
        """The parts that had something to do and did nothing for ``seconds``, as far as calls of this have seen."""
        now, late = self._clock(), []
        for name, look in list(self._parts.items()):
            busy, done = look()
            before, since = self._seen.get(name, (None, now))
            if not busy or done != before:
                self._seen[name] = (done, now)
            elif now - since > seconds:
                late.append(name)
        return late
