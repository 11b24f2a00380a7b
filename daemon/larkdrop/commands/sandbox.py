"""``larkdrop sandbox``."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from typing import Any, get_args

import click

from larkdrop.sandbox.faults import Faults
from larkdrop.sandbox.platform import APP_ID, APP_IDS, APP_SECRET, Edition
from larkdrop.sandbox.server import Sandbox


def _fault_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(fields(Faults)):
        flag = isinstance(option.default, bool)
        command = click.option(
            f"--{option.name.replace('_', '-')}", option.name, default=option.default, is_flag=flag,
            show_default=not flag, help=option.metadata["help"].capitalize() + ".",
        )(command)  # fmt: skip
    return command


@click.command(epilog="Example: larkdrop sandbox --port 8765 --server-error 0.2")
@click.option("--port", default=8765, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option(
    "--edition", type=click.Choice(get_args(Edition)), default="lark", show_default=True,
    help="Which platform: Feishu takes HEIC, Lark does not.",
)  # fmt: skip
@click.option("--app-id", default=APP_ID, show_default=True, help="The app_id that is known.")
@click.option("--app-secret", default=APP_SECRET, show_default=True, help="Its app_secret.")
@click.option("--seed", default=0, show_default=True, help="For the faults' dice, so that a run repeats.")
@_fault_options
def command(port: int, edition: Edition, app_id: str, app_secret: str, seed: int, **faults: Any) -> None:
    """Serve a local Lark on 127.0.0.1: tokens, uploads and downloads, with the platform's checks, limits and faults.

    While it runs, GET /sandbox tells what came, POST /sandbox/faults changes the faults by name (JSON), and POST
    /sandbox/revoke kills every token.
    """
    if not APP_IDS.fullmatch(app_id):
        raise click.BadParameter("must look like cli_a1b2c3.", param_hint="--app-id")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sandbox = Sandbox(port, edition=edition, app_id=app_id, app_secret=app_secret, seed=seed)
    try:
        sandbox.faults.set(faults)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    with ExitStack() as stack:
        try:
            stack.enter_context(sandbox)
        except OSError as error:
            message = f"port {port} can't be used ({error.strerror}); choose another with --port."
            raise click.ClickException(message) from error
        click.echo(f"A local Lark serves {sandbox.url} (this is a sandbox: its keys mean nothing to the real one).")
        click.echo(f'[lark]\nbase_url = "{sandbox.url}"\napp_id = "{app_id}"\napp_secret = "{app_secret}"')
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
