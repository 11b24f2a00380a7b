"""A part that has something to do and makes no progress is named; one that waits, or gets on, is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from larkdrop.service.liveness import Liveness
from tests.pipeline.simulation import Clock


@dataclass
class Parts:
    """What the parts of a daemon would answer."""

    clock: Clock = field(default_factory=Clock)
    activities: dict[str, tuple[bool, int]] = field(default_factory=dict)
    queue_activity: tuple[bool, int] = (False, 0)
    in_hand: float = 0.0
    due: float | None = None
    longest_upload: float = 200.0

    def activity(self) -> Any:
        """Of rescan, recorder and watcher."""
        return self.activities


@dataclass
class Queue:
    """A queue that answers with what ``parts`` say."""

    parts: Parts

    def activity(self) -> tuple[bool, int]:
        """Whether a job waits for an idle worker."""
        return self.parts.queue_activity

    def longest_in_hand(self) -> float:
        """Seconds."""
        return self.parts.in_hand


@pytest.fixture
def parts() -> Parts:
    """Parts that have nothing to do."""
    return Parts()


@pytest.fixture
def stuck(parts: Parts) -> Callable[..., list[str]]:
    """Ask which parts are stuck, where 10 s are allowed."""
    part = cast("Any", parts)
    built = SimpleNamespace(queue=Queue(parts), rescan=part, settle=part, recorder=part, client=part)
    liveness = Liveness(cast("Any", built), watcher=part, clock=parts.clock)

    def ask(*threads: threading.Thread) -> list[str]:
        return liveness.stuck(10, threads)

    return ask


def test_a_part_with_work_and_no_progress(parts: Parts, stuck: Callable[..., list[str]]) -> None:
    """The walk through a folder, say, or a folder's recorder: named after that time, and no longer once it gets on."""
    parts.activities = {"rescan": (True, 5)}
    assert stuck() == []
    parts.clock.now += 11
    assert set(stuck()) == {"rescan"}
    parts.activities = {"rescan": (True, 6)}
    assert stuck() == []
    parts.clock.now += 11
    assert set(stuck()) == {"rescan"}
    parts.activities = {"rescan": (False, 6)}
    assert stuck() == []
    parts.clock.now += 1000
    assert stuck() == []


def test_a_job_in_a_workers_hands(parts: Parts, stuck: Callable[..., list[str]]) -> None:
    """A call may take long, up to its deadline; what takes longer than any job can is stuck."""
    parts.in_hand = 209
    assert stuck() == []
    parts.in_hand = 211
    assert stuck() == ["workers"]


def test_a_job_that_no_idle_worker_takes(parts: Parts, stuck: Callable[..., list[str]]) -> None:
    """The queue has lost its way."""
    parts.queue_activity = (True, 3)
    stuck()
    parts.clock.now += 11
    assert stuck() == ["queue"]


def test_files_that_are_due_to_be_looked_at(parts: Parts, stuck: Callable[..., list[str]]) -> None:
    """A file that settles for an hour is no trouble; one that should have been released is."""
    parts.due = parts.clock.now + 3600
    stuck()
    parts.clock.now += 3599
    assert stuck() == []
    parts.clock.now += 2
    stuck()
    parts.clock.now += 11
    assert stuck() == ["settle"]


def test_a_thread_that_ended(parts: Parts, stuck: Callable[..., list[str]]) -> None:
    """Nothing does its work any more."""
    thread = threading.Thread(target=lambda: None, name="worker-3")
    thread.start()
    thread.join()
    assert stuck(thread) == ["worker-3"]
