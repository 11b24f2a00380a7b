"""``larkdrop config``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any

import click
from pydantic import BaseModel, SecretStr

from larkdrop.commands.options import config_option, json_option, print_json
from larkdrop.config.example import as_toml, example
from larkdrop.config.load import load_with_origins
from larkdrop.config.problems import Origins
from larkdrop.config.settings import SECTIONS, Settings

# Characters of a line past which it does not widen the column of the sources.
WIDE = 60


@dataclass(frozen=True)
class Row:
    """One setting in effect, and where it comes from."""

    table: str  # "lark", "watch[0]"
    key: str
    value: Any  # as JSON has it; secrets are masked
    source: str

    @property
    def line(self) -> str:
        """The setting as TOML."""
        return f"# {self.key} is not set" if self.value is None else f"{self.key} = {as_toml(self.value)}"


@click.command(epilog="Example: larkdrop config --example > config.toml")
@config_option
@json_option
@click.option("--example", "as_example", is_flag=True, help="Print an example: every key, its default, what it is for.")
def command(config_file: Path | None, *, as_json: bool, as_example: bool) -> None:
    """Print the settings in effect and where each comes from; secrets are masked."""
    if as_example:
        click.echo(example(), nl=False)
        return
    rows = list(_rows(*load_with_origins(config_file, signs_in=False)))
    if as_json:
        print_json([{"key": f"{row.table}.{row.key}", "value": row.value, "from": row.source} for row in rows])
        return
    width = max(len(row.line) for row in rows if len(row.line) < WIDE)
    tables = []
    for table, settings in groupby(rows, lambda row: row.table):
        name = table.partition("[")[0]
        lines = [f"[{name}]" if table == name else f"[[{name}]]"]
        tables.append("\n".join(lines + [f"{row.line:{width}}  # {row.source}" for row in settings]))
    click.echo("\n\n".join(tables))


def _rows(settings: Settings, origins: Origins) -> Iterator[Row]:
    for name in SECTIONS:
        section = getattr(settings, name)
        if isinstance(section, tuple):
            for number, part in enumerate(section):
                yield from _rows_of(f"{name}[{number}]", part, name, origins)
        else:
            yield from _rows_of(name, section, name, origins)


def _rows_of(table: str, part: BaseModel, name: str, origins: Origins) -> Iterator[Row]:
    for key, value in part:
        plain: Any = value
        if isinstance(value, SecretStr):
            plain = "********" if value.get_secret_value() else ""
        elif isinstance(value, PurePath):
            plain = str(value)
        source = origins.get((name, key), "")
        if name == "watch" and key in part.model_fields_set:
            source = origins.get((name,), "") or source
        if not source and key == "dir" and os.environ.get("STATE_DIRECTORY"):
            source = "$STATE_DIRECTORY"
        yield Row(table, key, plain, source or "default")
