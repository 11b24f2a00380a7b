"""``larkdrop config``, and the example file: every key with its default, its unit and why one would change it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import click
from pydantic import SecretStr

from larkdrop.commands.options import config_option, json_option, print_json
from larkdrop.config.load import Origins, load_with_origins
from larkdrop.config.settings import SECTIONS, Settings

# Characters of a line past which it does not widen the column of the sources.
WIDE = 60
# What everybody has to fill in, and what keys without a fixed default look like.
SAMPLES = {("lark", "app_id"): "cli_…", ("lark", "app_secret"): "…", ("watch", "path"): "inbox"}
UNSET = {
    ("watch", "move_to"): "done",
    ("state", "dir"): "state",
    ("log", "results"): "results.jsonl",
    ("fleet", "host"): "camera-7",
}


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
        print_json([{"key": f"{table}.{key}", "value": value, "from": source} for table, key, value, source in rows])
        return
    lines = [f"# {key} is not set" if value is None else f"{key} = {_as_toml(value)}" for _, key, value, _ in rows]
    width = max(len(line) for line in lines if len(line) < WIDE)
    before = ""
    for (table, _, _, source), line in zip(rows, lines, strict=True):
        if table != before:
            name, _, number = table.partition("[")
            click.echo(("\n" if before else "") + (f"[[{name}]]" if number else f"[{name}]"))
            before = table
        click.echo(f"{line:{width}}  # {source}")


def _rows(settings: Settings, origins: Origins) -> Iterator[tuple[str, str, Any, str]]:
    """Each setting: its table (``lark``, ``watch[0]``), key, value as JSON has it, and where it comes from."""
    parts = [(name, name, getattr(settings, name)) for name in SECTIONS if name != "watch"]
    parts[1:1] = [(f"watch[{number}]", "watch", watch) for number, watch in enumerate(settings.watch)]
    for table, name, part in parts:
        for key, value in part:
            plain: Any = str(value) if isinstance(value, PurePath) else value
            if isinstance(value, SecretStr):
                plain = "********" if value.get_secret_value() else ""
            source = origins.get((name, key), "")
            if name == "watch" and key in part.model_fields_set:
                source = origins.get((name,), "") or source
            if not source and key == "dir" and os.environ.get("STATE_DIRECTORY"):
                source = "$STATE_DIRECTORY"
            yield table, key, plain, source or "default"


def example() -> str:
    """The text of ``config.example.toml``."""
    lines = [
        "# larkdrop's configuration: every key with its default. Lines that begin with # are optional.",
        "# Any key can come from the environment instead: LARKDROP_LARK__APP_SECRET, LARKDROP_UPLOAD__WORKERS, …",
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"[[{name}]]" if name == "watch" else f"[{name}]"]
        for key, field in section.model_fields.items():
            place = (name, key)
            value = SAMPLES.get(place, UNSET.get(place, field.default))
            mark = "" if place in SAMPLES else "# "
            lines += [f"# {field.description}", f"{mark}{key} = {_as_toml(value)}"]
    return "\n".join(lines) + "\n"


def _as_toml(value: Any) -> str:
    """A value as TOML, which has text, numbers, truth and lists as JSON has them."""
    return json.dumps(value, ensure_ascii=False)
