"""``larkdrop explain``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from larkdrop.commands.options import absolute, ask, config_option, json_option, tell
from larkdrop.config import load as config
from larkdrop.service import answers


@click.command(epilog="Example: larkdrop explain inbox/photo.jpg")
@config_option
@json_option
@click.argument("paths", nargs=-1, type=click.Path(readable=False))
def command(config_file: Path | None, paths: tuple[str, ...], *, as_json: bool) -> None:
    """Say why each file is or isn't uploaded: done, waiting, held, rejected, ignored, and what to do.

    Of a folder, what is in it that needs attention; without PATHS, everything that needs attention.
    """
    settings = config.load(config_file, signs_in=False)
    wanted = [absolute(path) for path in paths]
    answered = ask(settings, "explain", paths=wanted)
    if answered is None:
        with answers.index_of(settings) as index:
            answered = [asdict(answer) for answer in answers.explain(wanted, settings, index, None)]
    tell(answered, as_json=as_json)
    if not answered and not as_json:
        click.echo("Nothing needs attention.")
