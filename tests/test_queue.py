"""The queue: fresh before backlog, each path once, and bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop import intake as intake_module
from larkdrop import queue as queue_module
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Stamp
from larkdrop.folder.settle import Settle
from larkdrop.intake import Intake
from larkdrop.lark.pace import Pace
from larkdrop.queue import DropQueue, Job
from larkdrop.record import Record
from larkdrop.recorder import Entry
from larkdrop.settings import Watch
from tests.helpers import wait_until


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A drop folder."""
    return Watch(path=tmp_path)


@pytest.fixture
def queue() -> DropQueue:
    """A queue whose pace always has a ticket."""
    return DropQueue(Pace(per_second=10_000, per_minute=10_000, probe_seconds=1, backoff=lambda _: 1.0))


@pytest.fixture
def drop(watch: Watch) -> Callable[[str], Drop]:
    """Make drops by name."""
    return lambda name: Drop(f"{watch.path}/{name}", watch)


def taken(queue: DropQueue) -> str:
    """The name of the next job, which is then done."""
    job = queue.take()
    assert job
    queue.done(job)
    return Path(job.drop.path).name


def test_fresh_before_backlog(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """What is dropped now overtakes what a scan found, each in its own order."""
    for name in "ab":
        queue.put_backlog(drop(name))
    for name in "cd":
        queue.put(drop(name))
    assert [taken(queue) for _ in range(4)] == ["c", "d", "a", "b"]


def test_each_path_once(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """However often it is found; a fresh event replaces what a scan found."""
    queue.put_backlog(drop("a"))
    queue.put(drop("a"))
    queue.put_backlog(drop("a"))
    queue.put(drop("a"))
    assert queue.counts().waiting == 1
    assert taken(queue) == "a"


def test_a_path_that_comes_again_while_it_is_worked_on(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """It is handed out again, after the first is done and not beside it."""
    queue.put(drop("a"))
    first = queue.take()
    queue.put(drop("a"))
    assert first
    assert queue.counts().waiting == 0
    queue.later(first, 60)
    assert queue.counts().backoff == 0
    assert taken(queue) == "a"


@pytest.mark.parametrize(
    "way", [DropQueue.done, DropQueue.back, DropQueue.soon, lambda queue, job: queue.later(job, 60)]
)
def test_a_worker_that_waits_is_told_of_a_path_that_came_again(
    queue: DropQueue, drop: Callable[[str], Drop], way: Callable[[DropQueue, Job], None]
) -> None:
    """However the first ends, and whoever ends it: the recorder's threads take no jobs themselves."""
    queue.put(drop("a"))
    first = queue.take()
    assert first
    queue.put(drop("a"))
    jobs: list[Job | None] = []
    worker = threading.Thread(target=lambda: jobs.append(queue.take()), daemon=True)
    worker.start()
    wait_until(lambda: queue._idle)
    way(queue, first)
    wait_until(lambda: jobs, 10, "the path to be handed out again")
    worker.join()


def test_a_fresh_event_ends_a_pause(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """A file in backoff that is written anew doesn't wait."""
    queue.put(drop("a"))
    job = queue.take()
    assert job
    queue.later(job, 3600)
    assert queue.counts().backoff == 1
    queue.put(drop("a"))
    assert taken(queue) == "a"
    assert queue.counts().waiting == 0


def test_what_has_no_room_is_found_by_a_rescan(
    queue: DropQueue, drop: Callable[[str], Drop], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its limit the queue forgets, and the folder is the queue."""
    monkeypatch.setattr(queue_module, "MOST", 5)
    monkeypatch.setattr(intake_module, "MOST", 5)
    intake = Intake((watch,), queue, Settle(queue.put), settle_seconds=0, rescan_seconds=3600)
    for number in range(8):
        queue.put(drop(str(number)))
    assert queue.counts().waiting == 5
    intake.tick()
    assert intake.idle, "no rescan while there is no room"
    for _ in range(4):
        taken(queue)
    intake.tick()
    assert not intake.idle, "a rescan is asked for"


def test_an_outcome_to_be_recorded_outlives_a_new_event(
    queue: DropQueue, drop: Callable[[str], Drop], watch: Watch
) -> None:
    """A key that could not be kept yet is not forgotten when its file is written anew."""
    stamp = Stamp(1, 1, 1, 1)
    record = Record("uploaded", "a", "message", "im/v1", "x", "0", 1, 1, "PNG", 1, 1, "", 1, reused=False, log_id="")
    for new_event_while_working in (False, True):
        queue.put(drop("a"))
        job = queue.take()
        assert job
        job.entry = Entry(job.drop.path, watch, stamp, record)
        if new_event_while_working:
            queue.put(drop("a"))
            queue.later(job, 3600)
        else:
            queue.later(job, 3600)
            queue.put(drop("a"))
        again = queue.take()
        assert again
        assert again.entry is job.entry
        queue.done(again)
