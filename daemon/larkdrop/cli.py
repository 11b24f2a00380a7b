"""The command line: which commands there are, and how errors reach a person."""

from __future__ import annotations

import gc
import importlib
import io
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

import click

from larkdrop import __version__
from larkdrop.errors import ConfigError, LarkdropError
from larkdrop.service.systemd import PRIORITIES, to_journal

COMMANDS = {
    "run": "Watch the folders and upload what is dropped into them.",
    "status": "Tell whether larkdrop is running and all is well: what is uploaded, what waits, and why.",
    "explain": "Say why a file is or isn't uploaded.",
    "keys": "Print the keys of uploaded images.",
    "retry": "Take rejected files again.",
    "gallery": "Make a page of all uploaded images, to look at and copy keys from.",
    "check": "Tell whether everything is ready for uploads.",
    "demo": "See it work in a minute, without an account.",
    "sandbox": "Serve a local Lark for trying things out.",
    "config": "Print the settings and where each comes from, or an example.",
    "completion": "Print a shell's completion script.",
}


class Commands(click.Group):
    """Imports a command's module only when that command is used, so that --help answers at once."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        with _imports_at_once():
            command: click.Command = importlib.import_module(f"larkdrop.commands.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0].lower(), COMMANDS, 1)
        if args[0] not in COMMANDS and near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@contextmanager
def _imports_at_once() -> Iterator[None]:
    """Import without what would take a quarter of a start: garbage collection, and structlog's import of rich.

    structlog loads rich wherever it is installed, for tracebacks that are never shown here.
    """
    gc.disable()
    if "structlog" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # which Python takes for: not installed
        importlib.import_module("structlog")
        del sys.modules["rich"]
    yield
    gc.freeze()  # what is there by now stays, and needs no looking at
    gc.enable()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: larkdrop demo",
)
@click.version_option(__version__, prog_name="larkdrop", message="%(prog)s %(version)s")
@click.option("--verbose", is_flag=True, help="Show the traceback of an unexpected error.")
def larkdrop(*, verbose: bool) -> None:
    """Drop an image into a folder; its Lark/Feishu image_key stands beside it."""


def main() -> NoReturn:
    """Run the command line. Every error is a sentence on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names that are not UTF-8 go out as they are
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
        sys.exit(error.exit_code)
    except Exception as error:
        if "--verbose" in sys.argv:
            raise
        _say(
            f"larkdrop: unexpected {type(error).__name__}: {error}.",
            f"larkdrop: this is a bug; please report it with what `{_verbose()}` prints.",
        )
        sys.exit(LarkdropError.exit_code)
    sys.exit(0)


def tell(error: LarkdropError) -> None:
    """Say an error and its cure on standard error."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    sentence = f"larkdrop: {error}{':' if problems else '.'}"
    hint = f"larkdrop: {error.hint}" if error.hint else ""
    lines = [sentence, *(f"  {problem}" for problem in problems), hint]
    _say(*filter(None, lines))


def _verbose() -> str:
    return shlex.join(["larkdrop", "--verbose", *sys.argv[1:]])


def _say(*lines: str) -> None:
    priority = PRIORITIES["error"] if to_journal() else ""
    click.echo("\n".join(priority + line for line in lines), err=True)
