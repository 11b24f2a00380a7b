"""How long a file that failed waits: growing pauses with jitter, longer where Lark refuses the call itself."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import pytest

from larkdrop.config.settings import Upload, Watch
from larkdrop.errors import CallFault, LarkdropError, MomentFault
from larkdrop.folder.drop import Drop
from larkdrop.pipeline.backoff import Backoff, pauses
from larkdrop.pipeline.job import Job
from larkdrop.pipeline.queue import DropQueue


class Later(DropQueue):
    """Remembers the pauses that it is given."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def retry_later(self, job: Job, pause: float) -> None:
        """Keep the pause."""
        self.pauses.append(pause)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A file that fails."""
    return Job(Drop(f"{tmp_path}/a.png", Watch(path=tmp_path)))


def test_pauses_grow_up_to_the_longest() -> None:
    """Each is random, and twice as long at most as the one before could be."""
    series = [list(islice(pauses(1, 60), 40)) for _ in range(50)]
    for number, limit in enumerate((1, 2, 4, 8, 16, 32, 60, 60, 60)):
        some = [one[number] for one in series]
        assert 0 <= min(some) < max(some) <= limit
    assert all(limit / 2 < max(one[number] for one in series) for number, limit in ((0, 1), (5, 32), (39, 60)))


def test_any_thread_may_ask_for_the_next_pause() -> None:
    """A file comes to another worker each time."""
    series, got = pauses(1, 1), []
    for _ in range(3):
        thread = threading.Thread(target=lambda: got.append(next(series)))
        thread.start()
        thread.join()
    assert len(got) == 3


def test_a_refused_call_waits_longer(job: Job) -> None:
    """By default from a minute to an hour."""
    queue = Later()
    backoff = Backoff(Upload(), queue)
    for _ in range(60):
        backoff.retry(job, CallFault("refused"))
    assert 300 < max(queue.pauses) <= 3600


@pytest.mark.parametrize("first", [None, CallFault("refused")])
def test_another_reason_begins_anew(job: Job, first: LarkdropError | None) -> None:
    """A full disk says nothing of Lark, so what failed for it before fails for Lark the first time."""
    queue = Later()
    backoff = Backoff(Upload(), queue)
    for _ in range(20):
        backoff.retry(job, first)
    backoff.retry(job, MomentFault("down"))
    assert job.failures == 1
    assert queue.pauses[-1] <= 1
