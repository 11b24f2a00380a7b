"""One file's way, step by step: nothing that is known is lost, whatever fails between two steps."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import pytest

from larkdrop.config.settings import Settings
from larkdrop.folder import after_upload, sidecar
from larkdrop.folder import picture as picture_module
from larkdrop.folder.drop import Drop
from larkdrop.folder.settle import Settle
from larkdrop.lark.client import Client, Uploaded
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.pipeline import queue as queue_module
from larkdrop.pipeline.backoff import Backoff
from larkdrop.pipeline.dedupe import Claims
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.uploader import Uploader
from larkdrop.pipeline.worker import Worker
from larkdrop.records.key_cache import KeyCache
from larkdrop.records.result_log import ResultLog
from larkdrop.records.shared_keys import Elsewhere, SharedKeys
from larkdrop.records.sidecar_fields import Record
from tests.helpers import picture, sidecar_of, wait_until


class CountingClient(Client):
    """A Lark that has a key for everything."""

    calls = 0
    while_uploading: Callable[[], object] = staticmethod(lambda: None)

    def upload(self, image: bytes, image_type: str) -> Uploaded:
        """The next key."""
        self.while_uploading()
        self.calls += 1
        return Uploaded(f"key-{self.calls}", "")


class Line:
    """A worker and all it needs, one job at a time."""

    def __init__(
        self, home: Path, stack: ExitStack, after_upload: str = "keep", pause: float = 0.001,
        shared: SharedKeys | None = None,
    ) -> None:  # fmt: skip
        self.inbox = home / "inbox"
        self.inbox.mkdir()
        self.settings = Settings.model_validate({
            "lark": {"app_id": "cli_x", "app_secret": "s", "base_url": "http://127.0.0.1:9"},
            "watch": [{"path": str(self.inbox), "after_upload": after_upload}],
            "upload": {"settle_seconds": 0, "backoff_initial": pause, "backoff_max": pause},
            "state": {"dir": str(home / "state")},
        })  # fmt: skip
        (home / "state").mkdir()
        self.cache = stack.enter_context(KeyCache(self.settings.key_cache))
        results = stack.enter_context(ResultLog(self.settings.results))
        pace = Pace(LocalWindows(10_000, 10_000), probe_seconds=60, pauses=lambda: repeat(1.0))
        self.queue = DropQueue(pace)
        backoff = Backoff(self.settings.upload, self.queue)
        claims = Claims(self.queue, self.cache, shared or SharedKeys())
        self.recorder = Recorder(
            self.settings.watch, self.cache, results, queue=self.queue, claims=claims, backoff=backoff
        )
        self.client = CountingClient(self.settings.lark)
        self.worker = Worker(
            self.settings, queue=self.queue, settle=Settle(self.queue.put), recorder=self.recorder,
            uploader=Uploader(self.client, pace, self.queue), claims=claims, backoff=backoff,
        )  # fmt: skip

    def drop(self, name: str, content: bytes) -> Path:
        """Write a file, and tell the queue of it."""
        path = self.inbox / name
        path.write_bytes(content)
        self.queue.put(Drop(str(path), self.settings.watch[0], closed=True))
        return path

    def work(self, jobs: int = 1) -> None:
        """Handle so many jobs."""
        for _ in range(jobs):
            job = self.queue.take()
            assert job
            self.worker.handle(job)
            self.recorder.stop()  # it records what waits, and returns
            self.recorder.run(job.watch)

    def work_all(self) -> None:
        """Handle jobs until none is left."""
        while self.queue.jobs():
            self.work()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed after the test."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def line(tmp_path: Path, stack: ExitStack) -> Line:
    """A worker with an inbox of its own."""
    return Line(tmp_path, stack)


def fail_once(monkeypatch: pytest.MonkeyPatch, target: object, name: str, error: Exception) -> None:
    """The next call of a function raises ``error``; then it works again."""
    works = getattr(target, name)

    def fails(*_: object, **__: object) -> None:
        monkeypatch.setattr(target, name, works)
        raise error

    monkeypatch.setattr(target, name, fails)


def test_a_disk_that_errs_does_not_cost_the_key(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key can't be kept, then the inbox can't be read: it is still known, and recorded once both work."""
    path = line.drop("a.png", picture())
    fail_once(monkeypatch, line.cache, "put", sqlite3.OperationalError("disk I/O error"))
    fail_once(monkeypatch, sidecar, "write_all", OSError(errno.EIO, "I/O error"))
    line.work()
    fail_once(monkeypatch, picture_module, "parent_of", OSError(errno.EIO, "I/O error"))
    line.work_all()
    beside = sidecar_of(path)
    assert beside
    assert beside["image_key"] == "key-1"
    line.drop("b.png", picture(1))
    line.work_all()
    assert line.client.calls == 2


