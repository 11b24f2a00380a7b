"""The promise, against a model: whatever happens to a folder, every picture ends with one true answer.

The parts run in this process, one job at a time, so that a crash can come between any two steps.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from larkdrop.config.settings import Settings
from larkdrop.folder import sidecar
from larkdrop.folder.scan import Scan
from larkdrop.folder.settle import Settle
from larkdrop.lark.client import Client, Uploaded
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.pipeline.backoff import Backoff
from larkdrop.pipeline.dedupe import Claims
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.uploader import Uploader
from larkdrop.pipeline.worker import Worker
from larkdrop.records.key_cache import KeyCache
from larkdrop.records.result_log import ResultLog
from larkdrop.records.shared_keys import SharedKeys
from tests.helpers import picture, sidecar_of

NAMES = ["a.png", "b.png", "c.png"]
STEPS = ["before the call", "after the call", "key cache", "result log", "sidecar"]


class Crash(BaseException):
    """The process ends here."""


class CountingLark(Client):
    """The outermost edge: a Lark that gives keys and remembers for what."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.given: dict[str, str] = {}
        self.crash: str | None = None

    def upload(self, image: bytes, image_type: str) -> Uploaded:
        """Give a key."""
        if self.crash == "before the call":
            raise Crash
        key = f"img_{len(self.given)}_{image_type}"
        self.given[key] = hashlib.sha256(image).hexdigest()
        if self.crash == "after the call":
            raise Crash
        return Uploaded(key, "log")


