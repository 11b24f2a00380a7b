"""``larkdrop keys``."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click

from larkdrop.commands.options import absolute, config_option, json_option, print_json, shown
from larkdrop.config import load as config
from larkdrop.config.settings import Settings
from larkdrop.folder import picture, sidecar
from larkdrop.records.index import File, Index
from larkdrop.service import answers

# Seconds between looks while waiting.
WAIT_STEP = 0.05
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Key:
    """One line: ``path`` is where the image was dropped, or where it is now if that was named."""

    path: str
    image_key: str
    uploaded_at: str  # RFC 3339, UTC
    size: int  # bytes
    sha256: str
    moved_to: str | None = None  # empty where the image was deleted


class Moment(click.ParamType[str]):
    """``2026-11-23``, ``2026-11-23T10:00``, or how long ago: ``90m``, ``2h``, ``7d``, ``4w``."""

    name = "when"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The moment as RFC 3339 in UTC."""
        if ago := re.fullmatch(r"(\d+)([mhdw])", value):
            moment = datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        else:
            try:
                moment = datetime.fromisoformat(value).astimezone(UTC)
            except ValueError:
                self.fail(f"{value!r} is no moment such as 2026-11-23, 2026-11-23T10:00, 90m, 2h or 7d.", param, ctx)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@click.command(epilog="Example: larkdrop keys --key-only logo.png")
@config_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a header.")
@click.option("--key-only", is_flag=True, help="Print only the keys, for scripts.")
@click.option("--since", type=Moment(), help="Uploaded since: 2026-11-23, 2h, 7d.")
@click.option("--until", type=Moment(), help="Uploaded before.")
@click.option("--limit", type=click.IntRange(1), help="The newest ones only, this many.")
@click.option("--all", "every", is_flag=True, help="Also those of contents that a file had before.")
@click.option("--wait", type=click.FloatRange(0), default=0.0, help="Seconds to wait for PATHS that have no key yet.")
@click.argument("paths", nargs=-1, type=click.Path(readable=False))
def command(
    config_file: Path | None,
    paths: tuple[str, ...],
    *,
    as_json: bool,
    as_csv: bool,
    key_only: bool,
    since: str | None,
    until: str | None,
    limit: int | None,
    every: bool,
    wait: float,
) -> None:
    """Print the keys of uploaded images, the oldest first; exit 1 if one of PATHS has none.

    PATHS are files, folders, or names and patterns such as '*.png' that are looked for in every folder. A picture that
    was moved is found by both its names. Of a file named, the key is that of its last content.
    """
    if as_json + as_csv + key_only > 1:
        raise click.UsageError("--json, --csv and --key-only exclude each other.")
    if since and until and until <= since:
        raise click.UsageError(f"--until {until} is not after --since {since}: nothing can lie between them.")
    settings = config.load(config_file, signs_in=False)
    wanted = [path for path in paths if not sidecar.is_ours(os.path.basename(path))] or [*paths]
    span = (since or "", until or "")
    deadline = time.monotonic() + wait
    while True:
        with answers.index_of(settings) as index:
            found = {path: list(_of(path, settings, index, *span, every=every)) for path in wanted or [""]}
        missing = [path for path, keys in found.items() if not keys]
        if time.monotonic() >= deadline or not any(_may_come(path, settings) for path in missing):
            break
        time.sleep(WAIT_STEP)
    unique = dict.fromkeys(key for keys in found.values() for key in keys)
    keys = sorted(unique, key=lambda key: key.uploaded_at)[-limit if limit else 0 :]
    if as_json:
        print_json([vars(key) for key in keys])
    elif as_csv:
        out = csv.writer(sys.stdout)
        out.writerow(Key.__dataclass_fields__)
        out.writerows(vars(key).values() for key in keys)
    elif key_only:
        click.echo("".join(f"{key.image_key}\n" for key in keys), nl=False)
    else:
        width = max((len(key.image_key) for key in keys), default=0)
        text = (f"{key.image_key:{width}}  {key.uploaded_at[:19]}Z  {_names(key)}\n" for key in keys)
        click.echo("".join(text), nl=False)
    if missing:
        what = ", ".join(map(shown, filter(None, missing))) or "any image"
        click.echo(f"larkdrop: no key is known of {what}; `larkdrop explain PATH` says why.", err=True)
    sys.exit(1 if missing else 0)


def _names(key: Key) -> str:
    names = [key.path, key.moved_to] if key.moved_to else [key.path]
    return " → ".join(shown(name) if sys.stdout.isatty() else name for name in names)


def _of(given: str, settings: Settings, index: Index, since: str, until: str, *, every: bool) -> Iterator[Key]:
    """The keys of what a person named: a folder, a file, or a pattern of names; of everything for the empty word."""
    path = absolute(given)
    keys = partial(_keys, index, since=since, until=until, every=every)
    if not given or os.path.isdir(path):
        yield from keys(below=path if given else "")
    elif every and (all_of_it := list(keys(at=path))):
        yield from all_of_it
    elif key := _at(path, settings, index):
        if since <= key.uploaded_at and (not until or key.uploaded_at < until):
            yield key
    elif not (os.path.lexists(path) and answers.watch_of(settings, path)):
        matches = re.compile(fnmatch.translate(given if "/" not in given else path), re.IGNORECASE).match
        whole = "/" in given
        for key in keys():
            if any(
                matches(name if whole else name.rpartition("/")[2]) for name in (key.path, key.moved_to or key.path)
            ):
                yield key


def _keys(index: Index, **which: Any) -> Iterator[Key]:
    return (_key(file) for file in index.files(status="uploaded", **which))


def _key(file: File) -> Key:
    return Key(file.path, file.image_key, file.at, file.size, file.sha256, file.place)


def _at(path: str, settings: Settings, index: Index) -> Key | None:
    """The key of one file: what stands beside it; else what was recorded of that path, where it is the same content."""
    try:
        found = answers.find(path, answers.watch_of(settings, path))
    except picture.Changed:
        return None
    except (picture.NotAFile, OSError):
        found = None
    if found and (record := found.record):
        return Key(path, record.image_key, record.at, record.size, record.sha256) if record.image_key else None
    file = index.file(path)
    same = found is None or found.read is None or (file and file.sha256 == found.read.sha256)
    if file and file.status == "uploaded" and same:
        return _key(file)
    return None


def _may_come(path: str, settings: Settings) -> bool:
    """Whether waiting makes sense: not for what was rejected."""
    try:
        found = answers.find(absolute(path), answers.watch_of(settings, absolute(path)))
    except (picture.NotAFile, picture.Changed, OSError):
        return True
    return found.record is None or found.record.status != "rejected"