def test_a_picture_that_is_closed_twice_is_recorded_once(line: Line) -> None:
    """The second time while the first is recorded: it is counted once, and has one line."""
    path = line.drop("a.png", picture())
    job = line.queue.take()
    assert job
    line.queue.put(Drop(str(path), job.watch, closed=True))
    line.worker.handle(job)
    line.recorder.stop()
    line.recorder.run(job.watch)
    line.work_all()
    counts, _ = line.recorder.durations[job.watch].cumulative()
    assert (counts[-1], line.recorder.outcomes.total(), line.client.calls) == (1, 1, 1)


@pytest.mark.parametrize("second_try_fails", [False, True])
def test_equal_pictures_go_once_also_while_keys_cannot_be_kept(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, *, second_try_fails: bool
) -> None:
    """A key that is known and not yet kept is waited for by what has the same content, whatever fails next."""
    line = Line(tmp_path, stack, pause=3600)
    line.drop("a.png", picture())
    fail_once(monkeypatch, line.cache, "put", sqlite3.OperationalError("database or disk is full"))
    line.work()
    if second_try_fails:
        line.queue.retry_now()
        fail_once(monkeypatch, picture_module, "parent_of", OSError(errno.EMFILE, "Too many open files"))
        line.work()
    line.drop("no.png", b"no picture")
    line.work()
    assert line.recorder.keeps_keys
    same = line.drop("same.png", picture())
    line.work()
    line.queue.retry_now()
    line.work_all()
    assert line.client.calls == 1
    beside = sidecar_of(same)
    assert beside
    assert beside["reused"]


