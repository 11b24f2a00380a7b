"""A real daemon against a Lark that fails in every way it can."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MANY = {"requests_per_second": 10_000, "requests_per_minute": 600_000}


def unlimited(lark: Sandbox) -> None:
    """The sandbox throttles nobody."""
    lark.faults.set({"per_second": 10_000, "per_minute": 600_000})


def all_uploaded(daemon: Daemon, paths: Iterable[Path], lark: Sandbox, seconds: float = 60) -> None:
    """Every path has a key that Lark knows for exactly its content, and nothing was rejected."""
    keys = {}
    for path in paths:
        beside = wait_for_sidecar(path, seconds)
        assert beside["status"] == "uploaded", beside
        keys[beside["image_key"]] = beside["sha256"]
    known = {made.image_key: made.sha256 for made in lark.uploads}
    assert keys.items() <= known.items()
    assert not [line for line in daemon.results() if line["event"] == "rejected"]


@pytest.mark.slow
def test_300_pictures_under_40_percent_of_mixed_faults(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """All uploaded, none rejected."""
    unlimited(lark)
    rate = 1 - (0.6 / 0.99) ** (1 / 8)
    lark.faults.throttle = 0.01
    lark.faults.set(dict.fromkeys(
        ("server_error", "html", "bad_json", "internal", "reset_before", "reset_after", "cut", "hang"), rate
    ))  # fmt: skip
    with make_daemon(lark={"base_url": lark.url, "read_timeout": 0.5, **MANY}, upload={"workers": 16}) as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(300)]
        all_uploaded(daemon, paths, lark, 100)


def test_tokens_that_live_4_s_and_are_revoked_twice(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """200 drops: all uploaded."""
    unlimited(lark)
    lark.faults.set({"token_lifetime": 4.0, "delay": 0.3})
    # A revocation in the moment between a renewal and the next call is rightly taken for a fault of the set-up.
    with make_daemon(lark={"base_url": lark.url, "probe_seconds": 1, **MANY}) as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(200)]
        for share in (60, 130):
            wait_until(lambda share=share: len(lark.uploads) > share)  # type: ignore[misc]  # bound at once
            lark.revoke()
        all_uploaded(daemon, paths, lark)
        assert len(daemon.events("lark_held")) <= 1


@pytest.mark.slow
def test_an_outage_with_60_waiting(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """15 s: at most 60 calls, one line when the gate closes and one when it opens, everything done soon after."""
    with make_daemon(upload={"backoff_initial": 0.5, "backoff_max": 3.0, "workers": 16}) as daemon:
        lark.faults.down = True
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(60)]
        began, before = time.monotonic(), lark.calls["upload"]
        wait_until(lambda: time.monotonic() - began > 15)
        calls = lark.calls["upload"] - before
        lark.faults.down = False
        all_uploaded(daemon, paths, lark, 30)
        assert calls <= 60
        assert len(daemon.events("lark_held")) == 1
        (resumed,) = daemon.events("lark_resumed")
        assert 5 < resumed["after_seconds"] < 25
        assert len([event for event in daemon.events() if event["level"] in {"warning", "error"}]) < 10


@pytest.mark.slow
def test_bot_off_with_40_waiting(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """8 s: at most 30 calls, nothing rejected, one error line with what to do, resumed by itself."""
    lark.faults.bot_off = True
    with make_daemon(lark={"base_url": lark.url, "probe_seconds": 1}, upload={"workers": 16}) as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(40)]
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 8)
        assert lark.calls["upload"] <= 30
        lark.faults.bot_off = False
        all_uploaded(daemon, paths, lark)
        (held,) = daemon.events("lark_held")
        assert held["level"] == "error"
        assert held["code"] == 234007
        assert "Bot feature" in held["hint"]
        assert held["log_id"]
        assert len(daemon.events("lark_resumed")) == 1


def test_the_quota_is_held_with_its_reset(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """The line says when it resets and how many wait; SIGHUP tries at once."""
    lark.faults.quota_used_up = True
    with make_daemon() as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(12)]
        (held,) = wait_until(lambda: daemon.events("lark_held"))
        assert "It resets on 20" in held["hint"]
        assert held["waiting"] >= 1
        lark.faults.quota_used_up = False
        daemon.signal(signal.SIGHUP)
        all_uploaded(daemon, paths, lark)


def test_wrong_credentials_at_the_start(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """The daemon stays up, says so before any picture comes, and resumes once they are right on the platform."""
    right, lark.app_secret = lark.app_secret, "changed"
    with make_daemon(lark={"base_url": lark.url, "probe_seconds": 0.5}) as daemon:
        (held,) = daemon.events("lark_held")
        assert held["code"] == 10014
        assert "Credentials page" in held["hint"]
        path = daemon.drop("a.png", picture(1))
        known = daemon.drop("bad.png", b"words")
        assert wait_for_sidecar(known)["status"] == "rejected", "what needs no call goes on"
        lark.app_secret = right
        assert wait_for_sidecar(path)["status"] == "uploaded"


def test_wrong_credentials_end_a_once_run(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """--once can't wait for a person: exit 1, the picture stays work."""
    lark.app_secret = "changed"
    daemon = make_daemon()
    path = daemon.drop("a.png", picture(1))
    ended = daemon.once()
    assert ended.returncode == 1
    assert "10014" in ended.stderr
    assert sidecar_of(path) is None


