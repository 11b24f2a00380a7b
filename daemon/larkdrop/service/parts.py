"""The parts of a running daemon: built from the settings, for those who start them and those who ask them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from larkdrop.config.settings import Settings
from larkdrop.folder.settle import Settle
from larkdrop.lark.client import Client
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.pipeline.backoff import Backoff, pauses
from larkdrop.pipeline.dedupe import Claims
from larkdrop.pipeline.intake import Intake
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.rescan import Rescan
from larkdrop.pipeline.uploader import Uploader
from larkdrop.pipeline.worker import Worker
from larkdrop.records.key_cache import KeyCache
from larkdrop.records.outbox import Outbox
from larkdrop.records.result_log import ResultLog
from larkdrop.records.shared_keys import SharedKeys

if TYPE_CHECKING:
    from larkdrop.fleet.member import Member


@dataclass(frozen=True)
class Parts:
    """``since`` is when they were built, in Unix seconds; ``fleet`` is None where this host shares with no other."""

    since: float
    settings: Settings
    cache: KeyCache
    results: ResultLog
    client: Client
    pace: Pace
    queue: DropQueue
    settle: Settle
    backoff: Backoff
    rescan: Rescan
    intake: Intake
    uploader: Uploader
    recorder: Recorder
    worker: Worker
    fleet: Member | None

    @property
    def left(self) -> int:
        """How many files are known and have no outcome yet."""
        return self.queue.left(self.settle.paths)

    @property
    def failing(self) -> list[str]:
        """Files and folders that can't be uploaded or read for now."""
        return [*self.rescan.unreadable, *self.worker.unreadable, *self.queue.in_backoff()]


def build(settings: Settings) -> Parts:
    """Nothing is opened or started yet."""
    lark, upload, shares = settings.lark, settings.upload, bool(settings.fleet.url.get_secret_value())
    cache, results = KeyCache(settings.key_cache, shares=shares), ResultLog(settings.results)
    client = Client(lark)
    sharing = member = None
    if shares:
        from larkdrop.fleet.sharing import Sharing  # noqa: PLC0415 - loads the driver of the database

        sharing = Sharing(lark, settings.fleet)
    pace = Pace(
        sharing.windows if sharing else LocalWindows(lark.requests_per_second, lark.requests_per_minute),
        probe_seconds=lark.probe_seconds,
        pauses=partial(pauses, upload.backoff_initial, upload.backoff_max),
    )
    queue = DropQueue(pace)
    if sharing:
        from larkdrop.fleet.member import Member  # noqa: PLC0415 - loads the driver of the database

        member = Member(sharing, lark, pace=pace, outbox=Outbox(cache), calls=queue.needs_calls, wake=queue.wake)
    settle = Settle(queue.put)
    rescan = Rescan(settings.watch, queue, upload.rescan_seconds)
    intake = Intake(queue, settle, rescan, settle_seconds=upload.settle_seconds)
    uploader = Uploader(client, pace, queue)
    backoff = Backoff(upload, queue)
    claims = Claims(queue, cache, sharing.keys if sharing else SharedKeys())
    recorder = Recorder(settings.watch, cache, results, queue=queue, claims=claims, backoff=backoff)
    worker = Worker(
        settings, queue=queue, settle=settle, uploader=uploader, recorder=recorder, claims=claims, backoff=backoff
    )
    return Parts(
        time.time(), settings, cache, results, client, pace, queue, settle, backoff, rescan, intake, uploader,
        recorder, worker, member,
    )  # fmt: skip
