"""One call to Lark for a picture, and what its answer teaches: whose fault it was, and whether to go on calling."""

from __future__ import annotations

import time

import structlog

from larkdrop.errors import CallFault, LarkdropError, MomentFault, PictureFault, SetupFault, Throttled
from larkdrop.folder.picture import Picture
from larkdrop.lark import accepted_images, codes
from larkdrop.lark.client import Client, Uploaded
from larkdrop.lark.gate import Hold
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import Ticket
from larkdrop.pipeline.job import Job
from larkdrop.pipeline.log_once import LogOnce
from larkdrop.pipeline.measure import Durations, Tally
from larkdrop.pipeline.queue import DropQueue
from larkdrop.records.sidecar_fields import now

# So often a call is refused for one picture, while others are uploaded, before that is the picture's fault.
MOST_REFUSED = 20


class Uploader:
    """Makes the calls for which the queue gave tickets. Thread-safe."""

    def __init__(self, client: Client, pace: Pace, queue: DropQueue) -> None:
        self._client = client
        self._pace = pace
        self._queue = queue
        self._log = structlog.get_logger()
        self._log_once = LogOnce()
        self._uploaded_at = 0.0  # monotonic seconds at which the last upload that succeeded began
        self.calls = Tally()  # for uploads, by whose fault they failed, and code
        self.durations = Durations(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # of these calls
        self.last_fault: tuple[str, LarkdropError] | None = None  # RFC 3339, and what failed last

    def upload(self, job: Job, ticket: Ticket, read: Picture) -> Uploaded:
        """Upload what was read. Raises whose fault it was where there is no key."""
        job.calls += 1
        began = time.monotonic()
        try:
            uploaded = self._call(job, read)
        except PictureFault as fault:
            self._answered(ticket, self._pace.succeeded(ticket))
            raise accepted_images.refused(fault, read.shape.format) from None
        except LarkdropError as fault:
            meant = self._for_this_picture(job, fault)
            self._failed(ticket, meant, job)
            if isinstance(meant, CallFault) and meant.code is not None and self._count_refusal(job):
                message = f"{meant.message} ({job.refused} times, while other pictures were uploaded)"
                raise PictureFault(message, hint=meant.hint, code=meant.code, log_id=meant.log_id) from None
            raise meant from None
        self._uploaded_at = max(self._uploaded_at, began)
        self._answered(ticket, self._pace.succeeded(ticket))
        return uploaded

    def _call(self, job: Job, read: Picture) -> Uploaded:
        """The call itself, counted and timed."""
        began, kind, code = time.monotonic(), "other", ""
        try:
            uploaded = self._client.upload(read.content, job.watch.image_type)
            kind = "ok"
        except LarkdropError as fault:
            kind, code = fault.kind, "" if fault.code is None else str(fault.code)
            raise
        finally:
            self.calls.add(kind, code)
            self.durations.add(time.monotonic() - began)
        return uploaded

    def sign_in(self) -> None:
        """Fetch a token, so that wrong credentials, and their correction, are noticed without a picture."""
        ticket = self._pace.ticket_to_sign_in()
        if ticket is None:
            return
        try:
            if self._client.sign_in():
                self._answered(ticket, self._pace.signed_in(ticket))
        except LarkdropError as fault:
            self._failed(ticket, fault)
        finally:
            self.give_back(ticket)

    def give_back(self, ticket: Ticket | None) -> None:
        """A ticket that came with a job: if no call was made, another may be."""
        if ticket and not ticket.spent:
            self._pace.give_back(ticket)
            self._queue.wake()

    def _for_this_picture(self, job: Job, fault: LarkdropError) -> LarkdropError:
        """The fault; or one that holds nothing, where something on the way says it to this picture only.

        As a filter does that answers with a page of its own, again and again, while others are uploaded.
        """
        if not isinstance(fault, SetupFault) or fault.code is not None:
            return fault
        again, job.held_at = self._uploaded_at > job.held_at, time.monotonic()
        return CallFault(fault.message, hint=fault.hint, log_id=fault.log_id) if again else fault

    def _count_refusal(self, job: Job) -> bool:
        """Count a refused call. Whether it is the picture's fault: so many since the first, and others are uploaded."""
        if job.refused == 0:
            job.refused, job.refused_at = 1, time.monotonic()
        elif self._uploaded_at > job.refused_at and not self._pace.hold:
            job.refused += 1
        return job.refused >= MOST_REFUSED

    def _answered(self, ticket: Ticket, ended: Hold | None) -> None:
        """Lark answered as it should; ``ended`` is the hold that this ended, if it did."""
        if ended:
            self._log.info("lark_resumed", after_seconds=round(time.monotonic() - ended.since, 1), **self._waiting())
        if ended or ticket.probe:
            self._queue.wake()

    def _failed(self, ticket: Ticket, fault: LarkdropError, job: Job | None = None) -> None:
        self.last_fault = (now(), fault.without_frames())
        began = self._pace.failed(ticket, fault, first=job is not None and job.failed_calls == 0)
        if job and isinstance(fault, MomentFault) and not isinstance(fault, Throttled):
            job.failed_calls += 1
        path = job.path if job else None
        if began:
            say = self._log.error if began.needs_person else self._log.warning
            say("lark_held", **fault.fields(), **self._waiting())
        if codes.is_unknown(fault):
            self._log_once(fault.code, "error", "unknown_code", path=path, **fault.fields())
        if isinstance(fault, CallFault):
            about = fault.message if fault.code is None else fault.code
            self._log_once(about, "warning", "call_refused", path=path, **fault.fields())
        self._queue.wake()

    def _waiting(self) -> dict[str, int]:
        counts = self._queue.counts()
        return {"waiting": counts.waiting + counts.working}
