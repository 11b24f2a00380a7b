"""``larkdrop status``."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from larkdrop import answers, config
from larkdrop.commands.options import ask, config_option, json_option, print_json, shown
from larkdrop.settings import Settings

# Seconds between two looks with --watch.
REFRESH = 2.0
# Troubles that are shown; --json has all.
MOST_TROUBLES = 5


@click.command(epilog="Example: larkdrop status --watch")
@config_option
@json_option
@click.option("--watch", "stay", is_flag=True, help="Look again every 2 seconds, until Ctrl-C.")
def command(config_file: Path | None, *, as_json: bool, stay: bool) -> None:
    """Tell whether all is well; exit 1 if something needs a person.

    Works whether or not larkdrop runs.
    """
    settings = config.load(config_file, signs_in=False)
    if stay and not as_json:
        with Live(page(look(settings)), console=Console(highlight=False), screen=sys.stdout.isatty()) as live:
            while True:
                time.sleep(REFRESH)
                live.update(page(look(settings)))
    while True:
        status = look(settings)
        if as_json:
            print_json(status)
        else:
            Console(highlight=False).print(page(status))
        if not stay:
            sys.exit(0 if status["well"] else 1)
        time.sleep(REFRESH)


def look(settings: Settings) -> dict[str, Any]:
    """The daemon's status, or where none runs what the folders and the key cache tell."""
    status: dict[str, Any] | None = ask(settings, "status")
    if status is None:
        with answers.index_of(settings) as index:
            status = answers.status(settings, index, None)
    return status


def page(status: dict[str, Any]) -> RenderableType:
    """The status as a person reads it."""
    return Group(_headline(status), *(Text(f"  → {shown(need)}") for need in status["needs"]), _folders(status),
                 _facts(status))  # fmt: skip


def _headline(status: dict[str, Any]) -> Text:
    says = "larkdrop does not run"
    if status["running"]:
        says = f"larkdrop runs since {_local(status['since'])} (process {status['pid']})"
    if not status["well"]:
        return Text(f"✗ {says}", style="red")
    return Text(f"✓ {says}", style="green" if status["running"] else "yellow")


def _folders(status: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = ["uploaded", "waiting", "uploading", "settling", "in_backoff", "rejected"]
    columns = [column for column in columns if column in status["folders"][0]]
    table.add_column("folder", overflow="fold")
    for column in columns:
        table.add_column(column.removeprefix("in_"), justify="right", no_wrap=True)
    for folder in status["folders"]:
        numbers = [f"{folder[column]:,}" for column in columns]
        if folder["rejected"]:
            numbers[-1] = f"[red]{numbers[-1]}[/red]"
        table.add_row(escape(shown(folder["path"])), *numbers)
    return table


def _facts(status: dict[str, Any]) -> Table:
    """What else is known, a line each, under its name."""
    calls, finished = status["calls"], status["finished"]
    quota = f" of {calls['quota']:,}" if calls["quota"] else ""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("calls", f"{calls['today']:,} today, {calls['month']:,}{quota} this month")
    spans = f"{finished['1_min']:,} in the last minute, {finished['5_min']:,} in 5, {finished['15_min']:,} in 15"
    table.add_row("finished", spans)
    if held := status["held"]:
        table.add_row("held", Text(f"since {_local(held['since'])}: {_reason(held)}.", style="red"))
    elif status["running"]:
        table.add_row("gate", "open")
    troubles = status["troubles"]
    for trouble in troubles[:MOST_TROUBLES]:
        table.add_row("trouble", Text(f"can't {shown(trouble)}", style="red"))
    if len(troubles) > MOST_TROUBLES:
        table.add_row("", Text(f"and {len(troubles) - MOST_TROUBLES:,} more", style="red"))
    if bad := status["last_rejected"]:
        table.add_row("rejected", Text(f"{shown(bad['path'])}: {bad['reason']}"))
    if error := status["last_error"]:
        table.add_row("error", Text(f"at {_local(error['at'])}: {_reason(error)}. {error['hint']}".strip()))
    return table


def _local(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def _reason(fault: dict[str, Any]) -> str:
    code = f" (code {fault['code']})" if fault["code"] is not None else ""
    return f"{fault['reason']}{code}"
