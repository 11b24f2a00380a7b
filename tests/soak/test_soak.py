"""Churn with faults for minutes: memory, threads and file descriptors stay flat, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_until

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))


def figures(pid: int) -> dict[str, int]:
    """RSS in KiB, threads and open files of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "rss": int(lines["VmRSS"].split()[0]),
        "threads": int(lines["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_soak(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Drops, rewrites, renames and deletions under faults, for SOAK_MINUTES."""
    dice = random.Random(20261123)
    lark.faults.set({"per_second": 10_000, "per_minute": 600_000, "delay": 0.05})
    lark.faults.set(dict.fromkeys(("server_error", "bad_json", "reset_before", "reset_after", "cut", "internal"), 0.03))
    limits = {"base_url": lark.url, "requests_per_second": 200, "requests_per_minute": 12_000}
    daemon = make_daemon(lark=limits, upload={"workers": 16, "rescan_seconds": 20}, log={"level": "info"})
    samples: list[dict[str, int]] = []
    with daemon:
        assert daemon.process
        ends, number = time.monotonic() + 60 * MINUTES, 0
        next_sample = time.monotonic() + 30
        while time.monotonic() < ends:
            number += 1
            folder = daemon.inbox / f"{number // 500 % 7}"
            folder.mkdir(exist_ok=True)
            path = folder / f"{dice.randrange(3000)}.png"
            path.write_bytes(picture(number % 20_000, noise=dice.choice([0, 20_000])))
            if number % 5 == 0:
                others = [name for name in os.listdir(folder) if name.endswith(".png")]
                (folder / dice.choice(others)).rename(folder / f"renamed-{dice.randrange(500)}.png")
            if number % 7 == 0:
                (folder / dice.choice([name for name in os.listdir(folder) if name.endswith(".png")])).unlink()
            if number % 3000 == 0:
                lark.revoke()
            if time.monotonic() >= next_sample:
                samples.append(figures(daemon.process.pid))
                next_sample += 10
        everything = sorted(daemon.inbox.rglob("*.png"))
        wait_until(lambda: all(_true(path) for path in everything), 120)
        samples.append(figures(daemon.process.pid))
        assert daemon.stop() == 0
    known = {made.image_key: made.sha256 for made in lark.uploads}
    for path in everything:
        beside = sidecar_of(path) or {}
        assert known[beside["image_key"]] == beside["sha256"]
    half = len(samples) // 2
    growth = max(one["rss"] for one in samples[half:]) - max(one["rss"] for one in samples[:half])
    print(json.dumps({
        "minutes": MINUTES, "drops": number, "uploads": len(lark.uploads), "outcomes": len(daemon.results()),
        "faults": sum(lark.calls.values()) - lark.answers[0], "rss_mib": round(samples[-1]["rss"] / 1024, 1),
        "rss_growth_second_half_mib": round(growth / 1024, 1), "threads": samples[-1]["threads"],
        "files": [samples[0]["files"], samples[-1]["files"]],
    }))  # fmt: skip
    assert growth < 10 * 1024
    assert len({one["threads"] for one in samples}) == 1
    assert max(one["files"] for one in samples) - min(one["files"] for one in samples) <= 160


def _true(path: Path) -> bool:
    beside = sidecar_of(path)
    return beside is not None and beside.get("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
