"""One file's way: look · read · settle · inspect · known content? · upload, and then to the recorder.

``_process`` goes this way and returns what comes next, which ``handle`` then does.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import structlog

from larkdrop.config.settings import Settings
from larkdrop.errors import KeysNotKept, LarkdropError, PictureFault, SetupFault, Throttled
from larkdrop.folder import picture, sidecar
from larkdrop.folder.picture import Changed, NotAFile, Picture, Stamp
from larkdrop.folder.settle import Settle, left_to_settle
from larkdrop.lark import accepted_images
from larkdrop.pipeline.backoff import Backoff
from larkdrop.pipeline.dedupe import Claims, Duplicate
from larkdrop.pipeline.inspect import inspect
from larkdrop.pipeline.job import Job, Outcome, Step
from larkdrop.pipeline.log_once import LogOnce
from larkdrop.pipeline.memory import Memory
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.uploader import Uploader
from larkdrop.records.key_cache import Content, Known
from larkdrop.records.shared_keys import Elsewhere
from larkdrop.records.sidecar_fields import Record, now

# Seconds that a large picture for which there is no memory waits in the queue, while others have a turn.
TURN_SECONDS = 0.5
# Files remembered that can't be read.
MOST_UNREADABLE = 10_000
# What the machine, not the file, is short of.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


class Then(Enum):
    """What comes next for a job, where there is nothing more to say about it."""

    DONE = auto()  # nothing is to be done with the file, as it is
    NEEDS_CALL = auto()  # it has no ticket for one, or not any more; or the gate closed on its call
    NEEDS_MEMORY = auto()  # which other large pictures have


@dataclass(frozen=True)
class Unfinished:
    """The file may still be written to: it is taken once it has been in this state for ``seconds``."""

    stamp: Stamp
    seconds: float


@dataclass(frozen=True)
class Failed:
    """It is tried again later: Lark failed, or something on this machine where ``fault`` is None."""

    fault: LarkdropError | None = None


# An outcome is to be recorded.
Next = Then | Outcome | Unfinished | Duplicate | Elsewhere | Failed


class Worker:
    """Takes jobs from the queue until that is stopped; ``run`` is meant for several threads at once."""

    def __init__(
        self, settings: Settings, *, queue: DropQueue, settle: Settle, uploader: Uploader, recorder: Recorder,
        claims: Claims, backoff: Backoff,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._queue = queue
        self._settle = settle
        self._uploader = uploader
        self._recorder = recorder
        self._backoff = backoff
        self._claims = claims
        self._memory = Memory()
        self._log = structlog.get_logger()
        self._log_once = LogOnce()
        self._unreadable: OrderedDict[str, None] = OrderedDict()

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Files that could not be read when they were last looked at."""
        return tuple(path for path in tuple(self._unreadable) if os.path.lexists(path))

    def run(self) -> None:
        """Work until the queue is stopped."""
        while job := self._queue.take():
            self.handle(job)

    def handle(self, job: Job) -> None:
        """Process a job, and do what comes next."""
        ticket = job.ticket
        comes_next = self._process_safely(job)
        # The recorder releases what is found; what was found before stays locked until another host's claim is over.
        if not (isinstance(comes_next, Outcome) or (isinstance(comes_next, Elsewhere) and job.doubted)):
            self._claims.release(job)
        self._uploader.give_back(ticket)
        match comes_next:
            case Outcome() as outcome:
                self._recorder.record(job, outcome)
            case Unfinished(stamp, seconds):
                self._leave_to_settle(job, stamp, seconds)
                self._queue.done(job)
            case Duplicate(content):
                self._claims.wait_for(content, job)
            case Elsewhere() as elsewhere:
                self._claims.wait_for_host(elsewhere, job)
            case Failed(fault):
                self._backoff.retry(job, fault)
            case Then.NEEDS_CALL:
                self._queue.wait_for_ticket(job)
            case Then.NEEDS_MEMORY:
                self._queue.retry_later(job, TURN_SECONDS)
            case Then.DONE:
                self._queue.done(job)

    def _leave_to_settle(self, job: Job, stamp: Stamp, seconds: float) -> None:
        drop = job.drop
        quiet = drop.quiet if drop.stamp == stamp else 0.0
        self._log.debug("settling", path=drop.path, seconds=round(seconds, 1))
        if not self._settle.park(replace(drop, stamp=stamp, quiet=quiet), seconds):
            self._queue.overflow()

    def _process_safely(self, job: Job) -> Next:
        """Process a job; what is raised says what comes next, too."""
        try:
            return self._process(job)
        except NotAFile:
            self._log.debug("gone", path=job.path)
            if job.outcome:
                job.outcome.outdated = True
                return job.outcome
            return Then.DONE
        except Changed:
            self._log.debug("changed_while_read", path=job.path)
            with suppress(OSError):
                return Unfinished(Stamp.of(os.lstat(job.path)), self._settings.upload.settle_seconds)
            return Then.DONE
        except LarkdropError as fault:
            fault.without_frames()  # the gate and the job remember it
            if isinstance(fault, SetupFault | Throttled):
                return Then.NEEDS_CALL  # when the gate opens
            return Failed(fault)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) or error.errno in SHORTAGES:
                number = getattr(error, "errno", None)
                self._log_once(number, "error", "machine_short", reason=str(error), path=job.path)
                return Failed()
            if job.outcome:
                return job.outcome
            self._cannot_read(job.path, error)
            return Then.DONE
        except Exception as error:  # noqa: BLE001 - a bug may cost a picture a pause, but not the daemon a worker
            self._log_once(
                type(error), "error", "unexpected", path=job.path, reason=repr(error),
                hint="This is a bug of larkdrop; please report it. The file is tried again.",
            )  # fmt: skip
            return Failed()

    def _process(self, job: Job) -> Next:
        """Look at the file, and see whether there is anything left to do."""
        outcome = job.outcome
        with picture.parent_of(str(job.watch.path), job.path) as (folder, name):
            stamp = picture.stamp(folder, name)
            if outcome:
                outcome.outdated = outcome.stamp != stamp
                return outcome
            if not self._queue.has_room_for_outcomes:
                return Failed()  # a later scan finds it
            if self._recorder.is_done_without_sidecar(job.path, stamp):
                return Then.DONE
            proven = sidecar.look(folder, name, stamp)
            if proven and not job.leaves(proven):
                return Then.DONE
            if not self._claims.lock_file(job, folder):
                return Elsewhere()
            if proven:
                elsewhere = self._claims.claim_file(job, stamp, proven.sha256)
                return elsewhere or Outcome(proven, stamp, left={Step.AFTER_UPLOAD}, was_known=True)
            with self._memory.reserved(stamp.size) as has_room:
                return self._read(job, folder, name) if has_room else Then.NEEDS_MEMORY

    def _read(self, job: Job, folder: int, name: str) -> Next:
        """Read the file once, and see whether it is finished, and whether its content has an outcome already."""
        read = picture.read(folder, name, accepted_images.MAX_BYTES)
        self._unreadable.pop(job.path, None)
        if left := left_to_settle(job.drop, read, self._settings.upload.settle_seconds):
            return Unfinished(read.stamp, left)
        if elsewhere := self._claims.claim_file(job, read.stamp, read.sha256):
            return elsewhere
        if record := _vouched(folder, name, read):
            return Outcome(record, read.stamp, left={Step.AFTER_UPLOAD}, was_known=True)
        if job.doubted and job.doubted.stamp == read.stamp:
            outcome, job.doubted = job.doubted, None
            return outcome
        return self._find_key(job, name, read)

    def _find_key(self, job: Job, name: str, read: Picture) -> Next:
        """Inspect what was read; its key is known, or Lark is asked for one."""
        content = Content.of(self._settings.lark, job.watch.image_type, read.sha256)
        try:
            inspect(read, job.watch.image_type)
            if self._settings.upload.dedupe:
                match self._claims.find_or_claim(content, job):
                    case Known() as known:
                        return self._reused(job, name, read, content, known)
                    case Duplicate() | Elsewhere() as in_flight:
                        return in_flight
            if job.ticket is None:
                return Then.NEEDS_CALL
            if time.monotonic() > job.ticket.until and not job.was_late:
                job.was_late = True  # where the reading takes as long as that, it is late each time
                return Then.NEEDS_CALL
            if not self._recorder.keeps_keys:
                return Failed(KeysNotKept("keys can't be kept now, so none is asked for"))
            uploaded = self._uploader.upload(job, job.ticket, read)
        except PictureFault as fault:
            self._log.warning("rejected", path=job.path, **fault.fields())
            return self._found(
                job, name, read, status="rejected", log_id=fault.log_id,
                error_code=fault.code, error_message=fault.message, error_hint=fault.hint,
            )  # fmt: skip
        return self._found(
            job, name, read, content, image_key=uploaded.image_key, log_id=uploaded.log_id,
            host=self._claims.shared.host,
        )  # fmt: skip

    def _reused(self, job: Job, name: str, read: Picture, content: Content, known: Known) -> Outcome:
        """The outcome with a key that is known."""
        return self._found(
            job, name, read, content if known.is_new_here else None, image_key=known.image_key, log_id=known.log_id,
            host=known.uploaded_by or self._claims.shared.host, reused=True,
        )  # fmt: skip

    def _found(
        self, job: Job, name: str, read: Picture, content: Content | None = None, *, reused: bool = False, **fields: Any
    ) -> Outcome:
        """The outcome of what was read: ``content`` has a key that is new here, ``fields`` are those of the record."""
        lark, shape = self._settings.lark, read.shape
        record = Record(
            **{"status": "uploaded", **fields}, file=name, image_type=job.watch.image_type, api=lark.api,
            app_id=lark.app_id, sha256=read.sha256, size=read.stamp.size, mtime_ns=read.stamp.mtime_ns,
            format=shape.format, width=shape.width, height=shape.height, at=now(), attempts=0 if reused else job.calls,
            reused=reused,
        )  # fmt: skip
        if record.status == "uploaded":
            log_id = None if reused else record.log_id or None
            self._log.info(record.event, path=job.path, image_key=record.image_key, log_id=log_id)
        return Outcome(record, read.stamp, content)

    def _cannot_read(self, path: str, error: OSError) -> None:
        say = self._log.debug if path in self._unreadable else self._log.error
        hint = "Let larkdrop's user read it; every rescan looks again."
        say("cannot_read", path=path, reason=error.strerror, hint=hint)
        self._unreadable[path] = None
        if len(self._unreadable) > MOST_UNREADABLE:
            self._unreadable.popitem(last=False)


def _vouched(folder: int, name: str, read: Picture) -> Record | None:
    """The record in the sidecar, if it is about the very content that was read; the sidecar's proof is then renewed.

    Raises Changed where the file was changed since.
    """
    try:
        record = sidecar.read(folder, name)
    except sidecar.Foreign:
        return None
    if record is None or not record.speaks_of(name, read.sha256, read.stamp.size):
        return None
    with suppress(OSError):
        if record.mtime_ns == read.stamp.mtime_ns:
            sidecar.confirm(folder, name, record)
        else:
            record = replace(record, mtime_ns=read.stamp.mtime_ns)
            sidecar.write(folder, name, record)
        if sidecar.unprove_if_changed(folder, name, read.stamp):
            raise Changed(name)
    return record
