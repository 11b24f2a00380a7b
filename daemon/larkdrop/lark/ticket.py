"""A ticket: permission for one call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Ticket:
    """Permission for one call; ``probe`` marks the one that tries whether a closed gate may open."""

    at: float  # monotonic seconds
    probe: bool = False
    spent: bool = False  # the call was made, and its outcome reported
    moved: float = 0.0  # seconds by which it moved on when the next call is due at the even rate
    moved_fresh: float = 0.0  # the same of fresh drops
