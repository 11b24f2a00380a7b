"""``larkdrop run``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from larkdrop import config, logs
from larkdrop.commands.options import config_option
from larkdrop.service import Service


@click.command(epilog="Example: larkdrop run --config config.toml")
@config_option
@click.option("--once", is_flag=True, help="Upload what is there now, and exit: 1 if a file was rejected.")
def command(config_file: Path | None, *, once: bool) -> None:
    """Watch the folders and upload what is dropped into them."""
    settings = config.load(config_file)
    logs.set_up(settings.log.level, settings.log.format)
    sys.exit(Service(settings).run(once=once))
