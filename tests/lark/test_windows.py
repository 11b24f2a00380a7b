"""The rate windows, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from larkdrop.lark.windows import LocalWindows, Ticket


def most_in(times: list[float], length: float) -> int:
    """The most of ``times`` in any window of ``length``."""
    return max((sum(1 for other in times if at <= other < at + length) for at in times), default=0)


def take(windows: LocalWindows, now: float, *, fresh: bool) -> Ticket | None:
    """A ticket, if there is one now."""
    return None if windows.delay(now, fresh=fresh) > 0 else windows.take(now, fresh=fresh)


@settings(max_examples=60, deadline=None)
@given(
    per_second=st.integers(1, 20),
    per_minute=st.integers(1, 120),
    steps=st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=250),
)
def test_never_more_than_the_limit_in_any_window(
    per_second: int, per_minute: int, steps: list[tuple[float, bool, bool]]
) -> None:
    """Whenever and by whomever tickets are asked for, and whether or not they are given back."""
    windows, now = LocalWindows(per_second, per_minute), 1000.0
    taken = []
    for step, fresh, needed in steps:
        now += step
        if ticket := take(windows, now, fresh=fresh):
            if needed:
                taken.append(now)
            else:
                windows.give_back(ticket)
    assert most_in(taken, 1.0) <= per_second
    assert most_in(taken, 60.0) <= per_minute


@settings(max_examples=60, deadline=None)
@given(per_second=st.integers(1, 20), per_minute=st.integers(1, 300), fresh=st.booleans())
def test_who_waits_as_told_uses_the_minutes_up(per_second: int, per_minute: int, *, fresh: bool) -> None:
    """Over three of them, nearly all that is allowed goes."""
    windows, now, went = LocalWindows(per_second, per_minute), 1000.0, 0
    while (now := now + windows.delay(now, fresh=fresh) + 1e-6) < 1180:
        went += take(windows, now, fresh=fresh) is not None
    kept = 0 if fresh or per_minute == 1 else max(1, per_minute // 200)
    a_minute = min((per_minute - kept) * 60 / 60.05, (per_second - per_second // 20) * 60 / 1.05)
    assert went >= 0.98 * 3 * a_minute - 1


def test_the_first_half_of_a_minute_goes_at_once_and_the_rest_evenly() -> None:
    """500 at the limit of a second; then no second of the minute goes without."""
    windows, now, went = LocalWindows(50, 1000), 1000.0, []
    while (now := now + windows.delay(now, fresh=True) + 1e-6) < 1060:
        windows.take(now, fresh=True)
        went.append(now - 1000)
    assert went[499] < 10.5
    assert [second for second in range(11, 60) if not any(second <= at < second + 1 for at in went)] == []


def test_a_fresh_drop_finds_a_place_at_any_moment_of_a_backlog() -> None:
    """On both windows, whatever the backlog has used."""
    for per_second, per_minute in ((50, 1000), (20, 300), (40, 40)):
        windows, now, waits = LocalWindows(per_second, per_minute), 1000.0, []
        next_fresh = 1000.0
        while now < 1190:
            while take(windows, now, fresh=False):
                pass
            if now >= next_fresh:
                waits.append(windows.delay(now, fresh=True))
                next_fresh += 60 / per_minute * 20
                now += waits[-1] + 1e-6
                assert take(windows, now, fresh=True)
            now += 0.01
        assert max(waits) < 2


def test_a_ticket_given_back_is_free_again() -> None:
    """Known content costs no budget."""
    windows = LocalWindows(per_second=1, per_minute=1)
    for _ in range(5):
        ticket = take(windows, 1000.0, fresh=False)
        assert ticket
        windows.give_back(ticket)
    assert take(windows, 1000.0, fresh=True)


def test_tickets_given_back_keep_nobody_waiting() -> None:
    """A backlog of known content, in a minute that is half used up, goes as fast as it can be looked at."""
    windows, now = LocalWindows(50, 1000), 1000.0
    for _ in range(600):
        now += windows.delay(now, fresh=False) + 1e-6
        windows.take(now, fresh=False)
    now += windows.delay(now, fresh=False) + 1e-6
    for _ in range(100):
        together = [take(windows, now, fresh=False)]
        assert together[0]
        together += [take(windows, now, fresh=False) for _ in range(15)]
        for ticket in filter(None, together):
            windows.give_back(ticket)


def arrivals(windows: LocalWindows, count: int, lingers: Callable[[int, float], float]) -> list[float]:
    """When so many calls of 16 workers arrive; a call lingers on its way by its number and the time, in seconds."""
    now, on_the_way, arrived = 1000.0, list[tuple[float, Ticket]](), list[float]()
    while len(arrived) < count:
        while len(on_the_way) < 16 and (got := take(windows, now, fresh=True)):
            arrived.append(now + 0.02 + lingers(len(arrived), now - 1000))
            on_the_way.append((arrived[-1] + 0.1, got))
        for one in [one for one in on_the_way if one[0] <= now]:
            on_the_way.remove(one)
            windows.arrived(one[1], now)
        now += 0.004
    return sorted(arrived)


@settings(max_examples=40, deadline=None)
@given(lingers=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.3]), min_size=30, max_size=90))
def test_calls_that_linger_on_their_way_do_not_arrive_too_close_together(lingers: list[float]) -> None:
    """The platform counts arrivals: what a thread's wait or a handshake delayed counts from when it came."""
    arrived = arrivals(LocalWindows(20, 1000), 120, lambda number, _: lingers[number % len(lingers)])
    assert most_in(arrived, 1.0) <= 20


@settings(max_examples=20, deadline=None)
@given(began=st.floats(3, 7), seconds=st.floats(0.2, 3), linger=st.floats(0.05, 0.4))
def test_a_slow_moment_is_no_slower_network(began: float, seconds: float, linger: float) -> None:
    """What all calls of a busy machine's moment linger is not taken for the way that every call has to go."""
    arrived = arrivals(LocalWindows(50, 1000), 480, lambda _, at: linger if began <= at < began + seconds else 0.0)
    assert most_in(arrived, 1.0) <= 50


def test_a_call_that_arrives_after_a_stall_counts_from_then() -> None:
    """Also where it was sent so long ago that it was forgotten."""
    windows = LocalWindows(20, 1000)
    tickets = [windows.take(1000.0, fresh=True) for _ in range(16)]
    for ticket in tickets:
        windows.arrived(ticket, 1003.0)
        assert windows.used(1003.0)[0] > 0
    assert windows.used(1003.0) == (16, 16)
