"""The progress bar of ``run --once``, on a real terminal and by the clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from larkdrop.commands.run import Meter
from tests.commands.test_commands import on_terminal
from tests.helpers import Daemon, picture


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
