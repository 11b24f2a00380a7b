"""``larkdrop run``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from larkdrop import config, logs
from larkdrop.commands.options import config_option
from larkdrop.service import Service
from larkdrop.settings import Settings


@click.command(epilog="Example: larkdrop run --config config.toml")
@config_option
@click.option("--once", is_flag=True, help="Upload what is there now, and exit: 1 if a file was rejected.")
@click.option("--quiet", is_flag=True, help="Log warnings and errors alone.")
@click.option("--verbose", is_flag=True, help="Log every step.")
def command(config_file: Path | None, *, once: bool, quiet: bool, verbose: bool) -> None:
    """Watch the folders and upload what is dropped into them."""
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    settings = config.load(config_file)
    level = "debug" if verbose else "warning" if quiet else settings.log.level
    if once and sys.stderr.isatty() and level in {"info", "warning", "error"} and settings.log.format != "json":
        sys.exit(_with_bar(settings, "error" if level == "error" else "warning"))
    logs.set_up(level, settings.log.format)
    sys.exit(Service(settings).run(once=once))


def _with_bar(settings: Settings, level: str) -> int:
    """Run once, with a progress bar instead of a line for each upload."""
    # Here, since a daemon never needs them.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )  # fmt: skip
    console = Console(stderr=True, highlight=False)
    elapsed = TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        logs.set_up(level, settings.log.format)
        bar = progress.add_task("looking", total=None, rate="")

        def show(outcomes: Counter[str], left: int) -> None:
            done = sum(outcomes.values())
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            rate = f"{speed:.0f}/s" if speed else ""
            progress.update(bar, completed=done, total=done + left, description=_counts(outcomes), rate=rate)

        service = Service(settings, on_tick=show)
        code = service.run(once=True)
        took = elapsed.render(progress.tasks[0])
    left = int((progress.tasks[0].total or 0) - progress.tasks[0].completed)
    console.print(f"{progress.tasks[0].description} in {took}" + (f"; {left:,} left" if left else "") + ".")
    return code


def _counts(outcomes: Counter[str]) -> str:
    words = [f"{outcomes['uploaded']:,} uploaded"]
    words += [f"{outcomes['reused']:,} known already"] if outcomes["reused"] else []
    words += [f"{outcomes['rejected']:,} rejected"] if outcomes["rejected"] else []
    return ", ".join(words)
