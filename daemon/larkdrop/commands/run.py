"""``larkdrop run``."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from larkdrop.commands.options import config_option
from larkdrop.config.load import load
from larkdrop.config.settings import Settings
from larkdrop.service import logs
from larkdrop.service.daemon import Service

if TYPE_CHECKING:
    from rich.progress import Progress

# Seconds after which a file counts for a third in the rate; for which a total must be larger, or smaller, to be shown;
# for which a reason stays.
FADES, TOTAL_RISES, TOTAL_FALLS, REASON_STAYS = 15.0, 1.0, 5.0, 2.0
# Files a second below which no rate is shown, and no remaining time.
SLOWEST = 0.05


@click.command(epilog="Example: larkdrop run --config config.toml")
@config_option
@click.option("--once", is_flag=True, help="Upload what is there now, and exit: 1 if a file was rejected.")
@click.option("--quiet", is_flag=True, help="Log only warnings and errors.")
@click.option("--verbose", is_flag=True, help="Log every step.")
def command(config_file: Path | None, *, once: bool, quiet: bool, verbose: bool) -> None:
    """Watch the folders and upload what is dropped into them."""
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    settings = load(config_file)
    level = "debug" if verbose else "warning" if quiet else settings.log.level
    if once and sys.stderr.isatty() and level != "debug" and settings.log.format != "json":
        sys.exit(_with_bar(settings, "error" if level == "error" else "warning"))
    logs.set_up(level, settings.log.format)
    sys.exit(Service(settings).run(once=once))


class Meter:
    """What a progress bar shows: a smooth rate, a total that does not flicker, and a reason that stays readable.

    Between two ticks a file may be counted nowhere or twice, on its way from one part of larkdrop to the next.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began = self._at = clock()
        self._done = 0
        self._files = self._seconds = 0.0  # the latest count most
        self._totals: list[tuple[float, int]] = []  # of late, and when
        self._reason_at = -math.inf
        self.total = 0
        self.reason = ""

    def tick(self, done: int, left: int, reason: str) -> None:
        """How many files are done and left now, and what they wait for."""
        now = self._clock()
        fades = math.exp((self._at - now) / FADES)
        self._files = self._files * fades + done - self._done
        self._seconds = self._seconds * fades + now - self._at
        self._at, self._done = now, done
        self._totals = [one for one in (*self._totals, (now, done + left)) if one[0] >= now - TOTAL_FALLS]
        lately = min(total for at, total in self._totals if at >= now - TOTAL_RISES)
        self.total = max(min(self.total, max(total for _, total in self._totals)), lately, done)
        if reason or now - self._reason_at > REASON_STAYS:
            self.reason, self._reason_at = reason, now

    @property
    def rate(self) -> float | None:
        """Files a second; None in the first second, and while nothing is done."""
        return self._files / self._seconds if self._done and self._at - self.began >= 1 else None


class Bar:
    """What a run has done so far, on a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("scanning", total=None, pace="")
        self._meter = Meter()
        self._outcomes = Counter[str]()
        self._left = 0

    def show(self, outcomes: Counter[str], left: int, reason: str) -> None:
        """What came of files, by outcome; how many are left; why they wait."""
        self._outcomes, self._left, meter = outcomes, left, self._meter
        meter.tick(outcomes.total(), left, reason)
        pace = ""
        if meter.rate and meter.rate >= SLOWEST:
            remaining = (meter.total - outcomes.total()) / meter.rate
            pace = f"{meter.rate:.{0 if meter.rate >= 10 else 1}f}/s {_hours(remaining)}"
        text = _counts(outcomes) + (f"; {meter.reason}" if meter.reason else "")
        self._progress.update(
            self._task, completed=outcomes.total(), total=meter.total or None, description=text, pace=pace
        )

    def end(self) -> str:
        """Show the last counts. Returns a summary of the run."""
        counts, total = _counts(self._outcomes), self._outcomes.total() + self._left
        self._progress.update(self._task, total=total, description=counts, pace="")
        left = f"; {self._left:,} left" if self._left else ""
        return f"{counts} in {_hours(time.monotonic() - self._meter.began)}{left}."


def _with_bar(settings: Settings, level: str) -> int:
    """Run once, with a progress bar instead of a line for each upload."""
    # Imported here, since a daemon never needs them.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"), TextColumn("{task.description}"))
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console) as progress:
        logs.set_up(level, settings.log.format)
        bar = Bar(progress)
        code = Service(settings, on_tick=bar.show).run(once=True)
        summary = bar.end()
    console.print(summary)
    return code


def _hours(seconds: float) -> str:
    """``0:01:23``."""
    return str(timedelta(seconds=round(seconds)))


def _counts(outcomes: Counter[str]) -> str:
    counts = [f"{outcomes['uploaded']:,} uploaded"]
    counts += [f"{outcomes['reused']:,} already known"] if outcomes["reused"] else []
    counts += [f"{outcomes['rejected']:,} rejected"] if outcomes["rejected"] else []
    return ", ".join(counts)
