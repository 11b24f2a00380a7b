"""``larkdrop explain``: prints what ``service/explain.py`` answers."""

from __future__ import annotations

from pathlib import Path

import click

from larkdrop.commands.options import absolute, ask, config_option, json_option, print_answers
from larkdrop.config.load import load


@click.command(epilog="Example: larkdrop explain inbox/photo.jpg")
@config_option
@json_option
@click.argument("paths", nargs=-1, type=click.Path(readable=False))
def command(config_file: Path | None, paths: tuple[str, ...], *, as_json: bool) -> None:
    """Say why each file is or isn't uploaded: done, waiting, held, rejected, ignored, and what to do.

    Of a folder, what is in it that needs attention; without PATHS, everything that needs attention.
    """
    answers = ask(load(config_file, signs_in=False), "explain", [absolute(path) for path in paths])
    print_answers(answers, as_json=as_json, if_none="Nothing needs attention.")