class Promise(RuleBasedStateMachine):
    """Drops, rewrites, renames, deletions, restarts and crashes; after every settled run the promise holds."""

    @initialize()
    def begin(self) -> None:
        """An empty inbox."""
        structlog.configure(
            processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.ReturnLoggerFactory()
        )
        self.home = Path(tempfile.mkdtemp(prefix="larkdrop-promise-"))
        self.inbox = self.home / "inbox"
        self.inbox.mkdir()
        self.settings = Settings.model_validate(
            {
                "lark": {"app_id": "cli_x", "app_secret": "s", "base_url": "http://127.0.0.1:9"},
                "watch": [{"path": str(self.inbox)}],
                "upload": {"settle_seconds": 0, "backoff_initial": 0.01, "backoff_max": 0.01},
                "state": {"dir": str(self.home / "state")},
            }
        )
        (self.home / "state").mkdir()
        self.lark = CountingLark(self.settings.lark)
        self.lost_calls = 0

    def teardown(self) -> None:
        """Nothing stays."""
        if hasattr(self, "home"):
            shutil.rmtree(self.home)

    def go(self, crash: str | None = None) -> None:
        """A process from start to end, or to a crash: scan, and work until nothing is left."""
        self.lark.crash = crash
        with ExitStack() as stack:
            cache = stack.enter_context(KeyCache(self.home / "state" / "keys.sqlite3"))
            results = stack.enter_context(ResultLog(self.settings.results))
            if crash in {"key cache", "result log", "sidecar"}:
                self.break_step(crash, stack, cache, results)
            pace = Pace(LocalWindows(10_000, 10_000), probe_seconds=60, pauses=lambda: repeat(1.0))
            queue = DropQueue(pace)
            backoff = Backoff(self.settings.upload, queue)
            claims = Claims(queue, cache, SharedKeys())
            recorder = Recorder(self.settings.watch, cache, results, queue=queue, claims=claims, backoff=backoff)
            worker = Worker(
                self.settings, queue=queue, settle=Settle(queue.put), uploader=Uploader(self.lark, pace, queue),
                recorder=recorder, claims=claims, backoff=backoff,
            )  # fmt: skip
            for drop in Scan(self.settings.watch[0], sweep_before=float("inf"), unreadable=lambda *_: None):
                queue.put_backlog(drop)
            try:
                while queue.counts().waiting:
                    job = queue.take()
                    assert job
                    worker.handle(job)
                    recorder.stop()  # it records what waits, and returns
                    recorder.run(job.watch)
            except Crash:
                self.lost_calls += crash == "after the call"

    def break_step(self, crash: str, stack: ExitStack, cache: KeyCache, results: ResultLog) -> None:
        """The process ends when it comes to a step of recording."""

        def end(*_: object) -> None:
            raise Crash

        target: Any = {"key cache": cache, "result log": results, "sidecar": sidecar}[crash]
        name = {"key cache": "put", "result log": "append", "sidecar": "_write"}[crash]
        before: Callable[..., Any] = getattr(target, name)
        self.lost_calls += crash == "key cache" and self.would_call()

        def end_with_keywords(*_: object, **__: object) -> None:
            end()

        setattr(target, name, end_with_keywords)
        stack.callback(setattr, target, name, before)

    def would_call(self) -> bool:
        """Whether a run would come to a call at all: only then can its answer be lost."""
        known = set(self.lark.given.values())
        here = {hashlib.sha256(path.read_bytes()).hexdigest() for path in self.inbox.glob("*.png")}
        return bool(here - known) or bool(self.lost_calls)

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 4))
    def drop(self, name: str, number: int) -> None:
        """Write a picture; perhaps over another, perhaps known content."""
        (self.inbox / name).write_bytes(picture(number, "BMP"))

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 4))
    def replace_in_disguise(self, name: str, number: int) -> None:
        """The same size and mtime, other content."""
        path = self.inbox / name
        if path.exists():
            before = path.stat()
            path.write_bytes(picture(number, "BMP"))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(one=st.sampled_from(NAMES), other=st.sampled_from(NAMES))
    def rename(self, one: str, other: str) -> None:
        """Rename a picture, perhaps onto another; the sidecar stays behind."""
        if (self.inbox / one).exists():
            (self.inbox / one).rename(self.inbox / other)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        """Delete a picture."""
        (self.inbox / name).unlink(missing_ok=True)

    @rule(name=st.sampled_from(NAMES), size=st.integers(0, 60))
    def damage_sidecar(self, name: str, size: int) -> None:
        """Cut a sidecar short, or remove it."""
        place = self.inbox / sidecar.name_for(name)
        if place.exists():
            place.write_bytes(place.read_bytes()[:size]) if size else place.unlink()

    @rule(step=st.sampled_from(STEPS))
    def crash(self, step: str) -> None:
        """A process that ends at a step."""
        self.go(step)

    @rule()
    def run_and_check(self) -> None:
        """After an undisturbed run every picture has one true answer, and nothing went twice that was recorded."""
        self.go()
        for path in self.inbox.glob("*.png"):
            beside = sidecar_of(path)
            assert beside
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            assert beside["sha256"] == sha256
            assert self.lark.given[beside["image_key"]] == sha256
        calls = len(self.lark.given)
        self.go()
        assert len(self.lark.given) == calls, "a second run finds nothing to do"
        assert not [name for name in os.listdir(self.inbox) if sidecar.is_temp(name)]

    @invariant()
    def no_sidecar_lies(self) -> None:
        """Whatever happened, a sidecar's key is one that Lark gave for the content that it names."""
        if hasattr(self, "inbox"):
            for place in self.inbox.glob("*.lark.json"):
                beside = sidecar_of(place.with_name(place.name.removesuffix(sidecar.SUFFIX))) if _whole(place) else None
                assert beside is None or self.lark.given[beside["image_key"]] == beside["sha256"]

    @invariant()
    def nothing_recorded_goes_twice(self) -> None:
        """The same content is uploaded again only where a crash swallowed the answer."""
        if hasattr(self, "lark"):
            contents = list(self.lark.given.values())
            assert len(contents) - len(set(contents)) <= self.lost_calls


def _whole(place: Path) -> bool:
    return place.read_bytes().endswith(b"}\n")


TestPromise = Promise.TestCase
TestPromise.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
