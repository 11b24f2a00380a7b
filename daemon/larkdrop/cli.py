"""The command line: which commands there are, and how errors reach a person."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from larkdrop import __version__
from larkdrop.errors import ConfigError, LarkdropError, StateInUse

EXIT_FAILED, EXIT_CONFIG, EXIT_IN_USE = 1, 78, 75

COMMANDS = {
    "run": "Watch the folders and upload what is dropped into them.",
    "check": "Tell whether everything is ready for uploads.",
    "demo": "See it work in a minute, without an account.",
    "sandbox": "Serve a local Lark for trying things out.",
    "config": "Print the example configuration.",
}


class Commands(click.Group):
    """Imports a command's module only when that command is used, so that --help answers at once."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"larkdrop.commands.{name}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: larkdrop demo",
)
@click.version_option(__version__, prog_name="larkdrop", message="%(prog)s %(version)s")
def larkdrop() -> None:
    """Drop an image into a folder; its Lark/Feishu image_key stands beside it."""


def main() -> NoReturn:
    """Run the command line. Every error is a sentence on standard error and an exit code."""
    try:
        larkdrop.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except LarkdropError as error:
        tell(error)
        sys.exit(exit_code(error))
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        click.echo(f"larkdrop: unexpected {type(error).__name__}: {error}.", err=True)
        click.echo(
            "larkdrop: this is a bug; please report it with what `python -X dev -m larkdrop …` prints.", err=True
        )
        sys.exit(EXIT_FAILED)
    sys.exit(0)


def tell(error: LarkdropError) -> None:
    """Say an error and its cure on standard error."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    sentence = f"larkdrop: {error}{':' if problems else '.'}"
    hint = f"larkdrop: {error.hint}" if error.hint else ""
    lines = [sentence, *(f"  {problem}" for problem in problems), hint]
    click.echo("\n".join(line for line in lines if line), err=True)


def exit_code(error: LarkdropError) -> int:
    """The contract's exit code for an error that ends the program."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_IN_USE if isinstance(error, StateInUse) else EXIT_FAILED
