"""What several commands share: options, paths as people give them, and the daemon's answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from larkdrop.config.settings import Settings
from larkdrop.service import control

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The config file; else the usual places.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def absolute(path: str) -> str:
    """A path as larkdrop knows it: links on the way, and to a folder, are followed; one to a file is not."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def ask(settings: Settings, about: str, **more: Any) -> Any:
    """The running daemon's answer, or None where none runs. Raises NotAvailable."""
    return control.ask(settings.state.dir, {"ask": about, **more})


def print_json(made: Any) -> None:
    """Print JSON, pure ASCII."""
    click.echo(json.dumps(made, indent=2))


def tell(answers: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print what was answered about each path."""
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        click.echo(f"{shown(answer['path'])}: {answer['says']}" if answer["path"] else answer["says"])
        if answer["hint"]:
            click.echo(f"  → {answer['hint']}")


def shown(path: str) -> str:
    """A name that can't garble a terminal."""
    return path if path.isprintable() else repr(path)[1:-1]