def test_a_folder_that_is_removed_while_sidecars_are_written(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no trouble, and nothing is left to do."""
    works = sidecar.write_all

    def remove_and_write(folder: int, records: Mapping[str, Record]) -> dict[str, sidecar.Foreign | OSError]:
        shutil.rmtree(line.inbox / "sub")
        return works(folder, records)

    monkeypatch.setattr(sidecar, "write_all", remove_and_write)
    (line.inbox / "sub").mkdir()
    line.drop("sub/a.png", picture())
    line.work()
    assert not line.queue.jobs()
    assert not line.recorder.trouble.shown


@pytest.mark.parametrize("after_upload", ["keep", "delete"])
def test_a_picture_that_is_changed_in_disguise_while_it_is_uploaded(
    tmp_path: Path, stack: ExitStack, after_upload: str
) -> None:
    """Size and mtime are those of before: the new content is uploaded all the same, and nothing is deleted before."""
    line = Line(tmp_path, stack, after_upload)
    path = line.drop("a.bmp", picture(1, "BMP"))
    before = path.stat()

    def rewrite() -> None:
        line.client.while_uploading = staticmethod(lambda: None)
        path.write_bytes(picture(2, "BMP"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        line.queue.put(Drop(str(path), line.settings.watch[0], closed=True))

    line.client.while_uploading = rewrite
    line.work_all()
    assert line.client.calls == 2
    beside = sidecar_of(path)
    assert beside
    assert beside["image_key"] == "key-2"
    assert path.exists() is (after_upload == "keep")


def test_a_picture_that_is_changed_in_disguise_while_its_sidecar_is_read(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was touched, so its sidecar is looked at; what is written just then is uploaded."""
    path = line.drop("a.bmp", picture(1, "BMP"))
    line.work_all()
    works = sidecar.read

    def rewrite_and_read(folder: int, name: str) -> Record | None:
        monkeypatch.setattr(sidecar, "read", works)
        path.write_bytes(picture(2, "BMP"))
        os.utime(path, (1000, 1000))
        line.queue.put(Drop(str(path), line.settings.watch[0], closed=True))
        clock = line.inbox.parent / "clock"
        wait_until(lambda: clock.write_bytes(b"") == 0 and clock.stat().st_ctime_ns > path.stat().st_ctime_ns)
        return works(folder, name)

    monkeypatch.setattr(sidecar, "read", rewrite_and_read)
    os.utime(path, (1000, 1000))
    line.queue.put(Drop(str(path), line.settings.watch[0], closed=True))
    line.work_all()
    beside = sidecar_of(path)
    assert beside
    assert beside["image_key"] == "key-2"


def test_a_rejected_picture_does_not_end_a_trouble(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture can't be deleted; that is not over because nothing was to be done with another one."""
    line = Line(tmp_path, stack, "delete", pause=3600)
    fail_once(monkeypatch, after_upload, "delete", PermissionError(errno.EACCES, "Permission denied"))
    line.drop("a.png", picture())
    line.work()
    assert line.recorder.trouble.shown
    line.drop("no.png", b"no picture")
    line.work()
    assert line.recorder.outcomes["rejected"] == 1
    assert line.recorder.trouble.shown
    line.queue.retry_now()
    line.work_all()
    assert not line.recorder.trouble.shown


def test_a_ticket_that_is_over_before_the_call(line: Line) -> None:
    """The call waits for another ticket; but only once, since a picture that takes long to read is late each time."""
    line.drop("a.png", picture())
    for made in (0, 1):
        job = line.queue.take()
        assert job
        assert job.ticket
        job.ticket.until = 0.0
        line.worker.handle(job)
        assert line.client.calls == made


def test_no_more_outcomes_than_can_wait(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """While as many wait to be recorded as may, no key is asked for; what came meanwhile is found by a scan."""
    path = line.drop("a.png", picture())
    with monkeypatch.context() as full:
        full.setattr(queue_module, "MOST", 0)
        line.work()
    assert line.client.calls == 0
    assert line.queue.take_overflow()
    line.queue.put_backlog(Drop(str(path), line.settings.watch[0]))
    line.work_all()
    assert sidecar_of(path)


class Rejoining(SharedKeys):
    """A host that is back among others, of which one still has an old claim to each file."""

    host = "host-0"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def still_held(self, path: str) -> bool:
        return "claim" in self.seen

    def claim_file(self, path: str, state: str) -> Elsewhere | None:
        self.seen.append("claim" if "upload" in self.seen else "alone")
        return Elsewhere("old") if self.seen.count("claim") == 1 else None

    def release(self, path: str) -> None:
        self.seen.append("release")


def test_an_outcome_that_another_hosts_old_claim_is_in_the_way_of(tmp_path: Path, stack: ExitStack) -> None:
    """Its file stays locked until it is recorded: no other host uploads it meanwhile."""
    shared = Rejoining()
    line = Line(tmp_path, stack, shared=shared)
    line.client.while_uploading = lambda: shared.seen.append("upload")
    path = line.drop("a.png", picture())
    line.work_all()
    assert shared.seen == ["alone", "upload", "claim", "claim", "release"]
    assert line.client.calls == 1
    beside = sidecar_of(path)
    assert beside
    assert not beside["reused"]
