"""Run a command against a daemon's state, and read what it prints."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

from tests.helpers import Daemon, sidecar_of


def say(daemon: Daemon, *words: str, code: int | None = 0, cwd: Path | None = None) -> str:
    """What a command prints; it ends with ``code``, and never with a traceback."""
    done = subprocess.run(daemon.command(*words), capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert "Traceback" not in done.stderr
    assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def ask(daemon: Daemon, *words: str, code: int | None = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads(say(daemon, *words, "--json", code=code))


def explained(daemon: Daemon, path: Path) -> dict[str, Any]:
    """What ``explain`` says of one path."""
    (answer,) = ask(daemon, "explain", str(path))
    return dict(answer)


def on_terminal(*words: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    keeper, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    seen = b""
    while True:
        try:
            piece = os.read(keeper, 65_536)
        except OSError:  # the other side is closed
            break
        seen += piece
    os.close(keeper)
    process.wait()
    return seen.decode()


def key(path: Path) -> str:
    """The key that stands beside a picture."""
    record = sidecar_of(path)
    assert record
    return str(record["image_key"])
