"""``larkdrop check``, also as a systemd unit would run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from larkdrop.commands.options import config_option, json_option, print_json
from larkdrop.config.load import find, load
from larkdrop.errors import ConfigError, NotAvailable
from larkdrop.service.checks import Finding, check_everything
from larkdrop.service.texts import printable

# Added to the unit: it runs once, nobody waits for its notifications, and its output goes into files.
OVERLAY = """
[Service]
Type=oneshot
RemainAfterExit=yes
Restart=no
WatchdogSec=0
ExecStart=
ExecStart={command}
ExecStartPost=
ExecStop=
ExecStopPost=
StandardOutput=truncate:{folder}/output
StandardError=truncate:{folder}/errors
"""


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
    code, output, errors = _run_as_service(unit, f"check --json{' --upload' * try_upload}", user=user)
    try:
        findings = [Finding(**finding) for finding in json.loads(output)]
    except ValueError:
        hint = f"See its lines: journalctl{' --user' if user else ''} -n 20 -u 'larkdrop-check-*'"
        findings = [Finding(unit, ok=False, says=errors, hint=hint)]
    if _print(findings, as_json=as_json):
        return 0
    return code if code in {1, 78} else 1


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


def _run_as_service(unit: str, words: str, *, user: bool) -> tuple[int, str, str]:
    """Run ``larkdrop WORDS`` as a systemd unit would: its user, its sandbox, its credentials and its environment.

    Returns the exit code, the output, and what went wrong, in a line. Raises NotAvailable where that can't be.
    """
    unit = unit if unit.endswith(".service") else f"{unit}.service"
    if not shutil.which("systemctl") or not os.path.isdir("/run/systemd/system"):
        hint = "Leave --service out: larkdrop check then checks as this user."
        raise NotAvailable("systemd is not running here", hint=hint)
    if not user and os.geteuid() != 0:
        raise NotAvailable(f"only root can check as {unit}", hint="Use sudo; for a unit of your own, add --user.")
    shown = _systemctl("cat", unit, user=user)
    if shown.returncode:
        hint = "After a change of its files: systemctl daemon-reload."
        raise NotAvailable(f"{unit} can't be read: {shown.stderr.strip()}", hint=hint)
    text = shown.stdout.replace("\\\n", " ")
    *_, started = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE) or [""]
    command = re.sub(r"(\S*larkdrop) run(?=\s|$)(?: --(?:once|quiet|verbose))*", f"\\1 {words}", started)
    if command == started:
        raise NotAvailable(f"{unit} does not run `larkdrop run`", hint="Name larkdrop's own unit.")
    with _overlaid(unit, text, command, user=user) as (whole, folder):
        _systemctl("start", whole, user=user)
        shown = _systemctl("show", "-p", "ExecMainStatus", "-p", "Result", whole, user=user)
        ended = dict(line.split("=", 1) for line in shown.stdout.splitlines())
        output, errors = (_text(folder / part) for part in ("output", "errors"))
    code = ended["ExecMainStatus"]
    wrong = " ".join(errors.split()) or f"systemd could not start it ({ended['Result']}, status {code})"
    return int(code), output, wrong


@contextmanager
def _overlaid(unit: str, text: str, command: str, *, user: bool) -> Iterator[tuple[str, Path]]:
    """A unit beside the others, stopped and removed at the end: its name, and a folder for what it says."""
    _, at, instance = unit.removesuffix(".service").partition("@")
    run = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) if user else Path("/run")
    name = f"larkdrop-check-{os.getpid()}"
    whole = f"{name}{at}{instance}.service"
    folder, file = run / name, run / "systemd" / ("user" if user else "system") / f"{name}{at}.service"
    try:
        folder.mkdir(mode=0o700)
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + OVERLAY.format(command=command, folder=folder), encoding="utf-8")
        yield whole, folder
    finally:
        try:
            _systemctl("stop", whole, user=user)
            _systemctl("reset-failed", whole, user=user)
        finally:
            file.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def _systemctl(*words: str, user: bool) -> subprocess.CompletedProcess[str]:
    words = ("systemctl", "--user", *words) if user else ("systemctl", *words)
    return subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
