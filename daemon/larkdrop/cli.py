"""The command line: which commands there are, and how errors reach a person."""

from __future__ import annotations

import gc
import importlib
import io
import shlex
import sys

import click

from larkdrop import __version__
from larkdrop.errors import ConfigError, LarkdropError, NotAvailable
from larkdrop.service.systemd import PRIORITIES, to_journal

COMMANDS = {
    "run": "Watch the folders and upload what is dropped into them.",
    "status": "Show whether larkdrop is running and all is well: what is uploaded, what waits, and why.",
    "explain": "Say why a file is or isn't uploaded.",
    "keys": "Print the keys of uploaded images.",
    "retry": "Try rejected files again.",
    "gallery": "Make a page of all uploaded images, to browse and copy keys from.",
    "check": "Check that everything is ready for uploads.",
    "demo": "See it work in a minute, without an account.",
    "sandbox": "Serve a local Lark for trying things out.",
    "config": "Print the settings and where each comes from, or an example.",
    "completion": "Print a shell's completion script.",
}


class Commands(click.Group):
    """Imports a command's module only when that command is used, so that --help answers at once."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known, rest = super().resolve_command(ctx, args)
        if known is None:
            return name, None, rest
        # What modules make stays until the end: to search it for garbage would be an eighth of a start.
        gc.disable()
        command: click.Command = importlib.import_module(f"larkdrop.commands.{name}").command
        gc.freeze()
        gc.enable()
        return name, command, rest


@click.group(
    cls=Commands,
    commands={name: click.Command(name, short_help=text) for name, text in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: larkdrop demo",
)
@click.version_option(__version__, prog_name="larkdrop", message="%(prog)s %(version)s")
@click.option("--verbose", is_flag=True, help="Show the traceback of an unexpected error.")
def larkdrop(*, verbose: bool) -> None:
    """Drop an image into a folder; its Lark/Feishu image_key stands beside it."""


def main() -> None:
    """Run the command line. Every error is a sentence on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names that are not UTF-8 go out as they are
    try:
        larkdrop.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except LarkdropError as error:
        _print_fault(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, FileNotFoundError) and error.filename is None:  # as os.getcwd() raises it
            _print_error("larkdrop: the working folder is gone; change to another one.")
            sys.exit(LarkdropError.exit_code)
        if isinstance(error, ModuleNotFoundError) and error.name == "aiohttp":
            hint = "Install it, in a checkout: pip install '.[sandbox]'."
            _print_fault(NotAvailable("the sandbox needs aiohttp", hint=hint))
            sys.exit(LarkdropError.exit_code)
        if "--verbose" in sys.argv:
            raise
        again = shlex.join(["larkdrop", "--verbose", *sys.argv[1:]])
        _print_error(
            f"larkdrop: unexpected {type(error).__name__}: {error}.",
            f"larkdrop: this is a bug; please report it with what `{again}` prints.",
        )
        sys.exit(LarkdropError.exit_code)


def _print_fault(error: LarkdropError) -> None:
    """Print an error and its cure on standard error."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    lines = [f"larkdrop: {error}{':' if problems else '.'}", *(f"  {problem}" for problem in problems)]
    if error.hint:
        lines.append(f"larkdrop: {error.hint}")
    _print_error(*lines)


def _print_error(*lines: str) -> None:
    priority = PRIORITIES["error"] if to_journal() else ""
    click.echo("\n".join(priority + line for line in lines), err=True)
