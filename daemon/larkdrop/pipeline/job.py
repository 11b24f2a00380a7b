"""What goes through the pipeline: a file's job, and its outcome once that is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from larkdrop.config.settings import Watch
from larkdrop.errors import LarkdropError
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Stamp
from larkdrop.lark.windows import Ticket
from larkdrop.records.key_cache import Content
from larkdrop.records.sidecar_fields import Record


class Step(IntEnum):
    """The steps by which an outcome is recorded, in their order."""

    KEY_CACHE = 0
    RESULT_LOG = 1
    SIDECAR = 2
    AFTER_UPLOAD = 3  # once all others are done


@dataclass(eq=False)
class Outcome:
    """What became of a file, and which steps of recording that are ``left``; none is repeated."""

    record: Record
    stamp: Stamp  # the state of the file that the record is about
    content: Content | None = None  # what a key belongs to that is new here; None where the outcome brought none
    left: set[Step] = field(default_factory=lambda: set(Step))
    was_known: bool = False  # by a sidecar that was there already
    failed: bool = False  # whether the step that was tried last failed
    outdated: bool = False  # the file is gone or was changed: there is no sidecar to write and nothing to move
    move_to: str = ""  # where the file will be moved to, once that is chosen

    @property
    def holds_unkept_key(self) -> bool:
        """Whether it has a new key that is not in the key cache yet."""
        return self.content is not None and Step.KEY_CACHE in self.left


@dataclass(eq=False)
class Job:
    """One file's way through the pipeline. ``ticket`` is the permission for a call that came with it, if one did."""

    drop: Drop
    fresh_until: float = -math.inf  # monotonic seconds
    queued_at: float = 0.0  # monotonic seconds
    ticket: Ticket | None = None
    outcome: Outcome | None = None  # known, and not yet recorded everywhere
    was_late: bool = False  # its ticket was over before its call could begin
    doubted: Outcome | None = None  # known, unless another host has recorded the file meanwhile
    taken_at: float = 0.0  # monotonic seconds, since a worker has it; infinite while it is recorded or a duplicate
    locked_since: float = math.inf  # monotonic seconds, where another process works on its file
    is_locked: bool = False  # by that process, which is waited for
    calls: int = 0  # made for this file so far
    failed_calls: int = 0  # of these, by the moment's fault, but for throttles
    refused: int = 0  # calls refused as such, while other pictures were uploaded
    refused_at: float = 0.0  # monotonic seconds of the first of these
    held_at: float = math.inf  # monotonic seconds at which its call last held everything, by an answer without a code
    failures: int = 0  # in a row, for one reason
    fault: LarkdropError | None = None  # of the last failure; None where something on this machine failed
    pauses: Iterator[float] | None = None  # seconds, after each failure
    due: float = 0.0  # monotonic seconds, while in backoff
    path: str = field(init=False)  # the file's, absolute
    watch: Watch = field(init=False)  # the folder that it lies in

    def __post_init__(self) -> None:
        self.path, self.watch = self.drop.path, self.drop.watch

    def leaves(self, record: Record) -> bool:
        """Whether a picture with this outcome is moved or deleted, once that is recorded."""
        return self.watch.after_upload != "keep" and record.status == "uploaded"
