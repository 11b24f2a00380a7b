"""A plot as SVG: pictures finished over time, and how long single drops waited meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, LEFT, RIGHT = 760, 60, 20
# The two panels, from top to bottom: pictures finished, and waiting times.
TOP, MIDDLE, LOWER, BOTTOM = 30, 260, 310, 390
LONGEST = 2.0  # seconds, at the top of the lower panel


def plot(finished: Sequence[tuple[float, int]], waits: Mapping[float, float], per_minute: int, to: Path) -> None:
    """Draw a crowd: ``finished``, seconds and pictures by then; ``waits``, when a drop came and how long it waited."""
    end = 60 * max(1, round(max(at for at, _ in finished) / 60))
    most = per_minute * end // 60

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / end

    def y(count: float) -> float:
        return MIDDLE - (MIDDLE - TOP) * min(count, most) / most

    def low(seconds: float) -> float:
        return BOTTOM - (BOTTOM - LOWER) * min(seconds, LONGEST) / LONGEST

    def grid(value: float, label: str) -> str:
        return (
            f'<text x="{LEFT - 8}" y="{value + 4:.0f}" text-anchor="end">{label}</text>'
            f'<path d="M{LEFT} {value:.1f}H{WIDTH - RIGHT}" stroke="#8884"/>'
        )

    count_at = dict(finished)
    drawn = [at for at, _ in finished if at <= end][::25]
    line = " ".join(f"{x(at):.1f},{y(count_at[at]):.1f}" for at in drawn)
    marks = "".join(
        f'<text x="{x(at):.0f}" y="{BOTTOM + 24}" text-anchor="middle">{at} s</text>' for at in range(0, end + 1, 30)
    )
    marks += "".join(grid(y(count), f"{count:,}") for count in range(0, most + 1, per_minute))
    marks += "".join(grid(low(seconds), f"{seconds:g} s") for seconds in (0, 1, 2))
    dots = "".join(
        f'<path d="M{x(at):.1f} {TOP}V{BOTTOM}" stroke="#e4572e" stroke-opacity=".25"/>'
        f'<circle cx="{x(at):.1f}" cy="{low(wait):.1f}" r="3" fill="#e4572e"/>'
        for at, wait in waits.items()
    )
    to.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {BOTTOM + 40}" font-family="sans-serif" '
        f'font-size="12" fill="#777">{marks}{dots}'
        f'<polyline points="{x(0)},{y(0)} {x(end)},{y(most)}" fill="none" stroke="#999" stroke-dasharray="4 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#2f6fed" stroke-width="2"/>'
        f'<text x="{LEFT + 12}" y="{TOP - 12}">pictures finished; dashed: {per_minute:,} a minute</text>'
        f'<text x="{LEFT + 12}" y="{LOWER - 12}">what is dropped meanwhile (red): seconds until its upload began</text>'
        "</svg>\n",
        encoding="utf-8",
    )
