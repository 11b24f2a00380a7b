"""Crowds of pictures before a real daemon, a sandbox that enforces the limits, and single drops meanwhile."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, wait_until

# Seconds that the sandbox takes for a call.
DELAY = 0.2
THROTTLED = 99991400


@dataclass(frozen=True)
class Crowd:
    """``pictures`` come at once, or ``stream`` a second, and meanwhile a single one every so often."""

    name: str
    pictures: int = 0
    found: bool = False  # by the scan at the start, written in the second before it; else moved in
    stream: float = 0.0
    seconds: float = 180.0  # that it is watched
    first: float = 11.0  # seconds at which the first single drop comes
    every: float = 4.0  # seconds between single drops; 0 for none
    per_second: int = 50
    per_minute: int = 1000


@dataclass
class Played:
    """What came of a crowd, in seconds from its coming."""

    finished: list[tuple[float, int]] = field(default_factory=list)  # when, and how many by then
    waits: dict[float, float] = field(default_factory=dict)  # of what was dropped singly or streamed, by when it was
    throttled: int = 0
    lost: int = 0

    def done_by(self, seconds: float) -> int:
        """How many were finished by then."""
        return max(count for at, count in self.finished if at <= seconds)


SMALL_LIMITS = Crowd("600 moved in at once, 20/s and 300/min", 600, seconds=61, first=14, per_second=20, per_minute=300)
MOVED_IN = Crowd("10,000 moved in at once", 10_000)
FOUND = Crowd("start over 10,000 files of the last second", 10_000, found=True)
STREAM = Crowd("25 dropped a second", stream=25, seconds=300, every=0)
BATCH = Crowd("300 moved in at once", 300, seconds=10, every=0)


@cache
def contents(count: int) -> tuple[bytes, ...]:
    """So many pictures; made once, since that takes seconds and would disturb whatever is played meanwhile."""
    return tuple(picture(number) for number in range(count))


def play(crowd: Crowd, home: Path, *, drain: bool = False) -> Played:
    """Let a crowd come; ``drain`` waits until all of it is finished."""
    played, dropped, ready, number = Played(), {}, home / "ready", 1_000_000
    ready.mkdir(parents=True)
    images = contents(crowd.pictures)
    with Sandbox() as lark:
        lark.faults.set({"delay": DELAY, "per_second": crowd.per_second, "per_minute": crowd.per_minute})
        limits = {"requests_per_second": crowd.per_second, "requests_per_minute": crowd.per_minute}
        upload = {"workers": 16, "settle_seconds": 2.0}
        lark_settings = {"base_url": lark.url, "app_id": "cli_sandbox", "app_secret": "sandbox-secret", **limits}
        daemon = Daemon(home, None, lark=lark_settings, upload=upload, log={"level": "info", "format": "json"})
        where = daemon.inbox if crowd.found else ready
        paths = [where / f"{n:06}.png" for n in range(len(images))]
        for path, content in zip(paths, images, strict=True):
            path.write_bytes(content)
        with daemon:
            began = time.monotonic()
            for path in () if crowd.found else paths:
                path.rename(daemon.inbox / path.name)
            log, read, done = daemon.state / "results.jsonl", 0, 0
            due = crowd.first if crowd.every else 0.0
            every = crowd.every or (1 / crowd.stream if crowd.stream else 2 * crowd.seconds)
            while (now := time.monotonic() - began) < crowd.seconds:
                if due <= now and (crowd.every or crowd.stream):
                    content = picture(number)
                    daemon.drop(f"single-{number}.png", content)
                    dropped[hashlib.sha256(content).hexdigest()] = time.monotonic()
                    number, due = number + 1, due + every
                with log.open("rb") as lines:
                    lines.seek(read)
                    new = lines.read()
                read, done = read + len(new), done + new.count(b"\n")
                played.finished.append((now, done))
                time.sleep(0.01)
            if drain:
                whole = crowd.pictures + len(dropped)
                wait_until(lambda: len(lark.uploads) >= whole, 300, "the backlog to drain")
                wait_until(lambda: len(daemon.results()) >= whole, 30, "the records")
                played.lost = whole - len({line["path"] for line in daemon.results()})
            ended = time.monotonic()
            arrived = {made.sha256: made.at - DELAY for made in lark.uploads}
        played.throttled = lark.answers[THROTTLED]
    played.waits = {at - began: arrived.get(sha256, ended) - at for sha256, at in dropped.items()}
    return played
