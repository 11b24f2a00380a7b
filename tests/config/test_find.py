"""The config file is found in the usual places, another program's is passed over, and errors say which was read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.config.load import load
from tests.config.conftest import GOOD, problems


def test_the_file_is_found_in_the_usual_places(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--config, $LARKDROP_CONFIG, ./config.toml, $XDG_CONFIG_HOME/larkdrop/config.toml."""
    file = write(GOOD)
    monkeypatch.chdir("/")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert "no config file was found" in problems(None)  # type: ignore[arg-type]  # none is named
    (tmp_path / "xdg" / "larkdrop").mkdir(parents=True)
    (tmp_path / "xdg" / "larkdrop" / "config.toml").write_text(GOOD.replace("inbox", "../../inbox"))
    assert load(None).watch[0].path == tmp_path / "inbox"
    monkeypatch.chdir(tmp_path)
    file.write_text(GOOD.replace("cli_x", "cli_here"))
    assert load(None).lark.app_id == "cli_here"
    monkeypatch.setenv("LARKDROP_CONFIG", str(tmp_path / "named.toml"))
    assert "named.toml can't be read" in problems(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", '[package]\nname = "x"\n', '[log]\nlevel = "info"\n[server]\nport = 1\n'])
def test_the_config_of_another_program_is_not_ours(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A ./config.toml without any of larkdrop's tables is passed over, and where none is left, said to be."""
    file = write(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert f"{file} is another program's" in problems(None)  # type: ignore[arg-type]  # none is named
    (tmp_path / "xdg" / "larkdrop").mkdir(parents=True)
    (tmp_path / "xdg" / "larkdrop" / "config.toml").write_text(GOOD.replace("inbox", "../../inbox"))
    assert load(None).lark.app_id == "cli_x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(GOOD + "[uplaod]", "has 1 problem"), (GOOD + "[lark", "is not TOML"), ("[upload]\nworkers = 0", "problems")],
)
def test_every_error_says_which_file_was_read(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    """By its whole path, also where it was found in the working directory; check says so too."""
    file = write(text)
    monkeypatch.chdir(tmp_path)
    for command in ("run", "check", "status"):
        words = [sys.executable, "-m", "larkdrop", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        said = done.stdout + done.stderr
        assert str(file) in said
        assert expected in said


def test_an_absolute_path_is_read_from_a_folder_that_is_gone(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a shell that stands in a folder that was removed."""
    file = write(GOOD)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load(file).watch[0].path == tmp_path / "inbox"
