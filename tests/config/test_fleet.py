"""The database's URL: where it comes from, what is wrong with it, and that nobody repeats its password."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from larkdrop.config.load import load
from larkdrop.errors import ConfigError
from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon

URL = "postgresql://larkdrop:hush-hush@db.example/larkdrop?sslmode=verify-full"


def config(tmp_path: Path, url: str = "", **fleet: str) -> Path:
    """A config with a URL, or none."""
    (tmp_path / "inbox").mkdir(exist_ok=True)
    lines = ['[lark]\napp_id = "cli_a"\napp_secret = "s"', '[[watch]]\npath = "inbox"', "[fleet]"]
    lines += [f'{key} = "{value}"' for key, value in {"url": url, **fleet}.items() if value]
    file = tmp_path / "config.toml"
    file.write_text("\n".join(lines))
    return file


def test_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, else a systemd credential, else the file."""
    file = config(tmp_path, "postgresql://file/x")
    assert load(file).fleet.url.get_secret_value() == "postgresql://file/x"
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/fleet_url").write_text("postgresql://credential/x\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert load(file).fleet.url.get_secret_value() == "postgresql://credential/x"
    monkeypatch.setenv("LARKDROP_FLEET__URL", "postgresql://environment/x")
    assert load(file).fleet.url.get_secret_value() == "postgresql://environment/x"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://larkdrop:hush-hush@db.example/x", "must be a URL such as postgresql://"),
        ("postgresql://larkdrop:hush-hush@db.example:port/x", "is not a URL"),
        ("postgresql://larkdrop:hush hush@db.example/x", "must have special characters"),
        ("postgresql://larkdrop:hush%hush@db.example/x", "must have special characters"),
        ("postgresql://larkdrop:hush@hush@db.example/x", "must have special characters"),
        ("postgresql://larkdrop:hush/hush@db.example/x", "is not a URL"),
    ],
)
def test_a_wrong_url_is_not_repeated(tmp_path: Path, url: str, why: str) -> None:
    """What would be right is said; the URL may hold a password."""
    with pytest.raises(ConfigError) as caught:
        load(config(tmp_path, url))
    (problem,) = caught.value.problems
    assert problem.startswith(f"fleet.url: {why}")
    assert "hush" not in problem


def test_a_host_has_a_plain_name(tmp_path: Path) -> None:
    """It stands in tables and logs."""
    with pytest.raises(ConfigError) as caught:
        load(config(tmp_path, URL, host="camera 7"))
    (problem,) = caught.value.problems
    assert problem.startswith("fleet.host = 'camera 7': must be a name of letters, digits, dots and hyphens")


def test_the_driver_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("larkdrop.config.validate.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        load(config(tmp_path, URL))
    assert 'pip install ".[fleet]"' in caught.value.problems[0]


def test_the_password_is_masked(tmp_path: Path, lark: Sandbox) -> None:
    """``larkdrop config`` and ``repr`` don't show it."""
    daemon = Daemon(tmp_path, lark, fleet={"url": URL})
    done = subprocess.run(daemon.command("config"), capture_output=True, text=True, check=True, timeout=60)
    assert 'url = "********"' in done.stdout
    assert "hush" not in repr(load(daemon.config))
