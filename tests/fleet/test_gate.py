"""One gate where it is the app's fault: one host finds out, all hold, and one of them probes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from larkdrop.errors import SetupFault
from larkdrop.fleet.gate import FleetGate
from larkdrop.lark.pace import Pace
from larkdrop.lark.windows import LocalWindows
from larkdrop.sandbox.server import Sandbox
from tests.fleet.postgres import SERVER
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeHost = Callable[..., Daemon]
pytestmark = pytest.mark.needs(SERVER)


def status(host: Daemon) -> dict[str, Any]:
    done = subprocess.run(host.command("status", "--json"), capture_output=True, text=True, timeout=60, check=False)
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.mark.slow
def test_a_quota_used_up(lark: Sandbox, make_host: MakeHost) -> None:
    """The others hold without a call of their own, probes come from one host at a time, and all resume together."""
    hosts = [make_host(lark=settings(lark, probe_seconds=2)).start() for _ in range(3)]
    wait_for_sidecar(hosts[0].drop("before.png", picture(0)))
    lark.faults.quota_used_up = True
    first = hosts[0].drop("first.png", picture(1))
    wait_until(lambda: all(status(host)["held"] for host in hosts), what="all to hold")
    held_at, before = time.monotonic(), lark.calls["upload"]
    others = [host.drop("other.png", picture(2 + number)) for number, host in enumerate(hosts)]
    wait_until(lambda: lark.calls["upload"] >= before + 3, what="three probes")
    assert lark.calls["upload"] - before <= (time.monotonic() - held_at) / 2 + 1
    for host in hosts[1:]:
        assert "(found by host-0)" in status(host)["held"]["reason"]
    lark.faults.quota_used_up = False
    for path in (first, *others):
        wait_for_sidecar(path)
    wait_until(lambda: not any(status(host)["held"] for host in hosts))


def test_a_person_says_that_it_is_fixed(lark: Sandbox, make_host: MakeHost) -> None:
    """SIGHUP on any host tries now, for all."""
    hosts = [make_host(lark=settings(lark, probe_seconds=3600)).start() for _ in range(2)]
    lark.faults.quota_used_up = True
    paths = [host.drop("waiting.png", picture(number)) for number, host in enumerate(hosts)]
    wait_until(lambda: all(status(host)["held"] for host in hosts), what="all to hold")
    lark.faults.quota_used_up = False
    hosts[1].signal(signal.SIGHUP)
    for path in paths:
        wait_for_sidecar(path)


def test_a_person_ends_a_pause_that_was_asked_for(lark: Sandbox, make_host: MakeHost) -> None:
    """SIGHUP on the host that Lark asked to wait for a minute, for all."""
    hosts = [make_host(lark=settings(lark)).start() for _ in range(2)]
    lark.faults.per_minute = 1
    wait_for_sidecar(hosts[0].drop("first.png", picture(0)))
    waiting = [hosts[0].drop("waiting.png", picture(1))]
    wait_until(lambda: "Lark asked for a pause" in str(status(hosts[0])["remarks"]), what="a pause")
    lark.faults.per_minute = 1000
    waiting.append(hosts[1].drop("other.png", picture(2)))
    hosts[0].signal(signal.SIGHUP)
    wait_until(lambda: all(map(sidecar_of, waiting)), seconds=40)


def test_a_wrong_secret_on_one_host(lark: Sandbox, make_host: MakeHost) -> None:
    """The others prove it to be that host's own, and go on."""
    right = make_host(lark=settings(lark, probe_seconds=1)).start()
    wrong = make_host(lark=settings(lark, probe_seconds=1, app_secret="mistyped")).start()
    waiting = wrong.drop("waiting.png", picture(1))
    wait_until(lambda: right.events("lark_held"), what="the right one to hold")
    wait_for_sidecar(right.drop("right.png", picture(2)))
    assert right.events("lark_resumed")
    for number in range(3, 6):
        wait_for_sidecar(right.drop(f"{number}.png", picture(number)))
    assert status(wrong)["held"]
    assert not status(right)["held"]
    assert sidecar_of(waiting) is None


QUOTA = {"code": 99991403, "message": "used up", "hint": "Wait.", "host": "other"}


def test_a_hold_that_ended_while_a_host_was_away() -> None:
    """It is not told again as new, and the host goes on with the others."""
    pace = Pace(LocalWindows(50, 1000), probe_seconds=60, pauses=lambda: iter([1.0]))
    gate = FleetGate(pace, "this")
    gate.heard(QUOTA, 0.0, probe=False)
    gate.alone(60)
    assert pace.hold
    assert gate.news(1.0).hold is None
    assert gate.heard(None, 1.0, probe=False)
    assert pace.hold is None


def test_a_host_that_probes_while_it_is_away() -> None:
    """When it is back it tells the others that calls succeed; and nothing puts its probe off."""
    times = iter((0.0, 0.0, 60.0, 60.0, 60.0))
    pace = Pace(LocalWindows(50, 1000), probe_seconds=60, pauses=lambda: iter([1.0]), clock=lambda: next(times))
    gate = FleetGate(pace, "this")
    gate.heard(QUOTA, 0.0, probe=False)
    gate.alone(60)
    gate.alone(60)
    probe = pace.ticket(fresh=False)
    assert probe
    pace.succeeded(probe)
    assert gate.news(61.0).opened


def test_a_fault_found_while_a_host_is_away() -> None:
    """Its own finding is told, although what it held for with the others has ended."""
    pace = Pace(LocalWindows(50, 1000), probe_seconds=0, pauses=lambda: iter([1.0]))
    gate = FleetGate(pace, "this")
    gate.heard(QUOTA, 0.0, probe=False)
    gate.alone(0)
    probe = pace.ticket(fresh=False)
    assert probe
    pace.failed(probe, SetupFault("bot is off", code=234007), first=True)
    assert not gate.heard(None, 1.0, probe=False)
    told = gate.news(1.0).hold
    assert told
    assert told["code"] == 234007


def settings(lark: Sandbox, **others: object) -> dict[str, object]:
    return {"base_url": lark.url, "app_id": "cli_sandbox", "app_secret": "sandbox-secret", **others}
