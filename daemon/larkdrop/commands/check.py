"""``larkdrop check``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from larkdrop import config
from larkdrop.commands.options import config_option
from larkdrop.config import Settings
from larkdrop.errors import LarkdropError
from larkdrop.lark.client import Client


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``hint`` says what to do where it isn't ``ok``."""

    what: str
    ok: bool
    says: str
    hint: str = ""


@click.command(epilog="Example: larkdrop check --config config.toml")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config_file: Path | None, *, as_json: bool) -> None:
    """Tell whether everything is ready for uploads; exit 1 if something is not."""
    settings = config.load(config_file)
    findings = list(look(settings))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{'✓' if finding.ok else '✗'} {finding.what}: {finding.says}")
            if finding.hint:
                click.echo(f"  → {finding.hint}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def look(settings: Settings) -> Iterator[Finding]:
    """Look at everything an upload needs, one after the other."""
    for watch in settings.watch:
        yield _folder(f"folder {watch.path}", watch.path, os.R_OK | os.W_OK | os.X_OK)
    yield _folder(f"state {settings.state.dir}", settings.state.dir, os.W_OK | os.X_OK)
    if settings.lark.tenant_access_token.get_secret_value():
        yield Finding("sign-in", ok=True, says="a fixed tenant_access_token is set; only an upload can try it")
        return
    try:
        Client(settings.lark).sign_in()
    except LarkdropError as fault:
        yield Finding("sign-in", ok=False, says=str(fault), hint=fault.hint or "Look at the network and base_url.")
    else:
        yield Finding("sign-in", ok=True, says=f"{settings.lark.base_url} accepts {settings.lark.app_id}")


def _folder(what: str, path: Path, access: int) -> Finding:
    there = path
    while not there.exists():
        there = there.parent
    if os.access(there, access):
        return Finding(what, ok=True, says="can be used" if there == path else "will be made at the first start")
    return Finding(what, ok=False, says="can't be used", hint=f"Let this user read and write {there}.")
