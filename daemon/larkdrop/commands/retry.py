"""``larkdrop retry``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from larkdrop.commands.options import absolute, ask, config_option, json_option, tell
from larkdrop.config import load as config
from larkdrop.service import answers


@click.command(epilog="Example: larkdrop retry inbox/photo.jpg")
@config_option
@json_option
@click.argument("paths", nargs=-1, type=click.Path(readable=False))
def command(config_file: Path | None, paths: tuple[str, ...], *, as_json: bool) -> None:
    """Take rejected files again: those named, those in folders named, or all.

    What waits for its next try, and is named or lies in a folder named, is tried now. Where larkdrop is not running,
    they are taken when it starts.
    """
    settings = config.load(config_file, signs_in=False)
    wanted = [absolute(path) for path in paths]
    answered = ask(settings, "retry", paths=wanted)
    if answered is None:
        with answers.index_of(settings) as index:
            answered = [asdict(answer) for answer in answers.retry(wanted, settings, index, None)]
    tell(answered, as_json=as_json)
    if not answered and not as_json:
        click.echo("No file was rejected.")
    sys.exit(0 if all(answer["state"] in {"waiting", "uploaded", "done"} for answer in answered) else 1)
