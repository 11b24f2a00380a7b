"""``larkdrop config``."""

from __future__ import annotations

import click

from larkdrop.config import example


@click.command(epilog="Example: larkdrop config --example > config.toml")
@click.option(
    "--example", "as_example", is_flag=True, required=True, help="Every key with its default and what it is for."
)
def command(*, as_example: bool) -> None:
    """Print the example configuration."""
    if as_example:
        click.echo(example(), nl=False)
