"""Windows and gate, on a clock that the test turns."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from larkdrop.errors import MomentFault, SetupFault, Throttled
from larkdrop.lark.pace import OUTAGE, Pace, Ticket


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, per_second: int = 50, per_minute: int = 1000) -> Pace:
    """A pace with probes every 60 s, and pauses of 1, 2, 4 … s in an outage."""
    return Pace(
        per_second=per_second, per_minute=per_minute, probe_seconds=60, backoff=lambda n: 2.0 ** (n - 1), clock=clock
    )


def ticket(pace: Pace, *, fresh: bool = True) -> Ticket:
    """A ticket that must be there."""
    made = pace.ticket(fresh=fresh)
    assert made
    return made


def most_in(times: list[float], length: float) -> int:
    """The most of ``times`` in any window of ``length``."""
    return max((sum(1 for other in times if at <= other < at + length) for at in times), default=0)


@settings(max_examples=60, deadline=None)
@given(
    per_second=st.integers(1, 20),
    per_minute=st.integers(1, 120),
    steps=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=250),
)
def test_never_more_than_the_limit_in_any_window(
    per_second: int, per_minute: int, steps: list[tuple[float, bool]]
) -> None:
    """Whenever and by whomever tickets are asked for."""
    clock = Clock()
    pace = make(clock, per_second, per_minute)
    taken = []
    for step, fresh in steps:
        clock.now += step
        if pace.ticket(fresh=fresh):
            taken.append(clock.now)
    assert most_in(taken, 1.0) <= per_second
    assert most_in(taken, 60.0) <= per_minute


@settings(max_examples=60, deadline=None)
@given(
    per_second=st.integers(1, 20),
    per_minute=st.integers(1, 60),
    steps=st.lists(st.floats(0, 5), min_size=1, max_size=99),
)
def test_never_idle_while_budget_and_work_exist(per_second: int, per_minute: int, steps: list[float]) -> None:
    """A refusal is only given where a window is full, and the delay that is told is exact."""
    clock = Clock()
    pace = make(clock, per_second, per_minute)
    taken: list[float] = []
    for step in steps:
        clock.now += step
        while pace.ticket(fresh=True):
            taken.append(clock.now)
        second = sum(1 for at in taken if at > clock.now - 1.05)
        minute = sum(1 for at in taken if at > clock.now - 60.05)
        assert second >= per_second or minute >= per_minute
        clock.now += pace.delay(fresh=True) + 1e-6
        assert pace.ticket(fresh=True)
        taken.append(clock.now)


def drive(pace: Pace, clock: Clock, seconds: float, fresh_every: float = 0.0) -> tuple[list[float], list[float]]:
    """A backlog without end, and now and then a fresh drop: when the backlog went, and how long fresh ones waited."""
    went, waits, waiting = [], [], []
    began, next_fresh = clock.now, clock.now
    while clock.now < began + seconds:
        if fresh_every and clock.now >= next_fresh:
            waiting.append(clock.now)
            next_fresh += fresh_every
        while waiting and pace.ticket(fresh=True):
            waits.append(clock.now - waiting.pop(0))
        while pace.ticket(fresh=False):
            went.append(clock.now - began)
        clock.now += 0.005
    return went, waits + [clock.now - at for at in waiting]


@settings(max_examples=40, deadline=None)
@given(lingers=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.3]), min_size=30, max_size=90))
def test_calls_that_linger_on_their_way_do_not_arrive_too_close_together(lingers: list[float]) -> None:
    """The platform counts arrivals: what a thread's wait or a handshake delayed counts from when it came."""
    clock = Clock()
    pace = make(clock, per_second=20)
    on_the_way: list[tuple[float, Ticket]] = []
    arrivals: list[float] = []
    while len(arrivals) < 120:
        while len(on_the_way) < 16 and (got := pace.ticket(fresh=True)):
            arrives = clock.now + 0.02 + lingers[len(arrivals) % len(lingers)]
            arrivals.append(arrives)
            on_the_way.append((arrives + 0.1, got))
        for one in [one for one in on_the_way if one[0] <= clock.now]:
            on_the_way.remove(one)
            pace.succeeded(one[1])
        clock.now += 0.004
    assert most_in(sorted(arrivals), 1.0) <= 20


def test_a_few_hundred_go_at_the_per_second_limit() -> None:
    """400 pictures take little more than 8 s at 50 a second."""
    clock = Clock()
    went, _ = drive(make(clock), clock, 12)
    assert went[399] < 9


def test_a_long_backlog_keeps_98_percent_of_every_minute() -> None:
    """Minute after minute."""
    clock = Clock()
    went, _ = drive(make(clock), clock, 241)
    for minute in range(4):
        assert sum(1 for at in went if 60 * minute <= at < 60 * (minute + 1)) >= 980, minute


