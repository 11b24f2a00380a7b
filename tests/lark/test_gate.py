"""The gate, at times that the test gives: pauses as Lark asks for them, the set-up, and outages."""

from __future__ import annotations

import math
from itertools import count

from larkdrop.errors import LarkdropError, MomentFault, SetupFault
from larkdrop.lark.gate import OUTAGE, Gate
from larkdrop.lark.windows import Ticket

NO_ANSWER = MomentFault("no answer")
BOT_OFF = SetupFault("bot is off", code=234007)


def make() -> Gate:
    """A gate with probes every 60 s, and pauses of 1, 2, 4 … s in an outage."""
    return Gate(probe_seconds=60, pauses=lambda: (2.0**n for n in count()))


def let_through(gate: Gate, now: float) -> Ticket:
    """A ticket for a call that may go at ``now``."""
    assert gate.delay(now) == 0
    ticket = Ticket(now)
    gate.let_through(ticket)
    return ticket


def fail(gate: Gate, reason: LarkdropError, now: float, times: int) -> None:
    """The first calls of so many pictures fail."""
    tickets = [let_through(gate, now) for _ in range(times)]
    for ticket in tickets:
        gate.failed(ticket, reason, now, first=True)


def test_an_outage_begins_with_first_calls_that_fail_in_a_row() -> None:
    """The last of them tells that it began; a success before that begins the count anew."""
    gate = make()
    fail(gate, NO_ANSWER, 0, OUTAGE - 1)
    gate.succeeded(let_through(gate, 0))
    fail(gate, NO_ANSWER, 0, OUTAGE - 1)
    assert gate.hold is None
    began = gate.failed(let_through(gate, 3), NO_ANSWER, 4, first=True)
    assert began is not None
    assert began is gate.hold
    assert (began.reason, began.since, began.person) == (NO_ANSWER, 4, False)


def test_each_outage_has_pauses_of_its_own() -> None:
    """They grow from probe to probe, and begin anew with the next outage."""
    gate, now = make(), 0.0
    for _ in range(2):
        fail(gate, NO_ANSWER, now, OUTAGE)
        pauses = []
        for _ in range(4):
            pauses.append(gate.delay(now))
            now += pauses[-1]
            probe = let_through(gate, now)
            assert probe.probe
            assert gate.delay(now) == math.inf, "one probe at a time"
            assert gate.failed(probe, NO_ANSWER, now, first=False) is None
        assert pauses == [1, 2, 4, 8]
        now += gate.delay(now)
        ended = gate.succeeded(let_through(gate, now))
        assert ended is not None
        assert gate.hold is None


def test_any_success_ends_an_outage_but_only_a_probe_shows_that_the_set_up_is_fixed() -> None:
    """A call may have been in flight since before the trouble."""
    for reason, ends in ((NO_ANSWER, True), (BOT_OFF, False)):
        gate = make()
        in_flight = let_through(gate, 0)
        fail(gate, reason, 1, OUTAGE)
        assert (gate.succeeded(in_flight) is not None) == ends
        assert (gate.hold is None) == ends


def test_a_set_up_fault_turns_an_outage_into_a_hold_for_a_person() -> None:
    """And says so; the same fault again says nothing, another one does."""
    gate = make()
    fail(gate, NO_ANSWER, 0, OUTAGE)
    now = 0.0
    began = []
    for reason in (BOT_OFF, BOT_OFF, SetupFault("quota used up", code=99991403)):
        now += gate.delay(now)
        began.append(gate.failed(let_through(gate, now), reason, now, first=False))
        assert gate.delay(now) == 60
    assert [hold is not None for hold in began] == [True, False, True]


def test_a_probe_that_was_not_made_makes_room_for_another() -> None:
    """Its content was known already, for example."""
    gate = make()
    fail(gate, BOT_OFF, 0, 1)
    gate.give_back(let_through(gate, 60))
    assert let_through(gate, 60).probe


def test_another_reason_is_another_hold() -> None:
    """A person reads what is wrong now; also where neither reason has a code."""
    gate = make()
    certificate, address = SetupFault("certificate", hint="set the bundle"), SetupFault("404", hint="check base_url")
    assert gate.failed(Ticket(0), certificate, 0, first=True)
    assert gate.failed(Ticket(0), certificate, 0, first=True) is None
    began = gate.failed(Ticket(0), address, 0, first=True)
    assert began is not None
    assert began is gate.hold
