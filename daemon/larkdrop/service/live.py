"""The parts of a running daemon, for those who ask about it."""

from __future__ import annotations

from dataclasses import dataclass

from larkdrop.folder.settle import Settle
from larkdrop.lark.client import Client
from larkdrop.lark.pace import Pace
from larkdrop.pipeline.intake import Intake
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.worker import Worker


@dataclass(frozen=True)
class Live:
    """The running parts; ``since`` is when they were started, in Unix seconds."""

    since: float
    queue: DropQueue
    settle: Settle
    intake: Intake
    pace: Pace
    recorder: Recorder
    worker: Worker
    client: Client
    base_url: str

    @property
    def left(self) -> int:
        """How many files are known and have no outcome yet."""
        counts = self.queue.counts()
        return counts.waiting + counts.working + len(self.settle)

    @property
    def failing(self) -> list[str]:
        """Files and folders that can't be uploaded or read for now."""
        return [*self.intake.unreadable, *self.worker.unreadable, *self.queue.in_backoff()]
