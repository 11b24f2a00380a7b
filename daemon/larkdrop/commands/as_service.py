"""Runs a command as a systemd unit would: as its user, in its sandbox, with its credentials and environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from larkdrop.errors import NotAvailable

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


@dataclass(frozen=True)
class Ended:
    """How the command ended; ``why`` in systemd's words."""

    exit_code: int
    output: str
    errors: str
    why: str


def run(unit: str, words: tuple[str, ...], *, user: bool) -> Ended:
    """Run ``larkdrop WORDS`` in place of the ``larkdrop run`` of a unit. Raises NotAvailable where that can't be."""
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
    command = re.sub(r"(\S*larkdrop) run(?=\s|$)(?: --(?:once|quiet|verbose))*", f"\\1 {' '.join(words)}", started)
    if command == started:
        raise NotAvailable(f"{unit} does not run `larkdrop run`", hint="Name larkdrop's own unit.")
    _, _, instance = unit.removesuffix(".service").partition("@")
    with _overlaid(text, command, template="@" in unit, user=user) as (name, folder):
        whole = f"{name}@{instance}.service" if "@" in unit else f"{name}.service"
        try:
            _systemctl("start", whole, user=user)
            shown = _systemctl("show", "-p", "ExecMainStatus", "-p", "Result", whole, user=user)
            ended = dict(line.split("=", 1) for line in shown.stdout.splitlines())
            output, errors = (_text(folder / part) for part in ("output", "errors"))
        finally:
            _systemctl("stop", whole, user=user)
            _systemctl("reset-failed", whole, user=user)
    return Ended(int(ended["ExecMainStatus"]), output, errors, f"{ended['Result']}, status {ended['ExecMainStatus']}")


@contextmanager
def _overlaid(text: str, command: str, *, template: bool, user: bool) -> Iterator[tuple[str, Path]]:
    """A unit file beside the others until this ends: its name without the ending, and a folder for what it says."""
    run = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) if user else Path("/run")
    name = f"larkdrop-check-{os.getpid()}"
    folder, file = run / name, run / "systemd" / ("user" if user else "system") / f"{name}{'@' * template}.service"
    try:
        folder.mkdir(mode=0o700)
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + OVERLAY.format(command=command, folder=folder), encoding="utf-8")
        yield name, folder
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _systemctl(*words: str, user: bool) -> subprocess.CompletedProcess[str]:
    manager = ["--user"] if user else []
    return subprocess.run(["systemctl", *manager, *words], capture_output=True, text=True, check=False)  # noqa: S603, S607


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
