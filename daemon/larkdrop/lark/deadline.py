"""A call has a deadline: one that takes longer is ended, however steadily its bytes trickle in.

The time-out of a socket begins anew with every byte, so a call has to be ended from outside: by one thread for all
calls, which sleeps until the first deadline. It ends where no call is in hand by then; the next call starts another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# Seconds until an overdue call is ended once more, since the first time it may have had no connection yet.
AGAIN = 1.0


class Overdue(TimeoutError):
    """A call was ended at its deadline."""


@dataclass(eq=False)
class Deadline:
    """Of one call. ``end`` ends it, called by another thread."""

    due: float  # monotonic seconds
    end: Callable[[], None]
    passed: bool = False


class Deadlines:
    """The deadlines of all calls in hand. Thread-safe."""

    def __init__(self) -> None:
        self._in_hand: set[Deadline] = set()
        self._changed = threading.Condition()
        self._wakes_at: float | None = None  # monotonic seconds; None while no thread runs

    @contextmanager
    def within(self, seconds: float, end: Callable[[], None]) -> Iterator[Deadline]:
        """Around a call. Raises Overdue where it took longer than ``seconds``, whatever became of it then."""
        deadline = Deadline(time.monotonic() + seconds, end)
        with self._changed:
            if self._wakes_at is None:
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
                self._wakes_at = deadline.due
            elif deadline.due < self._wakes_at:
                self._changed.notify()
            self._in_hand.add(deadline)
        try:
            yield deadline
        finally:
            with self._changed:
                self._in_hand.discard(deadline)
            if deadline.passed:
                raise Overdue(f"not finished within {seconds:.0f} s")

    def _run(self) -> None:
        with self._changed:
            while self._in_hand:
                now = time.monotonic()
                for deadline in self._in_hand:
                    if deadline.due <= now:
                        deadline.passed, deadline.due = True, now + AGAIN
                        with suppress(Exception):  # it ended by itself at this very moment
                            deadline.end()
                self._wakes_at = min(deadline.due for deadline in self._in_hand)
                self._changed.wait(self._wakes_at - now)
            self._wakes_at = None
