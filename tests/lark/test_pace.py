"""Gate and rate windows together, on a clock that the test turns."""

from __future__ import annotations

from itertools import count

from larkdrop.errors import MomentFault, SetupFault, Throttled
from larkdrop.lark.gate import OUTAGE
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows, Ticket
from tests.pipeline.simulation import Clock


def make(clock: Clock, per_second: int = 50, per_minute: int = 1000) -> Pace:
    """A pace with probes every 60 s, and pauses of 1, 2, 4 … s in an outage."""
    return Pace(
        LocalWindows(per_second, per_minute), probe_seconds=60, pauses=lambda: (2.0**n for n in count()), clock=clock
    )  # fmt: skip


def ticket(pace: Pace, *, fresh: bool = True) -> Ticket:
    """A ticket that must be there."""
    made = pace.ticket(fresh=fresh)
    assert made
    return made


def throttle(seconds: float) -> Throttled:
    """Lark asks to wait so long."""
    fault = Throttled("slow down")
    fault.retry_after = seconds
    return fault


def test_everything_waits_for_exactly_as_long_as_lark_asks() -> None:
    """Not a moment less, and hardly more."""
    clock = Clock()
    pace = make(clock)
    pace.failed(ticket(pace), throttle(7.0), first=True)
    assert pace.delay(fresh=True) == 7.0
    clock.now += 6.99
    assert pace.ticket(fresh=True) is None
    clock.now += 0.02
    assert pace.ticket(fresh=True)


def test_a_shorter_wait_that_is_asked_for_later_ends_none_earlier() -> None:
    """The longest counts."""
    clock = Clock()
    pace = make(clock)
    calls = [ticket(pace), ticket(pace)]
    assert not pace.is_paused
    for call, seconds in zip(calls, (7.0, 2.0), strict=True):
        pace.failed(call, throttle(seconds), first=True)
    clock.now += 6.5
    assert (pace.is_paused, pace.delay(fresh=True)) == (True, 0.5)
    clock.now += 0.5
    assert (pace.is_paused, pace.is_closed) == (False, False)


def test_a_person_ends_a_wait_that_lark_asked_for() -> None:
    """It may be a proxy that asked for a day."""
    clock = Clock()
    pace = make(clock)
    pace.failed(ticket(pace), throttle(86_400.0), first=True)
    pace.probe_now()
    assert pace.ticket(fresh=True)


def test_a_probe_that_is_throttled_is_followed_by_another() -> None:
    """Its answer says nothing of whether the set-up is right by now."""
    clock = Clock()
    pace = make(clock)
    pace.failed(ticket(pace), SetupFault("bot is off"), first=True)
    clock.now += pace.delay(fresh=True)
    pace.failed(ticket(pace), throttle(7.0), first=True)
    assert pace.hold
    assert pace.delay(fresh=True) == 7.0
    clock.now += 7.0
    assert ticket(pace).probe


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


def test_calls_from_before_a_person_says_it_is_fixed_do_not_hold_up_the_probe() -> None:
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


def test_what_a_picture_waits_for_is_told() -> None:
    """How long, about, and which limit; nothing where it need not wait, or where the gate is the reason."""
    clock = Clock()
    pace = make(clock, per_second=50, per_minute=60)
    assert pace.limited(0) == (0, "")
    while pace.ticket(fresh=True):
        clock.now += 0.001
    assert pace.limited(120)[0] >= 120
    assert pace.limited(120)[1] == "Lark takes 60 calls a minute"
    pace = make(clock)
    pace.failed(ticket(pace), throttle(7.0), first=True)
    assert pace.limited(0) == (7.0, "Lark asked for a pause")
    pace.failed(Ticket(clock.now), SetupFault("bot is off"), first=True)
    assert pace.limited(0) == (0, "")


def test_a_throttled_call_for_a_token_teaches_no_limit_of_uploads() -> None:
    """Limits are per API: only its wait counts."""
    clock = Clock()
    pace = make(clock)
    pace.succeeded(ticket(pace))
    clock.now += 20
    token = pace.ticket_to_sign_in()
    assert token
    fault = throttle(5.0)
    fault.of_upload = False
    pace.failed(token, fault, first=False)
    assert pace.delay(fresh=True) == 5.0
    assert pace.rate()["minute"] == (1, 1000)


def test_a_call_for_a_token_says_nothing_of_uploads() -> None:
    """It takes no place, and however fast it was, uploads that take longer are not taken for late."""
    clock = Clock()
    pace = make(clock, per_second=50)
    token = pace.ticket_to_sign_in()
    assert token
    clock.now += 0.004
    pace.signed_in(token)
    for _ in range(3):
        clock.now += pace.delay(fresh=True)
        uploads = [ticket(pace) for _ in range(50)]
        assert pace.ticket(fresh=True) is None
        clock.now += 0.2
        for upload in uploads:
            pace.succeeded(upload)
    assert pace.delay(fresh=True) < 1.1 - 0.2
