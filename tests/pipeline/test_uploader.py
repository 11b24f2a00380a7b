"""Whose fault a call's failure is, by what becomes of other calls; and what a sign-in shows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest

from larkdrop.config.settings import Lark, Watch
from larkdrop.errors import CallFault, LarkdropError, SetupFault
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import Picture, Stamp
from larkdrop.folder.recognise import Shape
from larkdrop.lark.client import Client, Uploaded
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.pipeline.job import Job
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.uploader import MOST_REFUSED, Uploader
from tests.pipeline.simulation import Clock

READ = Picture(Stamp(1, 1, 1, 1), b"x", "0", Shape("PNG", 1, 1))


class Answering(Client):
    """A Lark that answers as it is told; it has given a token already."""

    fault: Callable[[], LarkdropError] | None = None

    def upload(self, _image: bytes, _image_type: str) -> Uploaded:
        """A key, or the fault."""
        if self.fault:
            raise self.fault()
        return Uploaded("key", "")

    def sign_in(self) -> bool:
        """Nobody has to be asked."""
        return False


class Calls:
    """An uploader on a clock, whose probes may go after a second."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.pace = Pace(
            LocalWindows(50, 1000), probe_seconds=1, pauses=lambda: repeat(1.0), clock=self.clock
        )  # fmt: skip
        self.client = Answering(Lark(app_id="cli_x", app_secret="s"))
        self.uploader = Uploader(self.client, self.pace, DropQueue(self.pace, self.clock))
        self.folder = folder

    def job(self, name: str) -> Job:
        """A file's job."""
        return Job(Drop(f"{self.folder}/{name}", Watch(path=self.folder)))

    def upload(self, job: Job, fault: Callable[[], LarkdropError] | None = None) -> LarkdropError | None:
        """Upload once that may go: what failed."""
        self.client.fault = fault
        self.clock.now += self.pace.delay(fresh=True) + 0.1
        ticket = self.pace.ticket(fresh=True)
        assert ticket
        try:
            self.uploader.upload(job, ticket, READ)
        except LarkdropError as raised:
            return raised
        return None


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    """No call was made yet."""
    return Calls(tmp_path)


def test_a_page_for_one_picture_only_holds_nobody_again(calls: Calls) -> None:
    """As of a filter on the way: the first time it may be for all, then others are uploaded, and it is not."""
    odd, good = calls.job("odd.png"), calls.job("good.png")
    assert isinstance(calls.upload(odd, lambda: SetupFault("HTTP 302", hint="Check base_url.")), SetupFault)
    assert calls.pace.hold
    assert calls.upload(good) is None
    for _ in range(2 * MOST_REFUSED):
        again = calls.upload(odd, lambda: SetupFault("HTTP 302", hint="Check base_url."))
        assert isinstance(again, CallFault)
        assert again.hint == "Check base_url."
        assert calls.pace.hold is None
        assert calls.upload(good) is None


def test_a_page_for_all_holds_all(calls: Calls) -> None:
    """Again and again, while nothing is uploaded."""
    for _ in range(5):
        assert isinstance(calls.upload(calls.job("a.png"), lambda: SetupFault("HTTP 302")), SetupFault)
    assert calls.pace.hold


def test_refusals_do_not_count_while_everything_is_refused(calls: Calls) -> None:
    """One other picture was uploaded after the first of them; then the platform broke for all."""
    refuse: Callable[[], LarkdropError] = lambda: CallFault("malformed", code=4000)  # noqa: E731
    first = calls.job("first.png")
    assert isinstance(calls.upload(first, refuse), CallFault)
    assert calls.upload(calls.job("good.png")) is None
    for number in range(5):
        calls.upload(calls.job(f"{number}.png"), refuse)
    assert calls.pace.hold
    for _ in range(2 * MOST_REFUSED):
        assert isinstance(calls.upload(first, refuse), CallFault)


def test_a_token_that_is_there_already_shows_nothing(calls: Calls) -> None:
    """Signing in without a call ends no hold; the next call may be the probe."""
    calls.upload(calls.job("a.png"), lambda: SetupFault("the quota is used up", code=99991403))
    calls.clock.now += calls.pace.delay(fresh=True)
    calls.uploader.sign_in()
    assert calls.pace.hold
    assert calls.pace.delay(fresh=True) == 0
