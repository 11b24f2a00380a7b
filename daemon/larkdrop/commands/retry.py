"""``larkdrop retry``: prints what ``service/retry.py`` does."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from larkdrop.commands.options import absolute, ask, config_option, json_option, print_answers
from larkdrop.config.load import load


@click.command(epilog="Example: larkdrop retry inbox/photo.jpg")
@config_option
@json_option
@click.argument("paths", nargs=-1, type=click.Path(readable=False))
def command(config_file: Path | None, paths: tuple[str, ...], *, as_json: bool) -> None:
    """Try rejected files again: those named, those in folders named, or all.

    What waits for its next try, and is named or lies in a folder named, is tried now. Where larkdrop is not running,
    they are tried when it starts.
    """
    answers = ask(load(config_file, signs_in=False), "retry", [absolute(path) for path in paths])
    print_answers(answers, as_json=as_json, if_none="No file was rejected.")
    sys.exit(0 if all(answer["state"] in {"waiting", "uploaded", "done"} for answer in answers) else 1)
