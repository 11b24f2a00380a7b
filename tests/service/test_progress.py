"""Does every part get on?"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from larkdrop.progress import Progress, aside, step, waiting
from tests.helpers import wait_until


class Hand:
    """A thread of ours that does one thing after the other, as it is told."""

    def __init__(self, progress: Progress) -> None:
        self.go = threading.Semaphore(0)
        self.waits = False
        self.ended = False
        self._thread = threading.Thread(target=progress.run, args=(self._run,), name="hand", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.go.acquire()
        step()
        self.go.acquire()
        with waiting:
            self.waits = True
            self.go.acquire()
        self.waits = False
        self.go.acquire()

    def end(self) -> None:
        """Let it run to its end."""
        self.go.release(9)
        self._thread.join()


@pytest.fixture
def now() -> list[float]:
    """The clock, set by the test."""
    return [0.0]


@pytest.fixture
def progress(now: list[float]) -> Progress:
    """With that clock."""
    return Progress(lambda: now[0])


@pytest.fixture
def hand(progress: Progress) -> Iterator[Hand]:
    """A watched thread."""
    made = Hand(progress)
    wait_until(lambda: "hand" in progress._parts)
    yield made
    made.end()


def test_a_thread_that_gets_no_further_is_stuck(progress: Progress, now: list[float], hand: Hand) -> None:
    """It is named once it did nothing for longer than allowed; a step, or a wait, ends that."""
    assert progress.stuck(10) == []
    now[0] = 11
    assert progress.stuck(10) == ["hand"]
    hand.go.release()
    wait_until(lambda: not progress.stuck(10), what="the step")
    now[0] = 22
    assert progress.stuck(10) == ["hand"]
    hand.go.release()
    wait_until(lambda: hand.waits)
    now[0] = 1000
    assert progress.stuck(10) == []
    hand.go.release()
    wait_until(lambda: not hand.waits)
    assert progress.stuck(10) == []
    now[0] = 1011
    assert progress.stuck(10) == ["hand"]


def test_a_thread_that_ended_is_stuck(progress: Progress, now: list[float], hand: Hand) -> None:
    """Nothing does its work any more."""
    hand.end()
    progress.stuck(10)
    now[0] = 11
    assert progress.stuck(10) == ["hand"]


def test_a_part_with_work_and_no_progress_is_stuck(progress: Progress, now: list[float]) -> None:
    """The queue, say: something may go, and nothing is taken."""
    busy, done = True, 0
    progress.add("queue", lambda: (busy, done))
    progress.stuck(10)
    now[0], done = 11, 1
    assert progress.stuck(10) == []
    now[0] = 22
    assert progress.stuck(10) == ["queue"]
    busy = False
    assert progress.stuck(10) == []


def start(progress: Progress, name: str, target: Callable[[], None]) -> threading.Thread:
    """A thread that computes in its turn."""
    thread = threading.Thread(target=progress.run, args=(target,), kwargs={"in_turn": True}, name=name, daemon=True)
    thread.start()
    return thread


def test_one_thread_at_a_time_computes(progress: Progress) -> None:
    """And another as soon as it comes to a wait, for whatever that is."""
    computing, most = 0, 0

    def work() -> None:
        nonlocal computing, most
        for number in range(200):
            computing += 1
            most = max(most, computing)
            os.stat("/")  # gives the interpreter away
            computing -= 1
            with waiting if number % 2 else aside:
                os.stat("/")

    threads = [start(progress, f"t{number}", work) for number in range(4)]
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_thread_caught_in_something_slow_holds_up_nobody(progress: Progress) -> None:
    """The next goes on without its turn."""
    slow, done = threading.Event(), threading.Event()
    caught = threading.Event()

    def be_slow() -> None:
        caught.set()
        slow.wait()

    one = start(progress, "slow", be_slow)
    caught.wait()
    other = start(progress, "other", done.set)
    assert done.wait(20)
    slow.set()
    one.join()
    other.join()
    start(progress, "after", done.set).join()
