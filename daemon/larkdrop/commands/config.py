"""``larkdrop config``."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePath
from typing import Any

import click
from pydantic import BaseModel, SecretStr

from larkdrop.commands.options import config_option, json_option, print_json
from larkdrop.config import load as config
from larkdrop.config.settings import SECTIONS

# What everybody has to fill in, and what keys without a fixed default look like.
SAMPLES = {("lark", "app_id"): "cli_…", ("lark", "app_secret"): "…", ("watch", "path"): "inbox"}
UNSET = {("watch", "move_to"): "done", ("state", "dir"): "state", ("log", "results"): "results.jsonl"}


@click.command(epilog="Example: larkdrop config --example > config.toml")
@config_option
@json_option
@click.option("--example", "as_example", is_flag=True, help="Print an example: every key, its default, what it is for.")
def command(config_file: Path | None, *, as_json: bool, as_example: bool) -> None:
    """Print the settings in effect and where each comes from; secrets are masked."""
    if as_example:
        click.echo(example(), nl=False)
        return
    settings, origins = config.load_with_origins(config_file, signs_in=False)
    rows = []
    for name in SECTIONS:
        section: Any = getattr(settings, name)
        for place, part in enumerate(section) if isinstance(section, tuple) else [(None, section)]:
            rows += [(name, place, key, *row) for key, row in _rows(part, name, origins).items()]
    if as_json:
        print_json([
            {"key": f"{name}.{key}" if place is None else f"{name}[{place}].{key}", "value": value, "from": source}
            for name, place, key, value, source in rows
        ])  # fmt: skip
        return
    before: tuple[str, int | None] | None = None
    width = max(len(f"{key} = {_as_toml(value)}") for _, _, key, value, _ in rows if len(_as_toml(value)) < 60)
    for name, place, key, value, source in rows:
        if (name, place) != before:
            click.echo(("\n" if before else "") + (f"[{name}]" if place is None else f"[[{name}]]"))
            before = (name, place)
        line = f"{key} = {_as_toml(value)}" if value is not None else f"# {key} is not set"
        click.echo(f"{line:{width}}  # {source}")


def _rows(part: BaseModel, name: str, origins: dict[tuple[str, ...], str]) -> dict[str, tuple[Any, str]]:
    """Each key of a section with its value, as JSON has it, and its source."""
    rows: dict[str, tuple[Any, str]] = {}
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
        rows[key] = (plain, source or "default")
    return rows


def example() -> str:
    """The example file: every key with its default, its unit and why one would change it."""
    lines = [
        "# larkdrop's configuration: every key with its default. Lines that begin with # are optional.",
        "# Any key can come from the environment instead: LARKDROP_LARK__APP_SECRET, LARKDROP_UPLOAD__WORKERS, …",
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"[[{name}]]" if name == "watch" else f"[{name}]"]
        for key, field in section.model_fields.items():
            needed = SAMPLES.get((name, key))
            default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
            unset = field.default_factory is not None or default is None
            value = needed if needed is not None else UNSET.get((name, key)) if unset else default
            lines += [f"# {field.description}", f"{'' if needed is not None else '# '}{key} = {_as_toml(value)}"]
    return "\n".join(lines) + "\n"


def _as_toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
