"""Signals, taken one by one by the main thread while it waits for them.

Not by signal.sigtimedwait(): where a stopped process goes on after its time-out, CPython 3.11 makes a signal up.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import ExitStack
from typing import Self


class Signals(ExitStack):
    """Takes the signals ``wanted``; a context manager. They interrupt no other thread, and the main one in no work."""

    def __init__(self, *wanted: signal.Signals) -> None:
        super().__init__()
        self._wanted = wanted
        self._came = -1

    def __enter__(self) -> Self:
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
        self.callback(signal.pthread_sigmask, signal.SIG_SETMASK, blocked_before)
        self._came, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.callback(os.close, self._came)
        self.callback(os.close, told)
        # The interpreter writes each signal's number there, from whatever it is doing.
        self.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(told, warn_on_full_buffer=False))
        for number in self._wanted:
            self.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        return self

    def wait(self, seconds: float) -> signal.Signals | None:
        """The next signal, or None where none came for ``seconds``."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._wanted)
        try:
            ready, _, _ = select.select([self._came], [], [], seconds)
            return signal.Signals(os.read(self._came, 1)[0]) if ready else None
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