def test_a_held_gate_opens_by_itself_without_pictures(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Nothing waits, and still it is noticed that the credentials are right again."""
    right, lark.app_secret = lark.app_secret, "changed"
    with make_daemon(lark={"base_url": lark.url, "probe_seconds": 0.2}) as daemon:
        lark.app_secret = right
        wait_until(lambda: daemon.events("lark_resumed"))


def test_an_unknown_code_is_said_loudly_and_retried(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Once at level error, with code and log id, however many pictures meet it and however often they are retried."""
    lark.faults.unknown = 1.0
    with make_daemon() as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(4)]
        wait_until(lambda: len(daemon.events("unknown_code")) > len(paths), what="a retry")
        (said,) = [event for event in daemon.events("unknown_code") if event["level"] == "error"]
        assert said["code"] == 424242
        assert said["log_id"]
        lark.faults.unknown = 0.0
        all_uploaded(daemon, paths, lark)


# Pauses after a refused call are 60 times the first and 12 times the longest of these: under 0.2 s.
BRISK = {"backoff_initial": 0.002, "backoff_max": 0.015, "workers": 8}


def test_one_odd_picture_among_a_hundred_good_ones(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """It holds nobody, is tried 20 times, and is then rejected with the platform's code."""
    unlimited(lark)
    lark.odd = {hashlib.sha256(picture(1000)).hexdigest()}
    with make_daemon(lark={"base_url": lark.url, **MANY}, upload=BRISK) as daemon:
        odd = daemon.drop("odd.png", picture(1000))
        good = [daemon.drop(f"{n}.png", picture(n)) for n in range(100)]
        for path in good:
            assert wait_for_sidecar(path)["status"] == "uploaded"
        beside = wait_for_sidecar(odd)
        assert (beside["status"], beside["error"]["code"], beside["log_id"] != "") == ("rejected", 234001, True)
        assert "20 times, while other pictures were uploaded" in beside["error"]["message"]
        assert "save it again" in beside["error"]["hint"]
        assert lark.answers == {0: 100, 234001: beside["attempts"]}
        assert 20 <= beside["attempts"] <= 25
        assert not daemon.events("lark_held")
        (said,) = [event for event in daemon.events("call_refused") if event["level"] == "warning"]
        assert (said["code"], said["path"]) == (234001, str(odd))


def test_every_picture_is_refused_for_a_while(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """A change of the platform: held with one line, every picture tried over and over, and nothing rejected."""
    unlimited(lark)
    lark.faults.refused = 1.0
    with make_daemon(lark={"base_url": lark.url, **MANY}, upload=BRISK) as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(30)]
        wait_until(lambda: lark.answers[234001] >= 25 * len(paths), what="25 refusals for each")
        (held,) = daemon.events("lark_held")
        assert (held["level"], held["code"]) == ("error", 234001)
        assert "update larkdrop, check the proxy" in held["hint"]
        lark.faults.refused = 0.0
        all_uploaded(daemon, paths, lark)
        assert len(daemon.events("lark_resumed")) == 1


def test_a_refused_call_is_repeated_with_long_pauses(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Far longer ones than after another failure, and good pictures go meanwhile. Each pause is random."""
    unlimited(lark)
    lark.odd = {hashlib.sha256(picture(1000)).hexdigest()}
    lark.poison = {hashlib.sha256(picture(1001)).hexdigest()}
    with make_daemon(lark={"base_url": lark.url, **MANY}, upload=BRISK) as daemon:
        daemon.drop("odd.png", picture(1000))
        daemon.drop("poison.png", picture(1001))
        wait_until(lambda: lark.answers[5000] >= 200, what="200 tries of the other one")
        assert 3 * lark.answers[234001] < 200
        assert wait_for_sidecar(daemon.drop("good.png", picture(1)))["status"] == "uploaded"


def test_a_proxy_that_takes_no_large_bodies_is_never_the_pictures_fault(
    lark: Sandbox, make_daemon: Callable[..., Daemon]
) -> None:
    """HTTP 413 without a code, 30 times, while others are uploaded."""
    unlimited(lark)
    lark.faults.body_limit = 10_000
    with make_daemon(lark={"base_url": lark.url, **MANY}, upload=BRISK) as daemon:
        path = daemon.drop("large.png", picture(1000, noise=20_000))
        for number in range(30):
            wait_for_sidecar(daemon.drop(f"{number}.png", picture(number)))
            wait_until(lambda number=number: lark.answers[413] > number)  # type: ignore[misc]  # bound at once
        assert sidecar_of(path) is None
        (said,) = [event for event in daemon.events("call_refused") if event["level"] == "warning"]
        assert "body limit of the proxy" in said["hint"]
        lark.faults.body_limit = 0
        all_uploaded(daemon, [path], lark)


@pytest.mark.parametrize("waiting", [1, 8])
def test_an_api_that_is_switched_off(lark: Sandbox, make_daemon: Callable[..., Daemon], waiting: int) -> None:
    """Held with the setting to change in one sentence; nothing is rejected."""
    lark.faults.v4_offline = True
    with make_daemon(lark={"base_url": lark.url, "probe_seconds": 0.2}) as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(waiting)]
        (held,) = wait_until(lambda: daemon.events("lark_held"))
        assert held["hint"].startswith('Set api = "im/v1" in [lark]')
        lark.faults.v4_offline = False
        all_uploaded(daemon, paths, lark)


@pytest.mark.slow
def test_a_stricter_platform(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """At a true limit of 8/s, 120 pictures take at most 1.5 × the ideal, with fewer throttled calls than pictures."""
    lark.faults.per_second = 8
    with make_daemon(upload={"workers": 16}) as daemon:
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(120)]
        all_uploaded(daemon, paths, lark, 60)
        assert lark.answers[99991400] < 120
        assert lark.uploads[-1].at - lark.uploads[0].at <= 1.5 * 120 / 8


@pytest.mark.slow
def test_fresh_drops_beside_a_backlog(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """At 20/s and 300/min: at most 3 throttled calls, no fresh drop over 3 s, at least 180 done after 32 s."""
    lark.faults.set({"per_second": 20, "per_minute": 300})
    limits = {"base_url": lark.url, "requests_per_second": 20, "requests_per_minute": 300}
    daemon = make_daemon(lark=limits, upload={"workers": 16})
    for n in range(600):
        daemon.drop(f"{n}.png", picture(n))
    with daemon:
        began = time.monotonic()
        slowest = 0.0
        for number in range(8):
            wait_until(lambda number=number: time.monotonic() - began >= 4 * number)  # type: ignore[misc]  # bound at once
            dropped = time.monotonic()
            wait_for_sidecar(daemon.drop(f"fresh-{number}.png", picture(10_000 + number)))
            slowest = max(slowest, time.monotonic() - dropped)
        wait_until(lambda: time.monotonic() - began >= 32, 40)
        assert len(lark.uploads) >= 180
        assert lark.answers[99991400] <= 3
        assert slowest < 3


@pytest.mark.slow
def test_a_thousand_in_backoff_leave_the_workers_free(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """What fails waits in the queue, not in a worker."""
    unlimited(lark)
    with make_daemon(
        lark={"base_url": lark.url, **MANY}, upload={"workers": 2, "backoff_initial": 60.0, "backoff_max": 300.0}
    ) as daemon:
        lark.poison = {hashlib.sha256(picture(n)).hexdigest() for n in range(1000)}
        for n in range(1000):
            daemon.drop(f"{n}.png", picture(n))
            if n % 3 == 2:
                wait_until(lambda: lark.answers[5000] > n, what="the failures")  # noqa: B023
                wait_for_sidecar(daemon.drop(f"good-{n}.png", picture(100_000 + n)))  # so it is no outage
        assert not daemon.events("lark_held")


@pytest.mark.slow
def test_what_waits_in_backoff_holds_no_pictures(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """30 pictures of nearly 10 MB that fail: what is remembered of their failures does not keep their bytes."""
    unlimited(lark)
    big = picture(1, noise=100_000) + b"\0" * (10 * 1024 * 1024 - 400_000)
    bad = [big + number.to_bytes(2, "big") for number in range(30)]
    lark.poison = {hashlib.sha256(content).hexdigest() for content in bad}
    slow = {"workers": 2, "backoff_initial": 3000.0, "backoff_max": 3000.0}
    with make_daemon(lark={"base_url": lark.url, **MANY}, upload=slow) as daemon:
        for number, content in enumerate(bad):
            daemon.drop(f"{number}.png", content)
            wait_until(lambda: len(daemon.events("upload_failed")) > number, what="a failure")  # noqa: B023
            wait_for_sidecar(daemon.drop(f"good-{number}.png", picture(1000 + number)))  # so it is no outage
        assert daemon.process
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024 < 150


def test_small_pictures_pass_large_ones_that_wait_for_memory(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Four large ones are in memory at a time; a worker that has another one is free for what needs none."""
    unlimited(lark)
    lark.faults.delay = 2.0
    big = picture(1, noise=100_000) + b"\0" * (10 * 1024 * 1024 - 400_000)
    daemon = make_daemon(lark={"base_url": lark.url, **MANY}, upload={"workers": 6, "settle_seconds": 0.0}).start()
    large = [daemon.drop(f"{n}.png", big + n.to_bytes(2, "big")) for n in range(8)]
    wait_until(lambda: lark.calls["upload"] == 4, what="four of them in flight")
    small = picture(2)
    path = daemon.drop("small.png", small)
    all_uploaded(daemon, [path, *large], lark)
    assert hashlib.sha256(small).hexdigest() in [upload.sha256 for upload in lark.uploads[:5]]


@pytest.mark.slow
def test_memory_stays_flat(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """60 pictures of nearly 10 MB, default workers, 300 ms a call: under 150 MiB, with the unit's environment."""
    unlimited(lark)
    lark.faults.delay = 0.3
    daemon = make_daemon(lark={"base_url": lark.url, **MANY}, upload={"workers": 16})
    big = picture(1, noise=100_000) + b"\0" * (10 * 1024 * 1024 - 400_000)
    paths = [daemon.drop(f"{n}.png", big + n.to_bytes(2, "big")) for n in range(60)]
    unit = (Path(__file__).parents[2] / "systemd/larkdrop.service").read_text()
    environment = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
    daemon.start(**environment)
    all_uploaded(daemon, paths, lark, 100)
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    assert peak < 150


def test_no_secret_in_any_output(tmp_path: Path, lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """A run that fails in every way, at level debug: neither secret nor token anywhere."""
    unlimited(lark)
    tokens: set[str] = set()
    names = [name for name in vars(lark.faults) if name not in {"token_lifetime", "delay", "per_second", "per_minute"}]
    with make_daemon(lark={"base_url": lark.url, "read_timeout": 0.3, "probe_seconds": 0.2, **MANY}) as daemon:
        for number, name in enumerate(names):
            tokens |= set(lark._tokens)
            value = getattr(lark.faults, name)
            lark.faults.set({name: True if isinstance(value, bool) else 1.0})
            before = sum(lark.calls.values())
            path = daemon.drop(f"{name}.png", picture(number))
            wait_until(lambda before=before: sum(lark.calls.values()) > before)  # type: ignore[misc]  # bound at once
            lark.faults.set({name: value})
            daemon.signal(signal.SIGHUP)
            wait_for_sidecar(path)
        lark.revoke()
        lark.app_secret = "changed"
        daemon.drop("last.png", picture(999))
        wait_until(lambda: [event for event in daemon.events("lark_held") if event["code"] == 10014])
        assert daemon.stop() == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != daemon.config]
    everything = b"".join(path.read_bytes() for path in written)
    assert b"sandbox-secret" not in everything
    assert tokens
    assert not [token for token in tokens if token.encode() in everything]
    assert json.loads(daemon.stderr.read_text().splitlines()[-1])["event"] == "stopped"


def test_a_twin_that_waits_holds_nobody_up(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """While the same content is on its way for another file, a further drop goes at once."""

    def sent(count: int) -> Callable[[], bool]:
        return lambda: lark.calls["upload"] == count

    lark.faults.hang = 1.0
    with make_daemon() as daemon:
        daemon.drop("a.png", picture())
        wait_until(sent(1), what="the first upload")
        daemon.drop("twin.png", picture())
        for number in range(3):
            daemon.drop(f"other-{number}.png", picture(1 + number))
            wait_until(sent(2 + number), 5, "an upload beside the first")
        daemon.kill()
