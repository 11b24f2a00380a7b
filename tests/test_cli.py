"""The command line, as a newcomer meets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop import __version__
from larkdrop.cli import COMMANDS
from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture


def larkdrop(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    argv = [sys.executable, "-m", "larkdrop", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def demo(*program: str, temp: Path, **variables: str) -> tuple[str, Path]:
    """What a demo prints, and its folder, which lies in ``temp``."""
    environment = {**os.environ, "TMPDIR": str(temp), **variables}
    ended = subprocess.run([*program, "demo"], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    home = re.search(r"watches (\S+)/inbox", ended.stdout)
    assert home
    return ended.stdout, Path(home[1])


def test_the_demo_shows_the_whole_way(tmp_path: Path) -> None:
    """Every key as it comes, the rejection, where everything is, and what to do next."""
    said, home = demo(sys.executable, "-m", "larkdrop", temp=tmp_path)
    assert len(re.findall(r"✓ .*\(uploaded\)", said)) == 7
    assert len(re.findall(r"✓ .*\(reused\)", said)) == 1
    assert "not-a-picture.png    rejected: this is not a supported image format" in said
    assert "local sandbox" in said
    assert "results.jsonl" in said
    assert '"image_key": "' in said
    assert f"{sys.executable} -m larkdrop check, then" in said
    assert len(list((home / "inbox").glob("*.lark.json"))) == 9


def test_a_demo_touches_nothing_of_a_larkdrop_of_ones_own(tmp_path: Path) -> None:
    """Whose settings stand in the environment: neither its folders nor its Lark."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "mine.png").write_bytes(picture())
    watch = json.dumps([{"path": str(inbox), "after_upload": "delete"}])
    lark = {"LARKDROP_LARK__BASE_URL": "http://127.0.0.1:9", "LARKDROP_LARK__APP_SECRET": "mine"}
    mine = {"LARKDROP_WATCH": watch, "HTTP_PROXY": "http://127.0.0.1:9", **lark}
    said, _ = demo(sys.executable, "-m", "larkdrop", temp=tmp_path, **mine)
    assert len(re.findall(r"✓ .*\(uploaded\)", said)) == 7
    assert os.listdir(inbox) == ["mine.png"]


def test_the_demo_ends_with_commands_that_work_as_typed(tmp_path: Path) -> None:
    """However it was started: by a path as in the README, or by name from PATH."""
    program = str(Path(sys.executable).parent / "larkdrop")
    said, _ = demo(program, temp=tmp_path)
    for line in ("status --config", "config --example >"):
        (typed,) = re.findall(rf"(\S*larkdrop {line} [^\s,]+)", said)
        assert typed.split()[0] in {program, "larkdrop"}
        ended = subprocess.run(typed, shell=True, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert "not found" not in ended.stderr
        assert ended.returncode in {0, 1}, ended.stderr
    assert (tmp_path / "config.toml").read_text().startswith("#")


def test_a_demo_removes_what_an_earlier_one_left(tmp_path: Path) -> None:
    """It says so, and touches no folder without its mark, also behind a link."""
    other, linked = tmp_path / "larkdrop-demo-mine", tmp_path / "elsewhere"
    for folder in (other, linked):
        folder.mkdir()
        (folder / "precious").touch()
    (tmp_path / "larkdrop-demo-link").symlink_to(linked)
    first_said, first = demo(sys.executable, "-m", "larkdrop", temp=tmp_path)
    assert "next demo removes this folder" in first_said
    (linked / next(first.glob(".made-by-*")).name).touch()
    second_said, second = demo(sys.executable, "-m", "larkdrop", temp=tmp_path)
    assert f"Removed {first}" in second_said
    assert not first.exists()
    assert second.exists()
    assert (other / "precious").exists()
    assert (linked / "precious").exists()


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
    assert f"no config file was found; searched {tmp_path}/config.toml" in ended.stderr


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
