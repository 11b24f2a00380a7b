"""What is in flight at the same time: pictures that are uploaded and not safely recorded, and their bytes in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from larkdrop.pipeline.queue import Job
from larkdrop.progress import waiting


class Twin(Exception):
    """The same content is being uploaded already; who does that hands this job back to the queue."""


class InFlight:
    """What is being uploaded and not safely recorded yet: at most so much could be uploaded again after a crash.

    The same bytes dropped twice at once go only once.
    """

    def __init__(self, most: int, *, make_room: Callable[[], None], hand_back: Callable[[Job], None]) -> None:
        self._most = most
        self._make_room = make_room
        self._hand_back = hand_back
        self._making_room = threading.Lock()
        self._changed = threading.Condition()
        self._twins: dict[object, list[Job]] = {}

    def claim(self, what: object, job: Job) -> None:
        """Be the one to upload ``what``; or raise Twin, and ``job`` is handed back once that one is finished."""
        if len(self._twins) >= self._most:
            with waiting, self._making_room:  # those who come together want it done once
                if len(self._twins) >= self._most:
                    self._make_room()
        with waiting if len(self._twins) >= self._most else nullcontext(), self._changed:
            self._changed.wait_for(lambda: what in self._twins or len(self._twins) < self._most)
            if what in self._twins:
                self._twins[what].append(job)
                raise Twin
            self._twins[what] = []
            job.claim = what

    def release(self, job: Job) -> None:
        """What ``job`` claimed, if it did, is recorded or given up."""
        if job.claim is None:
            return
        with self._changed:
            twins = self._twins.pop(job.claim)
            self._changed.notify()
        job.claim = None
        for twin in twins:
            self._hand_back(twin)


class Budget:
    """Bytes of pictures in memory at the same time, however many workers there are."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes; waits, for uploads in flight at most, until that many are free."""
        with waiting if self._left < size else nullcontext(), self._changed:
            self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()
