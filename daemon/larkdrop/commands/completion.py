"""``larkdrop completion``."""

from __future__ import annotations

import click
from click.shell_completion import shell_complete


@click.command(epilog="Example: larkdrop completion fish > ~/.config/fish/completions/larkdrop.fish")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes larkdrop's commands and options in a shell.

    Put it where the shell looks for it, or into its start-up file: eval "$(larkdrop completion bash)"
    """
    shell_complete(context.find_root().command, {}, "larkdrop", "_LARKDROP_COMPLETE", f"{shell}_source")
