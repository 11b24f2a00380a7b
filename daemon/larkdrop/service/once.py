"""``run --once``: when it is finished, and what it leaves, why, and what a person can do."""

from __future__ import annotations

import math
from collections.abc import Iterator

from larkdrop.errors import CallFault
from larkdrop.pipeline.job import Job, Outcome, Step
from larkdrop.service.parts import Parts
from larkdrop.service.status import is_gone

# How far an outcome came, by the step that could not be taken.
NOT_RECORDED = {
    Step.KEY_CACHE: "its key can't be kept in the key cache",
    Step.RESULT_LOG: "its line can't be written to the result log",
    Step.SIDECAR: "its sidecar can't be written; its key is in the result log",
}


def is_finished(live: Parts) -> bool:
    """Whether nothing is left to do, or nothing that can be done before a person acts."""
    if not live.rescan.idle:
        return False
    hold = live.pace.hold
    if hold and hold.needs_person and not live.queue.counts().working:
        return True
    return live.left == sum(_needs_a_person(job, live) for job in live.queue.jobs())


def left_over(live: Parts) -> Iterator[dict[str, object]]:
    """What is not done, as the fields of a log line each."""
    for watch in live.settings.watch:
        if is_gone(watch):
            yield {"path": str(watch.path), "reason": "there is no such folder", "hint": "Create it."}
    for path in live.rescan.unreadable:
        yield {"path": path, "reason": "the folder can't be listed", "hint": "Let larkdrop's user read it."}
    for path in live.worker.unreadable:
        yield {"path": path, "reason": "the file can't be read", "hint": "Let larkdrop's user read it."}
    hold, files = live.pace.hold, live.left
    if hold and files:
        yield {"files": files, "reason": f"uploads are held: {hold.reason}", "hint": hold.reason.hint}
        return
    for job in live.queue.jobs():
        fault, outcome = job.fault, job.outcome
        hint = fault.hint if fault else "The log says what can't be written."
        reason = _not_recorded(job, outcome) if outcome else str(fault or "its turn did not come")
        yield {"path": job.path, "reason": reason, "hint": hint}


def _needs_a_person(job: Job, live: Parts) -> bool:
    """Whether a file can't be recorded, or Lark refuses the call itself."""
    if isinstance(job.fault, CallFault):
        return True
    if job.fault:
        return not live.recorder.keeps_keys
    if job.outcome is None:  # a duplicate waits for a key that can't be kept
        return not live.recorder.keeps_keys and job.taken_at == math.inf
    return job.outcome.failed


def _not_recorded(job: Job, outcome: Outcome) -> str:
    cleared = "deleted" if job.watch.after_upload == "delete" else "moved"
    return NOT_RECORDED.get(min(outcome.left, default=Step.AFTER_UPLOAD), f"it can't be {cleared} after the upload")
