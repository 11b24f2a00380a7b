"""Moments, durations and counts, as a person reads them."""

from __future__ import annotations

import time
from datetime import datetime


def counted(number: int, one: str, many: str = "") -> str:
    """``1 picture``, ``2,000 pictures``; ``many`` where it is more than an s: ``picture was``, ``pictures were``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """``90 s``, ``15 min``, ``3 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{round(minutes / 60)} h"


def local_time(monotonic: float) -> datetime:
    """The local time of a moment in monotonic seconds."""
    return datetime.fromtimestamp(time.time() - time.monotonic() + monotonic).astimezone()


def upcoming(monotonic: float) -> str:
    """``at 14:03:00, in 5 s``, of a moment in monotonic seconds; ``now`` once it is past."""
    left = monotonic - time.monotonic()
    return "now" if left <= 0 else f"at {local_time(monotonic):%H:%M:%S}, in {left:.0f} s"


def printable(text: str) -> str:
    """A text that can't garble a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
