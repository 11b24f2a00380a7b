"""``larkdrop status``: prints what ``service/status.py`` tells."""

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

from larkdrop.commands.options import ask, config_option, json_option, print_json
from larkdrop.config.load import load
from larkdrop.config.settings import Settings
from larkdrop.records.index import Index
from larkdrop.service.status import rejected_files
from larkdrop.service.texts import printable

# Seconds between two refreshes with --watch.
REFRESH = 2.0
# Troubles that are shown; --json has all.
MOST_TROUBLES = 5


@click.command(epilog="Example: larkdrop status --watch")
@config_option
@json_option
@click.option("--watch", "stay", is_flag=True, help="Refresh every 2 seconds, until Ctrl-C.")
@click.option("--rejected", "only_rejected", is_flag=True, help="List the rejected files, and why.")
@click.option("--strict", is_flag=True, help="Exit 1 for rejected files too.")
@click.option(
    "--fleet", "of_fleet", is_flag=True, help="List the hosts that share the app, as their database has them."
)
def command(
    config_file: Path | None, *, as_json: bool, stay: bool, only_rejected: bool, strict: bool, of_fleet: bool
) -> None:
    """Show whether larkdrop is running and all is well; exit 1 if something needs a person.

    A rejected file is a remark: it keeps nothing else from being uploaded. Works whether or not larkdrop is running.
    """
    if stay + only_rejected + of_fleet > 1:
        raise click.UsageError("--watch, --rejected and --fleet exclude each other.")
    settings = load(config_file, signs_in=False)
    if of_fleet:
        _print_fleet(settings, as_json=as_json)
        return
    if only_rejected:
        sys.exit(1 if _print_rejected(settings, as_json=as_json) and strict else 0)
    if stay and not as_json and sys.stdout.isatty():
        with Live(page(ask(settings, "status")), console=Console(highlight=False), screen=True) as live:
            while True:
                time.sleep(REFRESH)
                live.update(page(ask(settings, "status")))
    while True:
        status = ask(settings, "status")
        if as_json:
            print_json(status)
        else:
            _print(page(status))
        if not stay:
            sys.exit(0 if status["well"] and not (strict and status["last_rejected"]) else 1)
        time.sleep(REFRESH)


def _print_rejected(settings: Settings, *, as_json: bool) -> int:
    """Print the rejected files, the oldest first; how many there are."""
    with Index(settings.key_cache) as index:
        files = list(rejected_files(index))
    if as_json:
        print_json([{"path": file.path, "at": file.at, "reason": file.error} for file in files])
        return len(files)
    for file in files:
        click.echo(f"{_local(file.at)}  {printable(file.path)}: {file.error}")
    note = "`larkdrop explain PATH` says what to do; `larkdrop retry` tries them again."
    click.echo(note if files else "No file was rejected.", err=True)
    return len(files)


def _print_fleet(settings: Settings, *, as_json: bool) -> None:
    """Print every host that ever took part."""
    hosts = ask(settings, "fleet_hosts")
    if as_json:
        print_json(hosts)
        return
    columns = ("host", "", "version", "since", "last seen", "waiting", "calls/s", "calls/min", "held")
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for host in hosts:
        moments = _local(host["since"]), _local(host["last_seen"])
        numbers = f"{host['waiting']:,}", f"{host['calls_second']:,}", f"{host['calls_minute']:,}"
        table.add_row(host["host"], host["state"], host["version"], *moments, *numbers, escape(printable(host["held"])))
    _print(table if hosts else Text("No host has taken part yet."))


def _print(shown: RenderableType) -> None:
    """Print a page; on a pipe without wrapping its lines, and without the blanks that fill them."""
    if sys.stdout.isatty():
        Console(highlight=False).print(shown)
        return
    console = Console(highlight=False, width=10_000)
    with console.capture() as capture:
        console.print(shown)
    click.echo("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()), nl=False)


def page(status: dict[str, Any]) -> RenderableType:
    """The status as a person reads it."""
    needs = (Text(f"✗ {printable(need)}", style="red") for need in status["needs"])
    remarks = (Text(f"! {printable(remark)}", style="yellow") for remark in status["remarks"])
    return Group(_headline(status), *needs, *remarks, _folders(status), _facts(status))


def _headline(status: dict[str, Any]) -> Text:
    """Whether it is running: that something needs a person is another matter."""
    if status["running"]:
        return Text(f"✓ larkdrop is running, since {_local(status['since'])} (process {status['pid']})", style="green")
    return Text("– larkdrop is not running", style="yellow")


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
            numbers[-1] = f"[yellow]{numbers[-1]}[/yellow]"
        table.add_row(escape(printable(folder["path"])), *numbers)
    return table


def _facts(status: dict[str, Any]) -> Table:
    """What else is known, a line each, under its name."""
    calls, finished, troubles = status["calls"], status["finished"], status["troubles"]
    quota = f" of {calls['quota']:,}" if calls["quota"] else ""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("calls", f"{calls['today']:,} today, {calls['month']:,}{quota} this month")
    spans = f"{finished['1_min']:,} in the last minute, {finished['5_min']:,} in 5, {finished['15_min']:,} in 15"
    table.add_row("finished", spans)
    if fleet := status["fleet"]:
        table.add_row("fleet", _fleet(fleet))
    if held := status["held"]:
        table.add_row("held", Text(f"since {_local(held['since'])}: {_reason(held)}.", style="red"))
    elif status["running"]:
        table.add_row("gate", "open")
    for trouble in troubles[:MOST_TROUBLES]:
        table.add_row("trouble", Text(f"can't {printable(trouble)}", style="red"))
    if len(troubles) > MOST_TROUBLES:
        table.add_row("", Text(f"and {len(troubles) - MOST_TROUBLES:,} more", style="red"))
    if rejected := status["last_rejected"]:
        table.add_row("rejected", Text(f"{printable(rejected['path'])}: {rejected['reason']}"))
    if error := status["last_error"]:
        table.add_row("error", Text(f"at {_local(error['at'])}: {_reason(error)}. {error['hint']}".strip()))
    return table


def _fleet(fleet: dict[str, Any]) -> Text:
    """With how many hosts this one shares its app; or why it is alone."""
    if away := fleet["away"]:
        return Text(f"alone since {_local(away['since'])}: {away['reason']}. {away['hint']}".strip(), style="red")
    company = f"one of {fleet['hosts']:,}" if fleet["hosts"] > 1 else "the only one"
    return Text(f"{fleet['host']}, {company}")


def _local(moment: str) -> str:
    """RFC 3339 as local time."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def _reason(fault: dict[str, Any]) -> str:
    code = f" (code {fault['code']})" if fault["code"] is not None else ""
    return f"{fault['reason']}{code}"
