"""``larkdrop retry``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from larkdrop import answers, config
from larkdrop.commands.options import absolute, ask, config_option, json_option, tell


@click.command(epilog="Example: larkdrop retry inbox/photo.jpg")
@config_option
@json_option
@click.argument("paths", nargs=-1, type=click.Path())
def command(config_file: Path | None, paths: tuple[str, ...], *, as_json: bool) -> None:
    """Take rejected files again: those named, or all.

    A file named that waits for its next try is tried now. Without a running larkdrop, they are taken when it starts.
    """
    settings = config.load(config_file, signs_in=False)
    wanted = [absolute(path) for path in paths]
    answered = ask(settings, "retry", paths=wanted)
    if answered is None:
        with answers.index_of(settings) as index:
            wanted = wanted or [file.path for file in answers.rejected_of(index)]
        answered = [asdict(answers.retry(path, settings, None)) for path in wanted]
    tell(answered, as_json=as_json)
    if not answered and not as_json:
        click.echo("No file is rejected.")
    sys.exit(0 if all(answer["state"] in {"waiting", "uploaded"} for answer in answered) else 1)
