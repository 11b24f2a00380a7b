"""``larkdrop run --once`` shows a bar on a terminal, whose rate and total don't jump, and lines elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from larkdrop.commands.run import Meter
from tests.asking import on_terminal, say
from tests.helpers import Daemon, picture

MakeDaemon = Callable[..., Daemon]


def test_a_run_once_on_a_terminal_has_a_bar(make_daemon: MakeDaemon) -> None:
    """Counts and remaining time, and a summary at the end; warnings stand above the bar."""
    daemon = make_daemon(log={"level": "info", "format": "auto"})
    for number in range(20):
        daemon.drop(f"{number}.png", picture(number))
    daemon.drop("note.txt", b"text")
    seen = on_terminal(*daemon.command("run", "--once"))
    assert "21/21" in seen
    assert "20 uploaded, 1 rejected in 0:00:0" in seen
    assert "note.txt" in seen


def test_a_run_on_a_pipe_is_plain(make_daemon: MakeDaemon) -> None:
    """Lines, no bar, and a summary; --quiet leaves what needs attention, --verbose tells every step."""
    daemon = make_daemon(log={"level": "info"})
    daemon.drop("a.png", picture())
    lines = [json.loads(line) for line in daemon.once().stderr.splitlines()]
    assert [line["event"] for line in lines] == ["watching", "uploaded", "stopped", "finished"]
    assert lines[-1]["uploaded"] == 1
    daemon.drop("b.txt", b"text")
    assert [json.loads(line)["event"] for line in daemon.once("--quiet").stderr.splitlines()] == ["rejected"]
    assert "looked" in daemon.once("--verbose").stderr
    assert "exclude each other" in say(daemon, "run", "--quiet", "--verbose", code=2)


@pytest.mark.slow
def test_the_bar_under_a_rate_limit(make_daemon: Callable[..., Daemon]) -> None:
    """It names the limit as the reason, its total does not flicker, and its rate does not jump."""
    lark = {"requests_per_minute": 40, "requests_per_second": 10}
    daemon = make_daemon(log={"level": "info", "format": "auto"}, lark=lark)
    for number in range(24):
        daemon.drop(f"{number}.png", picture(number))
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_terminal(*daemon.command("run", "--once")))
    assert "; waiting for the rate limit" in seen
    totals = [int(total) for total in re.findall(r"\d+/(\d+)", seen)]
    assert totals == sorted(totals)
    assert totals[-1] == 24
    rates = [float(rate) for rate in re.findall(r"([\d.]+)/s ", seen)]
    since_peak = rates[rates.index(max(rates)) :]
    assert all(before / 1.5 - 1 <= after <= 1.5 * before + 1 for before, after in pairwise(since_peak))
    assert "24 uploaded in 0:00:" in seen


class Clock:
    """Time that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_smooths() -> None:
    """After a burst the rate falls slowly to the steady one; a total or a reason that flickers stays what it was."""
    clock = Clock()
    meter, rates = Meter(clock), []
    for tick in range(1, 2000):
        clock.now = tick / 20
        done = min(tick * 2, 200) + tick // 20
        meter.tick(done, 5000 - done + tick % 3 - 1, "the limit" if tick % 10 else "")
        rates.append(meter.rate)
        if tick > 20:
            assert meter.total in {4999, 5000}
            assert meter.reason == "the limit"
    shown = [rate for rate in rates[20:] if rate]
    assert len(shown) == len(rates) - 20
    assert all(abs(after - before) <= 0.05 * before + 0.1 for before, after in pairwise(shown))
    assert 0.9 < shown[-1] < 1.5
    clock.now += 10
    meter.tick(500, 100, "")
    assert (meter.total, meter.reason) == (600, "")
