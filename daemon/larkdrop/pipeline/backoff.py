"""How long a file that failed waits until it is tried again: forever, with growing pauses, and never in a worker.

The pauses are tenacity's: exponential with full jitter. tenacity would sleep through them; here a file goes back to the
queue with the pause as its due time, so that a worker is free for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import structlog
from tenacity import Retrying, TryAgain, wait_random_exponential

from larkdrop.config.settings import Upload
from larkdrop.errors import CallFault, KeysNotKept, LarkdropError
from larkdrop.pipeline.job import Job
from larkdrop.pipeline.measure import Tally
from larkdrop.pipeline.queue import DropQueue

# So many times longer are the pauses where Lark refuses the call itself: by default they grow from a minute to an hour.
TIMES_INITIAL, TIMES_MOST = 60, 12
# After so many failures in a row the pauses have long been at their most.
MOST_DOUBLINGS = 20
# So many failures in a row are worth a line in the log.
WORTH_A_LINE = frozenset({5, 20, 100, 1000})


def pauses(initial: float, most: float) -> Iterator[float]:
    """Seconds to wait after the first failure, after the second in a row, and so on without an end.

    Each is random, up to ``initial`` seconds for the first and twice as much each time, ``most`` at most.
    """
    return (_pause(failures, initial, most) for failures in count(1))


def _pause(failures: int, initial: float, most: float) -> float:
    """The pause that tenacity would make after so many failures; it is asked again from the first on."""
    made: list[float] = []
    for attempt in Retrying(wait=wait_random_exponential(multiplier=initial, max=most), sleep=made.append):
        if len(made) == min(failures, MOST_DOUBLINGS):
            break
        with attempt:
            raise TryAgain
    return made[-1]


class Backoff:
    """Puts jobs that failed back into the queue."""

    def __init__(self, upload: Upload, queue: DropQueue) -> None:
        self._upload = upload
        self._queue = queue
        self._log = structlog.get_logger()
        self.retries = Tally()  # by cause

    def retry(self, job: Job, fault: LarkdropError | None = None) -> None:
        """Try a job again later: Lark failed with ``fault``, or something on this machine where that is None."""
        if job.pauses is None or type(fault) is not type(job.fault):
            job.failures, job.pauses = 0, self._pauses(fault)
        job.failures += 1
        self.retries.add("machine" if fault is None or isinstance(fault, KeysNotKept) else "lark")
        job.fault = fault
        pause = next(job.pauses)
        if fault:
            say = self._log.warning if job.failures in WORTH_A_LINE else self._log.debug
            say("upload_failed", path=job.path, failures=job.failures, retry_in=round(pause, 1), **fault.fields())
        self._queue.retry_later(job, pause)

    def _pauses(self, fault: LarkdropError | None) -> Iterator[float]:
        initial, most = self._upload.backoff_initial, self._upload.backoff_max
        if isinstance(fault, CallFault):
            return pauses(initial * TIMES_INITIAL, most * TIMES_MOST)
        return pauses(initial, most)
