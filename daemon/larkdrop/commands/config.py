"""``larkdrop config``."""

from __future__ import annotations

import json
from typing import Any

import click
from pydantic import SecretStr

from larkdrop import config

# What everybody has to fill in, and what keys without a fixed default look like.
SAMPLES = {("lark", "app_id"): "cli_…", ("lark", "app_secret"): "…", ("watch", "path"): "inbox"}
UNSET = {("watch", "move_to"): "done", ("state", "dir"): "state", ("log", "results"): "results.jsonl"}


@click.command(epilog="Example: larkdrop config --example > config.toml")
@click.option(
    "--example", "as_example", is_flag=True, required=True, help="Every key with its default and what it is for."
)
def command(*, as_example: bool) -> None:
    """Print the example configuration."""
    if as_example:
        click.echo(example(), nl=False)


def example() -> str:
    """The example file: every key with its default, its unit and why one would change it."""
    lines = [
        "# larkdrop's configuration: every key with its default. Lines that begin with # are optional.",
        "# Any key can come from the environment instead: LARKDROP_LARK__APP_SECRET, LARKDROP_UPLOAD__WORKERS, …",
    ]
    for name, section in config.SECTIONS.items():
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
