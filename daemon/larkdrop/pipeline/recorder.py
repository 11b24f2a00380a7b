"""An outcome is recorded in four steps: key cache, result log, sidecar; then the image is moved or deleted.

The worker that has an outcome takes the first step itself, so that a crash costs at most one key a worker. A thread for
each watched folder takes the others, so that no folder waits for another one's disk; workers wait for a thread that is
behind, but not for long. What comes together is recorded together: one commit, one write to the log, one sync of a
folder. A step that fails is taken again later, and no other.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue

import structlog

from larkdrop.config.settings import Watch
from larkdrop.folder import after_upload, picture, sidecar
from larkdrop.folder.picture import Changed, NotAFile, Stamp
from larkdrop.pipeline.backoff import Backoff
from larkdrop.pipeline.dedupe import Claims
from larkdrop.pipeline.disk_trouble import KEY_CACHE, DiskTrouble
from larkdrop.pipeline.job import Job, Outcome, Step
from larkdrop.pipeline.measure import Durations, Tally
from larkdrop.pipeline.queue import DropQueue
from larkdrop.records.key_cache import KeyCache, Row
from larkdrop.records.result_log import ResultLog

# Jobs of a folder that wait for its thread; few, so that a drop recorded now does not wait behind a crowd.
MOST_WAITING = 512
# Seconds at one batch after which nobody waits for a folder's thread: its disk is slow or hangs. And between looks.
SLOW_SECONDS, LOOK_SECONDS = 1.0, 0.1
# Jobs recorded together: each sidecar is an open file until it has its name.
MOST_TOGETHER = 128
# Bounds, in seconds, by which it is counted how long it took from queued to recorded.
RECORD_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
# Files remembered that are done without a sidecar, since its name is taken.
MOST_WITHOUT_SIDECAR = 10_000


@dataclass(eq=False)
class _Inbox:
    """What waits for a thread, and what that is at."""

    jobs: SimpleQueue[Job | None] = field(default_factory=SimpleQueue)
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MOST_WAITING))
    busy_since: float | None = None  # monotonic seconds
    progress: int = 0  # images that were to be moved or deleted, and folders, so far

    def make_room(self) -> bool:
        """Wait for room for one more job; False where there is none soon."""
        while (since := self.busy_since) is None or time.monotonic() - since < SLOW_SECONDS:
            if self.room.acquire(timeout=LOOK_SECONDS):
                return True
        return self.room.acquire(blocking=False)


class Recorder:
    """Writes outcomes down. Thread-safe; ``run`` is meant for a thread a watched folder."""

    def __init__(
        self, watches: Sequence[Watch], cache: KeyCache, results: ResultLog, *, queue: DropQueue, claims: Claims,
        backoff: Backoff,
    ) -> None:  # fmt: skip
        self._cache = cache
        self._results = results
        self._queue = queue
        self._claims = claims
        self._backoff = backoff
        self._log = structlog.get_logger()
        self._inboxes = {watch: _Inbox() for watch in watches}
        self._lock = threading.Lock()
        self._reserved: set[str] = set()  # paths to which images are on their way
        self._without_sidecar: OrderedDict[str, Stamp] = OrderedDict()
        self.trouble = DiskTrouble()
        self.by_folder = Tally()  # outcomes since the start, by folder and the result log's name for them
        self.bytes = Tally()  # uploaded since the start, by folder
        self.durations = {watch: Durations(*RECORD_BOUNDS) for watch in watches}  # from queued to recorded

    @property
    def outcomes(self) -> Counter[str]:
        """Since the start, of all folders, by the result log's name for them."""
        return sum((Counter({event: n}) for (_, event), n in self.by_folder.counts().items()), Counter())

    @property
    def keeps_keys(self) -> bool:
        """Whether the last key could be kept, and there is a file to keep the next: while not, ask for none."""
        return self.trouble.keeps_keys and self._cache.in_place

    def is_done_without_sidecar(self, path: str, stamp: Stamp) -> bool:
        """Whether a file in this state is recorded, although its sidecar's name is taken."""
        return self._without_sidecar.get(path) == stamp

    def record(self, job: Job, outcome: Outcome) -> None:
        """Keep the outcome's key, and have it recorded; the job is then ended, or tried again."""
        job.outcome = outcome
        if not job.leaves(outcome.record):
            outcome.left.discard(Step.AFTER_UPLOAD)
        self._take_step(Step.KEY_CACHE, KEY_CACHE, self._cache.path, [job], self._keep)
        job.taken_at = math.inf
        self._claims.release(job)
        if Step.KEY_CACHE not in outcome.left and Step.RESULT_LOG in outcome.left and self._is_taken(job, outcome):
            job.outcome, job.doubted = None, outcome
            self._queue.look_again(job)
            return
        inbox = self._inboxes[job.watch]
        if inbox.make_room():
            inbox.jobs.put(job)
        else:
            self._backoff.retry(job)

    def stop(self) -> None:
        """End the threads once nothing waits; for when nobody records any more."""
        for inbox in self._inboxes.values():
            inbox.jobs.put(None)

    def run(self, watch: Watch) -> None:
        """Record what is added for a watched folder, until stopped."""
        inbox, folder = self._inboxes[watch], str(watch.path)
        while job := inbox.jobs.get():
            inbox.busy_since = time.monotonic()
            jobs = [job, *_more(inbox.jobs)]
            inbox.room.release(len(jobs))
            news = [one.outcome for one in jobs if one.outcome and Step.RESULT_LOG in one.outcome.left]
            self._take_steps(jobs, inbox)
            for record in (one.record for one in news if Step.RESULT_LOG not in one.left):
                self.by_folder.add(folder, record.event)
                if record.event == "uploaded":
                    self.bytes.add(folder, count=record.size)
            for job in jobs:
                self._finish(job)
            inbox.busy_since = None

    def activity(self) -> dict[str, tuple[bool, int]]:
        """For each thread: whether it records, and a number that changes with each folder that it is finished with."""
        inboxes = {f"recorder {watch.path}": inbox for watch, inbox in self._inboxes.items()}
        return {name: (inbox.busy_since is not None, inbox.progress) for name, inbox in inboxes.items()}

    def _is_taken(self, job: Job, outcome: Outcome) -> bool:
        """Whether another host has recorded the file meanwhile, or may be at it."""
        if not self._claims.shared.host:
            return False
        with suppress(NotAFile, OSError), picture.parent_of(str(job.watch.path), job.path) as (folder, name):
            if sidecar.look(folder, name, outcome.stamp):
                return True
        return not self._claims.shared.still_held(job.path)

    def _take_steps(self, jobs: list[Job], inbox: _Inbox) -> None:
        self._take_step(Step.RESULT_LOG, "result log", self._results.path, jobs, self._append)
        for folder, some in groupby(jobs, lambda job: os.path.dirname(job.path)):
            together = list(some)
            self._take_step(Step.SIDECAR, "sidecar", folder, together, self._write_sidecars)
            self._take_step(Step.AFTER_UPLOAD, "picture", folder, together, self._move_or_delete)
            inbox.progress += 1

    def _finish(self, job: Job) -> None:
        outcome = job.outcome
        if outcome is None or outcome.left:
            self._backoff.retry(job)
            return
        if outcome.move_to:
            with self._lock:
                self._reserved.discard(outcome.move_to)
        job.outcome = None
        self._claims.release(job)
        if outcome.outdated:
            self._queue.look_again(job)  # for what the file is by now
        else:
            if not outcome.was_known:
                self.durations[job.watch].add(time.monotonic() - job.queued_at)
            self._queue.done(job)

    def _take_step(
        self, step: Step, what: str, place: str | Path, jobs: list[Job],
        action: Callable[[list[tuple[Job, Outcome]]], None],
    ) -> None:  # fmt: skip
        """Take one step with those for whom it is left: ``action`` crosses it off where it succeeds.

        Where it fails, that is noted in ``trouble``, and the other steps go on.
        """
        due = [(job, job.outcome) for job in jobs if job.outcome and step in job.outcome.left]
        if step is Step.AFTER_UPLOAD:
            due = [(job, outcome) for job, outcome in due if outcome.left == {step}]
        if not due:
            return
        try:
            action(due)
        except (OSError, sqlite3.Error) as error:
            self.trouble.failed(what, str(place), error)
        except Exception as error:  # noqa: BLE001 - a bug may cost a picture a pause, but not the folder its thread
            if len(due) > 1:
                for job, _ in due:
                    self._take_step(step, what, place, [job], action)
                return
            self._log.error(
                "unexpected", path=due[0][0].path, reason=repr(error),
                hint="This is a bug of larkdrop; please report it. The file is tried again.",
            )  # fmt: skip
        else:
            self.trouble.worked(what, str(place))
        for _, outcome in due:
            outcome.failed = step in outcome.left

    def _keep(self, due: list[tuple[Job, Outcome]]) -> None:
        """Raises sqlite3.Error."""
        for job, outcome in due:
            self._cache.put(Row(job.path, str(job.watch.path), outcome.record, outcome.content))
            outcome.left.discard(Step.KEY_CACHE)

    def _append(self, due: list[tuple[Job, Outcome]]) -> None:
        """Raises OSError where some were not added."""
        for job, outcome in due:
            with suppress(OSError):  # which is said when the image is to be moved
                self._choose_place(job, outcome)
        while due:
            added = self._results.append([(job.path, one.move_to, one.record) for job, one in due])
            for _, outcome in due[:added]:
                outcome.left.discard(Step.RESULT_LOG)
            due = due[added:]

    def _write_sidecars(self, due: list[tuple[Job, Outcome]]) -> None:
        """All of one folder. Raises OSError where some could not be written."""
        current = {one.record.file: one for _, one in due if not one.outdated}
        failed: Mapping[str, sidecar.Foreign | OSError] = {}
        try:
            with picture.parent_of(str(due[0][0].watch.path), due[0][0].path) as (folder, _):
                failed = sidecar.write_all(folder, {name: one.record for name, one in current.items()})
                if os.fstat(folder).st_nlink == 0:  # removed meanwhile, with all that was in it
                    failed = {}
                for name in current.keys() - failed.keys():
                    current[name].outdated = sidecar.unprove_if_changed(folder, name, current[name].stamp)
        except (NotAFile, FileNotFoundError):
            self._log.debug("gone", path=os.path.dirname(due[0][0].path))
        for job, outcome in due:
            error = failed.get(outcome.record.file)
            if isinstance(error, sidecar.Foreign):
                self._do_without_sidecar(job, outcome, error)
            if not isinstance(error, OSError):
                outcome.left.discard(Step.SIDECAR)
        for error in failed.values():
            if isinstance(error, OSError):
                raise error

    def _do_without_sidecar(self, job: Job, outcome: Outcome, taken: sidecar.Foreign) -> None:
        with self._lock:
            self._without_sidecar[job.path] = outcome.stamp
            if len(self._without_sidecar) > MOST_WITHOUT_SIDECAR:
                self._without_sidecar.popitem(last=False)
        self._log.warning(
            "sidecar_name_taken", path=job.path, sidecar=str(taken),
            hint="larkdrop did not write this file and does not touch it; the key is in the result log.",
        )  # fmt: skip

    def _move_or_delete(self, due: list[tuple[Job, Outcome]]) -> None:
        """Raises the last OSError or sqlite3.Error where some could not be."""
        failed: OSError | sqlite3.Error | None = None
        for job, outcome in due:
            try:
                if not outcome.outdated:
                    self._clear(job, outcome)
            except (NotAFile, FileNotFoundError):
                self._log.debug("gone", path=job.path)
            except Changed:
                self._log.debug("changed_after_upload", path=job.path)
            except (OSError, sqlite3.Error) as error:
                failed = error
                continue
            finally:
                self._inboxes[job.watch].progress += 1
            outcome.left.discard(Step.AFTER_UPLOAD)
        if failed:
            raise failed

    def _clear(self, job: Job, outcome: Outcome) -> None:
        """Raises OSError, sqlite3.Error, Changed or NotAFile."""
        with picture.parent_of(str(job.watch.path), job.path) as (folder, name):
            if job.watch.after_upload == "delete":
                after_upload.delete(folder, name, outcome.stamp)
                self._log.info("deleted", path=job.path)
                with suppress(sqlite3.Error):  # it only tells `larkdrop keys` where to look
                    self._cache.moved(job.path, outcome.record.sha256, "")
            else:
                self._choose_place(job, outcome)
                place = after_upload.arrive(folder, name, outcome.stamp, Path(outcome.move_to), outcome.record)
                # While the image is here, a crash repeats all of this.
                self._cache.moved(job.path, outcome.record.sha256, str(place))
                after_upload.leave(folder, name, outcome.stamp)
                self._log.info("moved", path=job.path, to=str(place))

    def _choose_place(self, job: Job, outcome: Outcome) -> None:
        """Choose where an image will be moved to, so that the result log can say it. Raises OSError."""
        watch = job.watch
        if outcome.move_to or not watch.move_to or outcome.outdated or not job.leaves(outcome.record):
            return
        sub_folder = os.path.relpath(os.path.dirname(job.path), watch.path)
        target = Path(os.path.realpath(watch.move_to / sub_folder))
        while not outcome.move_to:
            place = str(after_upload.place_for(target, os.path.basename(job.path), outcome.record, self._reserved))
            with self._lock:  # not while a disk is asked: another folder's thread may have chosen the same
                if place not in self._reserved:
                    self._reserved.add(place)
                    outcome.move_to = place


def _more(jobs: SimpleQueue[Job | None]) -> Iterator[Job]:
    """What else waits, so that not too much is recorded together; the sign to stop stays where it is."""
    for _ in range(min(jobs.qsize(), MOST_TOGETHER - 1)):
        job = jobs.get()
        if job is None:
            jobs.put(None)
            return
        yield job