def test_a_fresh_drop_never_waits_behind_a_backlog() -> None:
    """At any moment of a long backlog there is budget for it."""
    clock = Clock()
    went, waits = drive(make(clock), clock, 190, fresh_every=0.7)
    assert max(waits) < 2
    assert len(went) + len(waits) > 3 * 980
    clock = Clock()
    went, waits = drive(make(clock, 20, 300), clock, 32, fresh_every=4)
    assert max(waits) < 2
    assert len(went) + len(waits) >= 180


def test_a_hint_closes_the_gate_for_exactly_that_long() -> None:
    """Not a moment less, and hardly more."""
    clock = Clock()
    pace = make(clock)
    throttled = Throttled("slow down")
    throttled.retry_after = 7.0
    pace.failed(ticket(pace), throttled, first=True)
    assert pace.delay(fresh=True) == 7.0
    clock.now += 6.99
    assert pace.ticket(fresh=True) is None
    clock.now += 0.02
    assert pace.ticket(fresh=True)


def test_a_stricter_platform_is_learned_and_forgotten_again() -> None:
    """A throttle lowers the limit to what went through; quiet raises it again."""
    clock = Clock()
    pace = make(clock)
    tickets = [ticket(pace) for _ in range(20)]
    throttled = Throttled("slow down")
    for spent in tickets[:8]:
        pace.succeeded(spent)
    for spent in tickets[8:]:
        clock.now += 0.001
        pace.failed(spent, throttled, first=True)
    clock.now += 1.1
    count = 0
    while pace.ticket(fresh=True):
        count += 1
    assert count == 8
    clock.now += 3600
    for _ in range(40):
        clock.now += 400
        pace.delay(fresh=True)
    count = 0
    while pace.ticket(fresh=True):
        count += 1
    assert count == 50


def test_an_outage_closes_the_gate_and_one_success_opens_it() -> None:
    """Several pictures in a row; then one probe at a time, with growing pauses."""
    clock = Clock()
    pace = make(clock)
    fault = MomentFault("no answer")
    began = [pace.failed(ticket(pace), fault, first=True) for n in range(OUTAGE)]
    assert [bool(hold) for hold in began] == [False] * (OUTAGE - 1) + [True]
    pauses = []
    for _ in range(4):
        pauses.append(pace.delay(fresh=True))
        clock.now += pauses[-1] + 1e-6
        probe = ticket(pace, fresh=False)
        assert probe.probe
        assert pace.ticket(fresh=True) is None, "one probe at a time"
        assert pace.failed(probe, fault, first=False) is None
    assert [round(pause, 3) for pause in pauses] == [1, 2, 4, 8]
    clock.now += pace.delay(fresh=True) + 1e-6
    ended = pace.succeeded(ticket(pace))
    assert ended
    assert not ended.person
    assert pace.hold is None
    assert pace.ticket(fresh=True)


def test_one_bad_picture_is_no_outage() -> None:
    """However often it fails."""
    clock = Clock()
    pace = make(clock)
    for n in range(20):
        pace.failed(ticket(pace), MomentFault("no answer"), first=n == 0)
    assert pace.hold is None


def test_the_set_up_holds_everything_until_a_probe_succeeds() -> None:
    """A probe every probe_seconds, or at once when a person says so; said once."""
    clock = Clock()
    pace = make(clock)
    fault = SetupFault("bot is off", code=234007)
    in_flight = [ticket(pace) for _ in range(3)]
    assert pace.failed(in_flight[0], fault, first=True)
    assert pace.failed(in_flight[1], fault, first=True) is None
    pace.succeeded(in_flight[2])
    assert pace.hold, "a call from before the trouble doesn't end it"
    assert pace.delay(fresh=True) == 60
    pace.probe_now()
    probe = ticket(pace)
    assert pace.failed(probe, fault, first=True) is None
    clock.now += 60
    pace.give_back(ticket(pace))
    ended = pace.succeeded(ticket(pace))
    assert ended
    assert ended.person
    assert pace.hold is None


def test_calls_from_before_a_person_says_it_is_mended_do_not_hold_up_the_probe() -> None:
    """They could only fail as everything did then: the probe that was asked for goes at once all the same."""
    for fault in (SetupFault("quota used up", code=99991403), MomentFault("no answer")):
        clock = Clock()
        pace = make(clock)
        late = [ticket(pace) for _ in range(OUTAGE)]
        for spent in late if isinstance(fault, MomentFault) else late[:1]:
            pace.failed(spent, fault, first=True)
        clock.now += 61
        probe = ticket(pace)
        clock.now += 1
        pace.probe_now()
        clock.now += 1
        if isinstance(fault, SetupFault):
            pace.failed(late[1], fault, first=True)
        pace.failed(probe, fault, first=False)
        assert pace.delay(fresh=True) == 0
        pace.failed(ticket(pace), fault, first=False)
        assert pace.delay(fresh=True) > 0


def test_a_ticket_given_back_is_free_again() -> None:
    """Known content costs no budget."""
    pace = make(Clock(), per_second=1, per_minute=1)
    for _ in range(5):
        pace.give_back(ticket(pace))
    assert pace.ticket(fresh=True)
