"""``larkdrop keys``."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from larkdrop import answers, config
from larkdrop.commands.options import absolute, config_option, json_option, print_json, shown
from larkdrop.config import Settings
from larkdrop.folder import picture, sidecar
from larkdrop.index import Index

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Key:
    """One line: ``path`` is where the image was dropped."""

    path: str
    image_key: str
    uploaded_at: str  # RFC 3339, UTC
    size: int  # bytes
    sha256: str


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
@click.option("--key-only", is_flag=True, help="Print the keys alone, for scripts.")
@click.option("--since", type=Moment(), help="Uploaded since: 2026-11-23, 2h, 7d.")
@click.option("--until", type=Moment(), help="Uploaded before.")
@click.option("--limit", type=click.IntRange(1), help="The newest ones only, this many.")
@click.argument("paths", nargs=-1, type=click.Path())
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
) -> None:
    """Print the keys of uploaded images, the oldest first; exit 1 if there is none.

    PATHS are files, folders, or names and patterns such as '*.png' that are looked for in every folder.
    """
    settings = config.load(config_file, signs_in=False)
    span = (since or "", until or "")
    with answers.index_of(settings) as index:
        if paths:
            found = {key.path: key for path in paths for key in _of(path, settings, index, *span)}
            keys = sorted(found.values(), key=lambda key: key.uploaded_at)
        else:
            keys = list(_below("", index, *span))
    keys = keys[-limit:] if limit else keys
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
        text = (f"{key.image_key:{width}}  {key.uploaded_at[:19]}Z  {_name(key.path)}\n" for key in keys)
        click.echo("".join(text), nl=False)
    if not keys:
        what = ", ".join(map(shown, paths)) or "any image"
        click.echo(f"larkdrop: no key is known of {what}; `larkdrop explain PATH` says why.", err=True)
    sys.exit(0 if keys else 1)


def _name(path: str) -> str:
    return shown(path) if sys.stdout.isatty() else path


def _of(given: str, settings: Settings, index: Index, since: str, until: str) -> Iterator[Key]:
    """The keys of what a person named: a folder, a file, or a pattern of names."""
    path = absolute(given)
    if os.path.isdir(path):
        yield from _below(path, index, since, until)
    elif key := _at(path, settings, index):
        if since <= key.uploaded_at and (not until or key.uploaded_at < until):
            yield key
    else:
        matches = re.compile(fnmatch.translate(given if "/" not in given else path), re.IGNORECASE).match
        whole = "/" in given
        for key in _below("", index, since, until):
            if matches(key.path if whole else key.path.rpartition("/")[2]):
                yield key


def _below(folder: str, index: Index, since: str, until: str) -> Iterator[Key]:
    for file in index.files(below=folder, status="uploaded", since=since, until=until):
        yield Key(file.path, file.image_key, file.at, file.size, file.sha256)


def _at(path: str, settings: Settings, index: Index) -> Key | None:
    """The key of one file: what stands beside it, else what was recorded of that path."""
    watch = answers.watch_of(settings, path)
    if watch:
        try:
            with picture.parent_of(str(watch.path), path) as (folder, name):
                _, record = sidecar.look(folder, name, picture.stamp(folder, name))
        except (picture.NotAFile, OSError):
            record = None
        if record and record.status == "uploaded":
            return Key(path, record.image_key, record.at, record.size, record.sha256)
    file = index.file(path)
    if file and file.status == "uploaded":
        return Key(path, file.image_key, file.at, file.size, file.sha256)
    return None
