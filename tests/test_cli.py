"""The command line, as a newcomer meets it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop import __version__
from larkdrop.cli import COMMANDS
from larkdrop.sandbox import Sandbox
from tests.helpers import Daemon


def larkdrop(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    argv = [sys.executable, "-m", "larkdrop", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_the_demo_shows_the_whole_way() -> None:
    """Every key as it comes, the rejection, where everything is, and what to do next."""
    ended = larkdrop("demo")
    assert ended.returncode == 0, ended.stderr
    home = re.search(r"watches (\S+)/inbox", ended.stdout)
    assert home
    try:
        assert len(re.findall(r"✓ .*\(uploaded\)", ended.stdout)) == 7
        assert len(re.findall(r"✓ .*\(reused\)", ended.stdout)) == 1
        assert "not-a-picture.png    rejected: this is not a supported image format" in ended.stdout
        assert "local sandbox" in ended.stdout
        assert "results.jsonl" in ended.stdout
        assert '"image_key": "' in ended.stdout
        assert "larkdrop check, then larkdrop run" in ended.stdout
        assert len(list(Path(home[1], "inbox").glob("*.lark.json"))) == 9
    finally:
        shutil.rmtree(home[1])


def test_version_and_help() -> None:
    """--version says the version; --help names every command."""
    assert larkdrop("--version").stdout == f"larkdrop {__version__}\n"
    said = larkdrop("--help").stdout
    assert all(f"  {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example(name: str) -> None:
    """Each help text ends with a line to copy."""
    assert f"Example: larkdrop {name}" in larkdrop(name, "--help").stdout


@pytest.mark.parametrize("words", [("frobnicate",), ("run", "--frobnicate"), ("sandbox", "--port", "x")])
def test_wrong_usage_exits_2(words: tuple[str, ...]) -> None:
    """Usage errors are exit code 2 and name the word."""
    ended = larkdrop(*words)
    assert ended.returncode == 2
    assert words[-1] in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_config_at_all(tmp_path: Path) -> None:
    """The first thing a newcomer does wrong: it says where it looked."""
    ended = larkdrop("run", cwd=tmp_path)
    assert ended.returncode == 78
    assert f"no config file was found; looked at {tmp_path}/config.toml" in ended.stderr


def test_check_is_well(make_daemon: Callable[..., Daemon]) -> None:
    """Everything ready: exit 0, a line each."""
    daemon = make_daemon()
    ended = subprocess.run(daemon.command("check"), capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0
    assert "✗" not in ended.stdout
    for what in ("config", "folder", "state", "result log", "reachability", "clock", "sign-in", "permission"):
        assert f"✓ {what}" in ended.stdout


def test_check_names_wrong_credentials(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Wrong credentials: exit 1, the code, and what to do; never the secret."""
    lark.app_secret = "changed meanwhile"
    ended = subprocess.run(make_daemon().command("check"), capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "code 10014" in ended.stdout
    assert "Credentials page" in ended.stdout
    assert "sandbox-secret" not in ended.stdout + ended.stderr
