"""Five minutes without one answered call, while something waits, are an outage."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from larkdrop.config.settings import Lark
from larkdrop.errors import MomentFault
from larkdrop.lark.client import Client
from larkdrop.lark.contact import OUTAGE_SECONDS, Contact
from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def contact(clock: Clock) -> Contact:
    return Contact(clock)


def test_silence_becomes_an_outage(clock: Clock, contact: Contact) -> None:
    """From the first call without an answer, however many follow; also where the first one still hangs."""
    contact.called()
    clock.now += OUTAGE_SECONDS - 1
    contact.called()
    assert contact.lost_since(waiting=True) is None
    clock.now += 1
    assert contact.lost_since(waiting=True) == 1000.0
    clock.now += 10_000
    assert contact.lost_since(waiting=True) == 1000.0


def test_one_answer_ends_it(clock: Clock, contact: Contact) -> None:
    """And the time counts anew from the next call."""
    contact.called()
    clock.now += 10_000
    contact.answered()
    assert contact.lost_since(waiting=True) is None
    clock.now += 10_000
    assert contact.lost_since(waiting=True) is None, "nothing was asked"
    contact.called()
    clock.now += OUTAGE_SECONDS
    assert contact.lost_since(waiting=True) == clock.now - OUTAGE_SECONDS


def test_silence_means_nothing_while_nothing_waits(clock: Clock, contact: Contact) -> None:
    """A call that failed long ago is no outage for the picture that comes now."""
    contact.called()
    clock.now += 10_000
    assert contact.lost_since(waiting=False) is None
    assert contact.lost_since(waiting=True) is None
    contact.called()
    clock.now += OUTAGE_SECONDS
    assert contact.lost_since(waiting=True)


def test_a_refusal_is_an_answer(lark: Sandbox, clock: Clock) -> None:
    """Whatever its code says; a proxy's page and a reset connection are none."""
    client = Client(Lark(base_url=lark.url, app_id=lark.app_id, app_secret=SecretStr(lark.app_secret)), clock=clock)
    client.sign_in()
    for fault, answers in (("internal", True), ("html", False), ("reset_before", False)):
        lark.faults.set({"internal": 0, "html": 0, "reset_before": 0} | {fault: 1})
        with pytest.raises(MomentFault):
            client.upload(picture(), "message")
        clock.now += OUTAGE_SECONDS
        assert (client.contact.lost_since(waiting=True) is None) == answers, fault
