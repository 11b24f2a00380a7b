"""Equal pictures are uploaded once: decided here while the first is in flight, and by the key cache after that."""

from __future__ import annotations

import math
import threading

from larkdrop.pipeline.job import Job
from larkdrop.pipeline.queue import DropQueue
from larkdrop.records.key_cache import Content


class Claims:
    """Single flight: the first job with a content uploads it, and the others wait for its key."""

    def __init__(self, queue: DropQueue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._duplicates: dict[Content, list[Job]] = {}
        self._claimed_by: dict[str, Content] = {}  # by path, since another job may take over an outcome

    def claim(self, content: Content, job: Job) -> bool:
        """Be the job that uploads ``content``; False where another one does."""
        with self._lock:
            if content in self._duplicates:
                return False
            self._duplicates[content] = []
            self._claimed_by[job.path] = content
        return True

    def release(self, job: Job) -> None:
        """What was claimed for this path is in the key cache, or given up: its duplicates are looked at again.

        Nothing happens while its key is known and can't be kept: then they wait on.
        """
        if job.outcome and job.outcome.holds_unkept_key:
            return
        with self._lock:
            content = self._claimed_by.pop(job.path, None)
            duplicates = self._duplicates.pop(content) if content else []
        for duplicate in duplicates:
            self._queue.look_again(duplicate)

    def wait_for(self, content: Content, job: Job) -> None:
        """Give the job back to the queue once the one that claimed ``content`` is finished with it."""
        job.taken_at = math.inf
        with self._lock:
            if content in self._duplicates:
                self._duplicates[content].append(job)
                return
        self._queue.look_again(job)
