"""The queue: fresh before backlog, each path once, and bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Stamp
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.pipeline import queue as queue_module
from larkdrop.pipeline.job import Job, Outcome
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.rescan import Rescan
from larkdrop.records.sidecar_fields import Record
from tests.helpers import wait_until
from tests.pipeline.simulation import Clock

RECORD = Record("uploaded", "a", "message", "im/v1", "x", "0", 1, 1, "PNG", 1, 1, "", 1, reused=False, log_id="")


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A drop folder."""
    return Watch(path=tmp_path)


@pytest.fixture
def queue() -> DropQueue:
    """A queue whose pace always has a ticket, and in which everything happens in one moment."""
    clock = Clock()
    pace = Pace(LocalWindows(10_000, 30_000), probe_seconds=1, pauses=lambda: repeat(1.0), clock=clock)
    return DropQueue(pace, clock)


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
    queue.retry_later(first, 60)
    assert queue.counts().backoff == 0
    assert taken(queue) == "a"


@pytest.mark.parametrize(
    "way",
    [DropQueue.done, DropQueue.wait_for_ticket, DropQueue.look_again, lambda queue, job: queue.retry_later(job, 60)],
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
    queue.retry_later(job, 3600)
    assert queue.counts().backoff == 1
    queue.put(drop("a"))
    assert taken(queue) == "a"
    assert queue.counts().waiting == 0


def test_what_only_waits_for_memory_has_not_failed(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """A large picture that others leave no memory for is one that waits."""
    queue.put(drop("large"))
    job = queue.take()
    assert job
    queue.retry_later(job, 0.5)
    place = queue.place(job.path)
    assert place
    assert place.where == "waiting"


def test_a_person_says_that_it_is_fixed(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """What failed is tried at once, in order, however long it would have waited."""
    for name in "ab":
        queue.put(drop(name))
    jobs = [queue.take(), queue.take()]
    for job in jobs:
        assert job
        queue.retry_later(job, 3600)
    queue.retry_now()
    assert [taken(queue), taken(queue)] == ["a", "b"]


def test_what_has_no_room_is_found_by_a_rescan(
    queue: DropQueue, drop: Callable[[str], Drop], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its limit the queue forgets, and the folder is the queue."""
    monkeypatch.setattr(queue_module, "MOST", 5)
    rescan = Rescan((watch,), queue, 3600)
    for number in range(18):
        queue.put(drop(str(number)))
    assert queue.counts().waiting == 15
    rescan.tick()
    assert rescan.idle, "no rescan while there is no room"
    for _ in range(14):
        taken(queue)
    rescan.tick()
    assert not rescan.idle, "a rescan is asked for"


def test_what_could_not_go_keeps_its_place_in_the_backlog(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """As after a throttle: it has waited the longest."""
    for name in "abc":
        queue.put_backlog(drop(name))
        queue._clock.now += 1  # type: ignore[attr-defined]
    job = queue.take()
    assert job
    queue.wait_for_ticket(job)
    assert [taken(queue) for _ in range(3)] == ["a", "b", "c"]


def test_a_scan_that_waits_for_room_is_not_stuck(
    queue: DropQueue, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until half of the backlog is done, which takes minutes under the rate limit, it has nothing to do."""
    monkeypatch.setattr(queue_module, "MOST", 6)
    for number in range(9):
        (watch.path / str(number)).write_bytes(b"old")
    rescan = Rescan((watch,), queue, 3600)
    rescan.request(watch)
    thread = threading.Thread(target=rescan.run)
    thread.start()
    try:
        wait_until(lambda: queue.scan_waits, what="the scan to wait")
        taken(queue)
        assert rescan.activity()["rescan"] == (False, 7)
        for _ in range(2):
            taken(queue)
        wait_until(lambda: queue.counts().backlog == 6, what="the scan to go on")
    finally:
        queue.stop()
        rescan.stop()
        thread.join(10)


def test_a_scan_goes_on_however_room_is_made(
    queue: DropQueue, drop: Callable[[str], Drop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an event takes a path out of the backlog at the moment when there would be room enough."""
    monkeypatch.setattr(queue_module, "MOST", 6)
    for number in range(6):
        queue.put_backlog(drop(str(number)))
    scan = threading.Thread(target=queue.put_backlog, args=(drop("found"),), daemon=True)
    scan.start()
    for _ in range(2):
        taken(queue)
    queue.put(drop("5"))
    assert [taken(queue) for _ in range(4)] == ["5", "2", "3", "4"]
    scan.join(10)
    assert not scan.is_alive()


def test_what_a_scan_found_and_had_to_settle_is_backlog(queue: DropQueue, drop: Callable[[str], Drop]) -> None:
    """However young it is; and it takes nothing from what an event told of the same path."""
    queue.put(replace(drop("found"), by_scan=True))
    queue.put(drop("dropped"))
    queue.put(replace(drop("dropped"), by_scan=True))
    assert (queue.counts().fresh, queue.counts().backlog) == (1, 1)
    assert [taken(queue) for _ in range(2)] == ["dropped", "found"]


def test_a_new_folder_does_not_wait_for_a_scan_that_waits(
    queue: DropQueue, drop: Callable[[str], Drop], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a scan waits for room in the backlog, what is dropped with its folder is fresh."""
    monkeypatch.setattr(queue_module, "MOST", 5)
    for number in range(9):
        (watch.path / str(number)).write_bytes(b"old")
    rescan = Rescan((watch,), queue, 3600)
    rescan.request(watch)
    threads = [threading.Thread(target=run) for run in (rescan.run, rescan.run_folders)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: queue.counts().backlog == 5, what="the scan to wait")
        (watch.path / "new").mkdir()
        (watch.path / "new" / "now").write_bytes(b"new")
        rescan.request(watch, f"{watch.path}/new")
        wait_until(lambda: queue.counts().fresh == 1, 10, "the new folder's picture")
        assert taken(queue) == "now"
    finally:
        queue.stop()
        rescan.stop()
        for thread in threads:
            thread.join(10)


def test_a_stop_ends_a_walk(queue: DropQueue, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is: what it would have found is found after the next start."""
    (watch.path / "new").mkdir()
    for number in range(9):
        (watch.path / "new" / str(number)).write_bytes(b"new")
    rescan = Rescan((watch,), queue, 3600)
    works = queue.put

    def put_and_stop(found: Drop) -> None:
        works(found)
        rescan.stop()

    monkeypatch.setattr(queue, "put", put_and_stop)
    rescan.request(watch, f"{watch.path}/new")
    rescan.run_folders()
    assert queue.counts().fresh == 1


def test_an_outcome_to_be_recorded_outlives_a_full_queue(
    queue: DropQueue, drop: Callable[[str], Drop], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that could not be kept yet is not forgotten where there is no room for more."""
    monkeypatch.setattr(queue_module, "MOST", 1)
    for number in range(9):
        queue.put(drop(str(number)))
        job = queue.take()
        assert job
        queue.retry_later(job, 60)
    queue.put(drop("a"))
    job = queue.take()
    assert job
    job.outcome = Outcome(RECORD, Stamp(1, 1, 1, 1))
    queue.retry_later(job, 60)
    place = queue.place(job.drop.path)
    assert place
    assert place.job is job


def test_a_file_that_another_process_works_on_is_looked_at_again_and_again(
    queue: DropQueue, drop: Callable[[str], Drop]
) -> None:
    """However much waits for tickets: for how long its lock is refused tells whether that process is frozen."""
    for name in "abc":
        queue.put_backlog(drop(name))
    for _ in range(3):
        job = queue.take()
        assert job
        assert Path(job.path).name == "a"
        job.is_locked = True
        queue.retry_later(job, 0)
    job = queue.take()
    assert job
    assert job.ticket is None


def test_outcomes_that_wait_to_be_recorded_are_bounded(
    queue: DropQueue, drop: Callable[[str], Drop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past a lane of them, beside a lane of other files, no more are to be made until some are recorded."""
    monkeypatch.setattr(queue_module, "MOST", 2)
    for number in range(4):
        assert queue.has_room_for_outcomes
        queue.put(drop(str(number)))
        job = queue.take()
        assert job
        job.outcome = Outcome(RECORD, Stamp(1, 1, 1, 1))
        queue.retry_later(job, 60)
    assert not queue.has_room_for_outcomes


def test_an_outcome_to_be_recorded_outlives_a_new_event(
    queue: DropQueue, drop: Callable[[str], Drop], watch: Watch
) -> None:
    """A key that could not be kept yet is not forgotten when its file is written anew."""
    stamp = Stamp(1, 1, 1, 1)
    for new_event_while_working in (False, True):
        queue.put(drop("a"))
        job = queue.take()
        assert job
        job.outcome = Outcome(RECORD, stamp)
        if new_event_while_working:
            queue.put(drop("a"))
            queue.retry_later(job, 3600)
        else:
            queue.retry_later(job, 3600)
            queue.put(drop("a"))
        again = queue.take()
        assert again
        assert again.outcome is job.outcome
        queue.done(again)
