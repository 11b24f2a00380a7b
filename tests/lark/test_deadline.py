"""Calls that take too long are ended by another thread."""

from __future__ import annotations

import threading

import pytest

from larkdrop.lark import deadline
from larkdrop.lark.deadline import Deadlines, Overdue
from tests.helpers import wait_until


def test_a_call_in_time_is_left_alone() -> None:
    """Whatever comes of it."""
    deadlines, ended = Deadlines(), threading.Event()
    with deadlines.within(60, ended.set):
        pass
    with pytest.raises(ConnectionError), deadlines.within(60, ended.set):
        raise ConnectionError
    assert not ended.is_set()


def test_the_first_deadline_comes_first() -> None:
    """Also where the thread sleeps until a later one; and a call that was ended counts as such, whatever it raised."""
    deadlines, ended = Deadlines(), threading.Event()
    with (
        deadlines.within(60, lambda: None),
        pytest.raises(Overdue, match="not finished within 0 s"),
        deadlines.within(0.01, ended.set),
    ):
        raise ConnectionError(ended.wait(20))


def test_a_call_that_was_not_connected_yet_is_ended_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it returns; that ending it fails does no harm."""
    monkeypatch.setattr(deadline, "AGAIN", 0.01)
    times, enough = [], threading.Event()

    def end() -> None:
        times.append(1)
        if len(times) == 3:
            enough.set()
        raise OSError

    with pytest.raises(Overdue), Deadlines().within(0.01, end):
        assert enough.wait(20)


def thread_of_a_call(deadlines: Deadlines) -> threading.Thread:
    """The thread that watches over a call, which is done at once."""
    before = set(threading.enumerate())
    with deadlines.within(0.2, lambda: None):
        (thread,) = set(threading.enumerate()) - before
    return thread


def test_no_thread_stays_where_no_call_is_in_hand() -> None:
    """It ends after the last deadline; the next call starts another one."""
    deadlines = Deadlines()
    first = thread_of_a_call(deadlines)
    wait_until(lambda: not first.is_alive())
    second = thread_of_a_call(deadlines)
    wait_until(lambda: not second.is_alive())
