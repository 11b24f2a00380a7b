"""One file's way, from path to record."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from larkdrop.config.settings import Settings
from larkdrop.errors import CallFault, LarkdropError, MomentFault, PictureFault, SetupFault, Throttled
from larkdrop.folder import picture, sidecar
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Changed, NotAFile, Picture, Stamp
from larkdrop.folder.recognise import End
from larkdrop.folder.settle import Settle, quiet_for, quiet_needed
from larkdrop.lark import accepted_images as limits
from larkdrop.lark import codes
from larkdrop.lark.client import Client, Uploaded
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import Ticket
from larkdrop.pipeline.backoff import Backoff
from larkdrop.pipeline.in_flight import Budget, InFlight, Twin
from larkdrop.pipeline.queue import DropQueue, Job
from larkdrop.pipeline.recorder import Entry, Recorder
from larkdrop.records.key_cache import Content, KeyCache, Known
from larkdrop.records.record import Record, now

# A picture that has failed this often in a row is worth a line.
WORTH_A_LINE = frozenset({5, 20, 100, 1000})
# By these the pauses are longer where the call itself is refused: by default they grow from a minute to an hour.
REFUSED_INITIAL, REFUSED_MOST = 60, 12
# So often a call is refused for one picture, while others are uploaded, before that is the picture's fault.
ODD = 20
# Bytes of pictures in memory at the same time; one of 10 MB takes as long as a hundred of 100 KB, so few are enough.
MOST_BYTES = 4 * limits.MAX_BYTES
# Paths and codes remembered so that each is said once.
MOST_SAID = 10_000
# What the machine, not the file, is short of.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


# How a job goes back to the queue, or leaves it.
Next = Callable[[], None]


class NeedsTicket(Exception):
    """This file needs a call, and came without leave for one."""


class Worker:
    """Takes jobs from the queue until that is stopped; ``run`` is meant for several threads at once."""

    def __init__(
        self,
        settings: Settings,
        *,
        queue: DropQueue,
        settle: Settle,
        pace: Pace,
        client: Client,
        cache: KeyCache,
        recorder: Recorder,
        backoff: Backoff,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._settle = settle
        self._pace = pace
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._backoff = backoff
        upload = settings.upload
        self._long_backoff = Backoff(upload.backoff_initial * REFUSED_INITIAL, upload.backoff_max * REFUSED_MOST)
        self._uploaded_at = 0.0  # monotonic seconds at which the last upload that succeeded began
        self._in_flight = InFlight(settings.upload.workers, make_room=recorder.keep_all, hand_back=queue.soon)
        self._budget = Budget(MOST_BYTES)
        self._log = structlog.get_logger()
        self._said: OrderedDict[object, object] = OrderedDict()
        self.last_fault: tuple[str, LarkdropError] | None = None  # RFC 3339, and what failed last

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Files that could not be read when they were last looked at."""
        return tuple(key for key in tuple(self._said) if isinstance(key, str) and os.path.lexists(key))

    def run(self) -> None:
        """Work until the queue is stopped."""
        while job := self._queue.take():
            self.handle_one(job)

    def handle_one(self, job: Job) -> None:
        """One job's whole way, and back to the queue or out of it."""
        ticket = job.ticket
        go_on = self._handle(job, ticket)
        if ticket and not ticket.spent:
            self._pace.give_back(ticket)
            self._queue.wake()
        go_on()

    def sign_in(self) -> None:
        """Try for a token, so that wrong credentials are said, and noticed when they are right, without a picture."""
        ticket = self._pace.ticket(fresh=True)
        if ticket is None:
            return
        try:
            self._client.sign_in()
        except LarkdropError as fault:
            self._failed(ticket, fault.without_frames())
        else:
            self._succeeded(ticket)

    def _handle(self, job: Job, ticket: Ticket | None) -> Next:
        """One job's whole way, as far as it goes without a wait for a record. Returns where it goes from here."""
        path = job.drop.path
        try:
            with picture.parent_of(str(job.drop.watch.path), path) as (folder, name):
                return self._advance(job, ticket, folder, name)
        except NotAFile:
            self._log.debug("gone", path=path)
            if job.entry:
                job.entry.beside = job.entry.cleared = True
                return partial(self._record, job, job.entry)
        except Changed:
            self._log.debug("changed_while_read", path=path)
            self._park(job, None, self._settings.upload.settle_seconds)
        except NeedsTicket:
            return partial(self._queue.back, job)
        except (SetupFault, Throttled) as fault:
            fault.without_frames()  # the gate, too, remembers it
            return partial(self._queue.back, job)
        except Twin:
            return lambda: None
        except MomentFault as fault:
            return partial(self._retry, job, fault.without_frames())
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) or error.errno in SHORTAGES:
                self._say(type(error), "error", "machine_short", reason=str(error), path=path)
                return partial(self._retry, job)
            self._say(
                path, "error", "cannot_read", path=path, reason=error.strerror,
                hint="Let larkdrop's user read it; every rescan looks again.",
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - a bug may cost a picture a pause, but not the daemon a worker
            self._say(
                type(error), "error", "unexpected", path=path, reason=repr(error),
                hint="This is a bug of larkdrop; please report it. The file is tried again.",
            )  # fmt: skip
            return partial(self._retry, job)
        return partial(self._queue.done, job)

    def _advance(self, job: Job, ticket: Ticket | None, folder: int, name: str) -> Next:
        """Settle, inspect, known content?, upload. Returns where the job goes from here."""
        drop = job.drop
        stamp = picture.stamp(folder, name)
        if self._recorder.is_bare(drop.path, stamp):
            return partial(self._queue.done, job)
        if job.entry and job.entry.stamp == stamp:
            return partial(self._record, job, job.entry)
        if job.entry:  # of what the file was before
            job.entry.beside = job.entry.cleared = True
            self._recorder.record(job.entry, kept=lambda: None, then=lambda _finished: None)
            job.entry = None
        there, proven = sidecar.look(folder, name, stamp)
        if proven:
            return partial(self._record, job, _recorded_before(drop, stamp, proven))
        with self._budget.take(min(stamp.size, limits.MAX_BYTES)):
            read = picture.read(folder, name, limits.MAX_BYTES)
            self._said.pop(drop.path, None)
            quiet = quiet_for(drop, read.stamp)
            needed = quiet_needed(drop, read.stamp.size, read.shape, self._settings.upload.settle_seconds)
            if quiet < needed:
                self._park(job, read.stamp, needed - max(0.0, quiet))
                return partial(self._queue.done, job)
            beside = self._vouched(folder, name, read) if there else None
            entry = _recorded_before(drop, read.stamp, beside) if beside else self._answer(job, ticket, name, read)
        return partial(self._record, job, entry)

    def _record(self, job: Job, entry: Entry) -> None:
        job.entry = entry
        self._recorder.record(entry, kept=partial(self._in_flight.release, job), then=partial(self._recorded, job))

    def _recorded(self, job: Job, finished: bool) -> None:  # noqa: FBT001 - the recorder's word
        self._in_flight.release(job)
        if finished:
            self._queue.done(job)
        else:
            self._retry(job)

    def _answer(self, job: Job, ticket: Ticket | None, name: str, read: Picture) -> Entry:
        """Find the one true answer for what was read."""
        drop, lark = job.drop, self._settings.lark
        content = Content(lark.base_url, lark.scope, lark.api, drop.watch.image_type, read.sha256)
        made = partial(
            Record, file=name, image_type=drop.watch.image_type, api=lark.api, app_id=lark.app_id, sha256=read.sha256,
            size=read.stamp.size, mtime_ns=read.stamp.mtime_ns, format=read.shape.format, width=read.shape.width,
            height=read.shape.height,
        )  # fmt: skip
        try:
            found = self._find_key(job, ticket, content, read)
        except PictureFault as fault:
            self._log.warning(
                "rejected", path=drop.path, reason=fault.message, code=fault.code, hint=fault.hint,
                log_id=fault.log_id or None,
            )  # fmt: skip
            record = made(
                status="rejected", at=now(), attempts=job.calls, reused=False, log_id=fault.log_id,
                error_code=fault.code, error_message=fault.message, error_hint=fault.hint,
            )  # fmt: skip
            return Entry(drop.path, drop.watch, read.stamp, record)
        except BaseException:
            self._in_flight.release(job)
            raise
        reused = isinstance(found, Known)
        record = made(
            status="uploaded", image_key=found.image_key, at=now(), attempts=0 if reused else job.calls, reused=reused,
            log_id=found.log_id,
        )  # fmt: skip
        log_id = None if reused else found.log_id or None
        self._log.info(record.event, path=drop.path, image_key=found.image_key, log_id=log_id)
        return Entry(drop.path, drop.watch, read.stamp, record, None if reused else content)

    def _find_key(self, job: Job, ticket: Ticket | None, content: Content, read: Picture) -> Known | Uploaded:
        """The known key of what was read, or a new one from Lark. Raises PictureFault where there is none."""
        inspect(read, job.drop.watch.image_type)
        if not self._settings.upload.dedupe:
            self._in_flight.claim(job, job)
        elif known := self._cache.get(content):
            return known
        else:
            self._in_flight.claim(content, job)
            if known := self._cache.get(content):  # recorded meanwhile
                self._in_flight.release(job)
                return known
        if ticket is None:
            raise NeedsTicket
        if not self._recorder.keeps_keys:
            raise MomentFault("keys can't be kept now, so none is asked for")
        return self._upload(job, ticket, read)

    def _upload(self, job: Job, ticket: Ticket, read: Picture) -> Uploaded:
        """One call, and what it teaches the pace. Raises whose fault it was."""
        job.calls += 1
        began = time.monotonic()
        try:
            answered = self._client.upload(read.content, job.drop.watch.image_type)
        except PictureFault as fault:
            self._succeeded(ticket)
            raise limits.refused(fault, read.shape.format) from None
        except LarkdropError as fault:
            self._failed(ticket, fault, job)
            if isinstance(fault, CallFault) and fault.code is not None and self._is_odd(job):
                message = f"{fault.message} ({job.refused} times, while other pictures were uploaded)"
                raise PictureFault(message, hint=fault.hint, code=fault.code, log_id=fault.log_id) from fault
            raise
        self._uploaded_at = max(self._uploaded_at, began)
        self._succeeded(ticket)
        return answered

    def _is_odd(self, job: Job) -> bool:
        """Count a refused call; whether there were so many while others went through that it is the picture's fault."""
        if job.refused == 0:
            job.refused, job.refused_at = 1, time.monotonic()
        elif self._uploaded_at > job.refused_at:
            job.refused += 1
        return job.refused >= ODD

    def _succeeded(self, ticket: Ticket) -> None:
        ended = self._pace.succeeded(ticket)
        if ended:
            self._log.info("lark_resumed", after_seconds=round(time.monotonic() - ended.since, 1), **self._waiting())
        if ended or ticket.probe:
            self._queue.wake()

    def _failed(self, ticket: Ticket, fault: LarkdropError, job: Job | None = None) -> None:
        self.last_fault = (now(), fault)
        began = self._pace.failed(ticket, fault, first=job is not None and job.failures == 0)
        if began:
            say = self._log.error if began.person or isinstance(fault, CallFault) else self._log.warning
            say("lark_held", **_told(fault), **self._waiting())
        if isinstance(fault, MomentFault) and fault.unknown:
            self._say(
                ("code", fault.code), "error", "unknown_code", path=job.drop.path if job else None, **_told(fault)
            )
        if isinstance(fault, CallFault):
            self._say(
                ("code", fault.code), "warning", "call_refused", path=job.drop.path if job else None, **_told(fault)
            )
        self._queue.wake()

    def _waiting(self) -> dict[str, int]:
        counts = self._queue.counts()
        return {"waiting": counts.waiting + counts.working}

    def _retry(self, job: Job, fault: LarkdropError | None = None) -> None:
        """Back to the queue, with a pause that grows with the failures in a row."""
        job.failures += 1
        job.fault = fault
        backoff = self._long_backoff if isinstance(fault, CallFault) else self._backoff
        pause = backoff(job.failures, fault)
        if fault:
            say = self._log.warning if job.failures in WORTH_A_LINE else self._log.debug
            say("upload_failed", path=job.drop.path, failures=job.failures, retry_in=round(pause, 1), **_told(fault))
        self._queue.later(job, pause)

    def _park(self, job: Job, stamp: Stamp | None, seconds: float) -> None:
        """Leave the file to settle, to be looked at once it has been as it is now for ``seconds``."""
        drop = job.drop
        if stamp is None:
            try:
                stamp = Stamp.of(os.lstat(drop.path))
            except OSError:
                return
        quiet = drop.quiet if drop.stamp == stamp else 0.0
        self._log.debug("settling", path=drop.path, seconds=round(seconds, 1))
        if not self._settle.park(replace(drop, stamp=stamp, quiet=quiet), seconds):
            self._queue.overflowed = True

    def _vouched(self, folder: int, name: str, read: Picture) -> Record | None:
        """The record beside the image, if it speaks of the very content that was read; its proof is then renewed."""
        try:
            beside = sidecar.read(folder, name)
        except sidecar.Foreign:
            return None
        if beside is None or not beside.speaks_of(name, read.sha256, read.stamp.size):
            return None
        with suppress(OSError):
            if beside.mtime_ns == read.stamp.mtime_ns:
                sidecar.confirm(folder, name, beside)
            else:
                beside = replace(beside, mtime_ns=read.stamp.mtime_ns)
                sidecar.write(folder, name, beside)
        return beside

    def _say(self, key: object, level: str, event: str, **fields: object) -> None:
        """Say something once for ``key``, and at the level debug after that."""
        first = object()
        again = self._said.setdefault(key, first) is not first  # in one step: of two workers, one is the first
        if len(self._said) > MOST_SAID:
            self._said.popitem(last=False)
        getattr(self._log, "debug" if again else level)(event, **fields)


def _recorded_before(drop: Drop, stamp: Stamp, record: Record) -> Entry:
    return Entry(drop.path, drop.watch, stamp, record, kept=True, logged=True, beside=True)


def inspect(read: Picture, image_type: str) -> None:
    """Raise PictureFault where what was read can't become an upload, by the platform's rules or by its being cut."""
    shape = read.shape
    if shape.end is End.CUT and 0 < read.stamp.size <= limits.MAX_BYTES:
        raise codes.refuse(
            codes.UNKNOWN_FORMAT,
            f"the {shape.format or 'picture'} is incomplete: its end is missing",
            hint="Nothing to do if it is still being written: it will be taken when it is finished.",
        )
    limits.check(read.stamp.size, shape.format, shape.width, shape.height, image_type)


def _told(fault: LarkdropError) -> dict[str, object]:
    """A fault as the fields of a log line."""
    fields = {"reason": fault.message, "code": fault.code, "hint": fault.hint, "log_id": fault.log_id}
    return {name: value for name, value in fields.items() if value not in {None, ""}}
