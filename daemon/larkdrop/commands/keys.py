"""``larkdrop keys``."""

from __future__ import annotations

import csv
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from larkdrop.commands.options import absolute, ask, config_option, json_option, print_json
from larkdrop.config.load import load
from larkdrop.config.settings import Settings
from larkdrop.fleet.facts import MOST_KEYS, FleetKey
from larkdrop.folder import sidecar
from larkdrop.records.index import Index
from larkdrop.records.sidecar_fields import rfc3339
from larkdrop.service.keys import Key, Keys, fleet_query
from larkdrop.service.texts import printable

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[str]):
    """``2026-11-23``, ``2026-11-23T10:00``, or how long ago: ``90m``, ``2h``, ``7d``, ``4w``."""

    name = "when"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The moment as RFC 3339 in UTC."""
        try:
            if ago := re.fullmatch(r"(\d+)([mhdw])", value):
                moment = datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
            else:
                moment = datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a moment; write 2026-11-23, 2026-11-23T10:00, 90m, 2h or 7d.", param, ctx)
        return rfc3339(moment)


@click.command(epilog="Example: larkdrop keys --key-only logo.png")
@config_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a header.")
@click.option("--key-only", is_flag=True, help="Print only the keys, for scripts.")
@click.option("--since", type=Moment(), help="Uploaded since: 2026-11-23, 2h, 7d.")
@click.option("--until", type=Moment(), help="Uploaded before.")
@click.option("--limit", type=click.IntRange(1), help="Only the newest ones, this many.")
@click.option("--all", "every", is_flag=True, help="Also the keys of contents that a file had before.")
@click.option("--wait", type=click.FloatRange(0), default=0.0, help="Seconds to wait for PATHS that have no key yet.")
@click.option("--fleet", "of_fleet", is_flag=True, help="Keys that any host of the fleet has got, and which one.")
@click.argument("paths", nargs=-1, type=click.Path(readable=False))
def command(
    config_file: Path | None, paths: tuple[str, ...], *, as_json: bool, as_csv: bool, key_only: bool,
    since: str | None, until: str | None, limit: int | None, every: bool, wait: float, of_fleet: bool,
) -> None:  # fmt: skip
    """Print the keys of uploaded images, the oldest first; exit 1 if one of PATHS has none.

    PATHS are files, folders, or names and patterns such as '*.png' that are searched for in every folder. A picture
    that was moved is found by both its names. Of a file named, the key is that of its last content.

    With --fleet, PATHS are files of this host, whose contents are looked for, or names and patterns.
    """
    if as_json + as_csv + key_only > 1:
        raise click.UsageError("--json, --csv and --key-only exclude each other.")
    if since and until and until <= since:
        raise click.UsageError(f"--until {until} is not after --since {since}: nothing can lie between them.")
    if of_fleet and (every or wait):
        raise click.UsageError("--fleet excludes --all and --wait.")
    settings = load(config_file, signs_in=False)
    found: Mapping[str, Sequence[Key | FleetKey]]
    if of_fleet:
        found = _of_fleet(settings, paths, since or "", until or "", limit)
    else:
        found = _of_this_host(settings, paths, since or "", until or "", every=every, wait=wait)
    missing = [path for path, keys in found.items() if not keys]
    unique = dict.fromkeys(key for keys in found.values() for key in keys)
    keys = sorted(unique, key=lambda key: key.uploaded_at)[-limit if limit else 0 :]
    if as_json:
        print_json([vars(key) for key in keys])
    elif as_csv:
        columns = [field.name for field in fields(FleetKey if of_fleet else Key)]
        csv.writer(sys.stdout).writerows([columns, *(vars(key).values() for key in keys)])
    elif key_only:
        click.echo("".join(f"{key.image_key}\n" for key in keys), nl=False)
    else:
        click.echo("".join(_lines(keys)), nl=False)
    if missing:
        what = ", ".join(map(printable, filter(None, missing))) or "any image"
        click.echo(f"larkdrop: no key is known of {what}; `larkdrop explain PATH` says why.", err=True)
    sys.exit(1 if missing else 0)


def _of_this_host(
    settings: Settings, paths: Sequence[str], since: str, until: str, *, every: bool, wait: float
) -> dict[str, list[Key]]:
    """The keys of each path, by what this host knows."""
    wanted = [path for path in paths if not sidecar.is_ours(os.path.basename(path))] or [*paths]
    deadline = time.monotonic() + wait
    while True:
        with Index(settings.key_cache) as index:
            known = Keys(settings, index, since, until, every)
            found = {path: list(known.of(path, absolute(path))) for path in wanted or [""]}
            may_come = any(known.may_come(absolute(path)) for path, keys in found.items() if not keys)
        if not may_come or time.monotonic() >= deadline:
            return found
        time.sleep(0.05)


def _of_fleet(
    settings: Settings, paths: Sequence[str], since: str, until: str, limit: int | None
) -> dict[str, list[FleetKey]]:
    """The keys of each path, by what the database knows: of a file here by its content, else by the name it had."""
    queries = [fleet_query(path, absolute(path), since, until, limit or MOST_KEYS) for path in paths or [""]]
    answers = ask(settings, "fleet_keys", [asdict(query) for query in queries])
    found = [[FleetKey(**key) for key in answer] for answer in answers]
    if any(len(keys) == MOST_KEYS for keys in found):
        click.echo(f"larkdrop: only the newest {MOST_KEYS:,}; --since and --until show others.", err=True)
    return dict(zip(paths or [""], found, strict=True))


def _lines(keys: Sequence[Key | FleetKey]) -> Iterator[str]:
    width = max((len(key.image_key) for key in keys), default=0)
    for key in keys:
        names = " → ".join(printable(name) if sys.stdout.isatty() else name for name in key.names)
        yield f"{key.image_key:{width}}  {key.uploaded_at[:19]}Z  {names}\n"
