"""Equal pictures are uploaded once: decided here while the first is in flight, and by the key cache after that.

Where several hosts share an app, they decide it together (``records/shared_keys.py``), and who records a file that all
of them see.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from functools import partial

from larkdrop.folder.picture import Stamp
from larkdrop.pipeline.job import Job
from larkdrop.pipeline.queue import DropQueue
from larkdrop.records.key_cache import Content, KeyCache, Known
from larkdrop.records.shared_keys import Elsewhere, SharedKeys

# Seconds between looks at a file on which another process works.
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Duplicate:
    """Another job is uploading the same content."""

    content: Content


class Claims:
    """Single flight: the first job with a content uploads it, and the others wait for its key."""

    def __init__(self, queue: DropQueue, cache: KeyCache, shared: SharedKeys) -> None:
        self.shared = shared
        self._queue = queue
        self._cache = cache
        self._lock = threading.Lock()
        self._duplicates: dict[Content, list[Job]] = {}
        self._claimed_by: dict[str, Content] = {}  # by path, since another job may take over an outcome

    def lock_file(self, job: Job, folder: int) -> bool:
        """Be the only process that works on a file in the open ``folder``; False where another one does.

        True also where that one has not ended for so long that it is left to the claims.
        """
        now = time.monotonic()
        if self.shared.lock_file(job.path, folder):
            job.locked_since, job.is_locked = math.inf, False
        else:
            job.locked_since = min(job.locked_since, now)
            job.is_locked = now - job.locked_since <= self.shared.lock_patience
        return not job.is_locked

    def claim_file(self, job: Job, stamp: Stamp, sha256: str) -> Elsewhere | None:
        """Be the one who records a file in a state, or moves it, among all hosts that see it."""
        return self.shared.claim_file(job.path, f"{stamp.inode} {stamp.mtime_ns} {sha256}")

    def find_or_claim(self, content: Content, job: Job) -> Known | Duplicate | Elsewhere | None:
        """The key of a content, from here or another host. Where there is none, be the job that uploads it.

        Raises sqlite3.Error.
        """
        with self._lock:
            if content in self._duplicates:
                return Duplicate(content)
            if known := self._cache.get(content):
                return known
            self._duplicates[content] = []
            self._claimed_by[job.path] = content
        return self.shared.find_or_claim(job.path, content, upload=job.ticket is not None)

    def release(self, job: Job) -> None:
        """What was claimed for this path is in the key cache, or given up: its duplicates are looked at again.

        Nothing happens while its key is known and can't be kept: then they wait on. And the other hosts wait until all
        is recorded.
        """
        if job.outcome and job.outcome.holds_unkept_key:
            return
        if job.outcome is None:
            self.shared.release(job.path)
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

    def wait_for_host(self, elsewhere: Elsewhere, job: Job) -> None:
        """Give the job back to the queue once the other host is done with it, or gone."""
        job.taken_at = math.inf
        if not elsewhere.claim:
            self._queue.retry_later(job, LOOK_SECONDS)
            return
        self.shared.wait_for(elsewhere, partial(self._queue.look_again, job))
