"""``larkdrop check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from larkdrop.commands import as_service
from larkdrop.commands.options import config_option, json_option, print_json
from larkdrop.config.load import find, load
from larkdrop.errors import ConfigError
from larkdrop.service.checks import Finding, check_everything
from larkdrop.service.texts import printable


@click.command(epilog="Example: larkdrop check --config config.toml")
@config_option
@json_option
@click.option("--upload", "try_upload", is_flag=True, help="Also upload a picture of one pixel: a call of the quota.")
@click.option(
    "--service", metavar="UNIT", help="Check as this systemd unit: as its user, with its sandbox, credentials."
)
@click.option("--user", is_flag=True, help="The unit is one of your own (systemctl --user).")
def command(config_file: Path | None, *, as_json: bool, try_upload: bool, service: str | None, user: bool) -> None:
    """Check that everything is ready for uploads; exit 1 if something is not."""
    if service:
        if config_file:
            raise click.UsageError("--service takes the config that the unit names; leave --config out.")
        sys.exit(_check_as_service(service, user=user, as_json=as_json, try_upload=try_upload))
    try:
        settings = load(config_file)
    except ConfigError as error:
        *others, last = (error.message, *error.problems)
        problems = [Finding("config", ok=False, says=problem) for problem in others]
        _print([*problems, Finding("config", ok=False, says=last, hint=error.hint)], as_json=as_json)
        sys.exit(error.exit_code)
    config = Finding("config", ok=True, says=str(find(config_file) or "the environment only"))
    all_ok = _print(chain([config], check_everything(settings, try_upload=try_upload)), as_json=as_json)
    sys.exit(0 if all_ok else 1)


def _check_as_service(unit: str, *, user: bool, as_json: bool, try_upload: bool) -> int:
    """Run ``larkdrop check`` in place of the unit's ``larkdrop run``. Returns the exit code."""
    ended = as_service.run(unit, ("check", "--json", *(["--upload"] if try_upload else [])), user=user)
    try:
        findings = [Finding(**finding) for finding in json.loads(ended.output)]
    except ValueError:
        says = " ".join(ended.errors.split()) or f"systemd could not start it ({ended.why})"
        hint = f"See its lines: journalctl{' --user' if user else ''} -n 20 -u 'larkdrop-check-*'"
        findings = [Finding(unit, ok=False, says=says, hint=hint)]
    if _print(findings, as_json=as_json):
        return 0
    return ended.exit_code if ended.exit_code in {1, 78} else 1


def _print(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Print findings as they come; whether all are ok."""
    printed = []
    for finding in findings:
        printed.append(finding)
        if not as_json:
            mark = click.style("✓", fg="green") if finding.ok else click.style("✗", fg="red")
            click.echo(f"{mark} {finding.what}: {printable(finding.says)}")
            if finding.hint:
                click.echo(f"  → {finding.hint}")
    if as_json:
        print_json([asdict(finding) for finding in printed])
    return all(finding.ok for finding in printed)
