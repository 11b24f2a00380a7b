"""A plot as SVG: pictures finished over time."""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 320, 60, 40, 30, 20


def plot(seen: list[tuple[float, int]], to: Path) -> None:
    """Draw ``seen``, seconds and pictures finished, beside the arithmetic limit of 1,000 a minute."""
    end = 60 * max(1, round(max(at for at, _ in seen) / 60))
    most = 1000 * end // 60

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / end

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(count, most) / most

    line = " ".join(f"{x(at):.1f},{y(count):.1f}" for at, count in seen if at <= end)
    steps = " ".join(f"{x(at):.1f},{y(1000 * (at // 60 + 1)):.1f}" for at in (0, 59.99, 60, 119.99, 120, 179.99))
    marks = "".join(
        f'<text x="{x(at):.0f}" y="{HEIGHT - 16}" text-anchor="middle">{at} s</text>'
        for at in range(0, int(end) + 1, 30)
    )
    marks += "".join(
        f'<text x="{LEFT - 8}" y="{y(count) + 4:.0f}" text-anchor="end">{count:,}</text>'
        f'<path d="M{LEFT} {y(count):.1f}H{WIDTH - RIGHT}" stroke="#8884"/>'
        for count in range(0, int(most) + 1, 1000)
    )
    to.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#777">{marks}'
        f'<polyline points="{steps}" fill="none" stroke="#999" stroke-dasharray="4 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#2f6fed" stroke-width="2"/>'
        f'<text x="{LEFT + 12}" y="{TOP - 12}">pictures finished; dashed: what 1,000 a minute allow</text></svg>\n',
        encoding="utf-8",
    )
