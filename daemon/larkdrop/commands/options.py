"""What several commands share: options, paths as people give them, and answers as people read them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from larkdrop.config.settings import Settings
from larkdrop.service import control
from larkdrop.service.texts import printable

config_option = click.option(
    "--config", "config_file", type=click.Path(dir_okay=False, path_type=Path),
    help="The config file; else the usual places.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def absolute(path: str) -> str:
    """A path as larkdrop knows it: links on the way, and to a folder, are followed; one to a file is not."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def ask(settings: Settings, question: str, paths: Sequence[Any] = ()) -> Any:
    """The running daemon's answer, or where none runs what the folders and the key cache tell. Raises NotAvailable."""
    answer = control.ask(settings.state.dir, question, paths)
    return control.answer(question, paths, settings, None) if answer is None else answer


def print_json(data: Any) -> None:
    """Print JSON, pure ASCII."""
    click.echo(json.dumps(data, indent=2))


def print_answers(answers: list[dict[str, Any]], *, as_json: bool, if_none: str) -> None:
    """Print what was answered about each path."""
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        click.echo(f"{printable(answer['path'])}: {answer['says']}" if answer["path"] else answer["says"])
        if answer["hint"]:
            click.echo(f"  → {answer['hint']}")
    if not answers:
        click.echo(if_none)
