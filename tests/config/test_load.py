"""Settings come from file, credential and environment, with the contract's defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.config.load import load, load_with_origins
from tests.config.conftest import GOOD


def test_the_defaults_are_those_of_the_contract(write: Callable[[str], Path]) -> None:
    """What the contract names as default is the default."""
    settings = load(write(GOOD))
    assert settings.lark.base_url == "https://open.larksuite.com"
    assert settings.lark.api == "image/v4"
    assert (settings.lark.requests_per_second, settings.lark.requests_per_minute) == (50, 1000)
    assert settings.lark.probe_seconds == 60
    upload = settings.upload
    assert (upload.settle_seconds, upload.rescan_seconds, upload.drain_seconds) == (2, 300, 20)
    assert (upload.backoff_initial, upload.backoff_max, upload.dedupe) == (1, 300, True)
    (watch,) = settings.watch
    assert (watch.image_type, watch.recursive, watch.after_upload) == ("message", True, "keep")
    assert settings.results == settings.state.dir / "results.jsonl"


def test_relative_paths_count_from_the_config_file(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same config means the same folders from any working directory."""
    file = write(GOOD + '[state]\ndir = "state"\n[log]\nresults = "out/results.jsonl"')
    monkeypatch.chdir("/")
    settings = load(file)
    assert settings.watch[0].path == tmp_path / "inbox"
    assert settings.state.dir == tmp_path / "state"
    assert settings.results == tmp_path / "out" / "results.jsonl"


def test_environment_before_credentials_before_the_file(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source overrides the next."""
    file = write(GOOD)
    assert load(file).lark.app_secret.get_secret_value() == "very secret"
    (tmp_path / "app_secret").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load(file).lark.app_secret.get_secret_value() == "from systemd"
    monkeypatch.setenv("LARKDROP_LARK__APP_SECRET", "from the environment")
    monkeypatch.setenv("LARKDROP_UPLOAD__WORKERS", "3")
    monkeypatch.setenv("LARKDROP_WATCH", f'[{{"path": "{tmp_path}/inbox", "patterns": ["*.png"]}}]')
    settings = load(file)
    assert settings.lark.app_secret.get_secret_value() == "from the environment"
    assert settings.upload.workers == 3
    assert settings.watch[0].patterns == ("*.png",)


def test_the_state_folder_comes_from_systemd(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """$STATE_DIRECTORY is the default where it is set."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/larkdrop")
    assert load(write(GOOD)).state.dir == Path("/var/lib/larkdrop")


def test_small_things_are_taken_as_meant(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte order mark, [watch] for [[watch]], and spaces or line ends around what was pasted."""
    text = GOOD.replace("[[watch]]", "[watch]").replace('"cli_x"', '" cli_x "')
    file = write("\ufeff" + text.replace("[lark]", '[lark]\nbase_url = "https://open.feishu.cn/\\n"'))
    monkeypatch.setenv("LARKDROP_LARK__APP_SECRET", "from the environment \n")
    monkeypatch.setenv("LARKDROP_WATCH__PATTERNS", '["*.png"]')
    settings, origins = load_with_origins(file)
    assert (settings.lark.app_id, settings.lark.base_url) == ("cli_x", "https://open.feishu.cn")
    assert settings.lark.app_secret.get_secret_value() == "from the environment"
    (watch,) = settings.watch
    assert (watch.path, watch.patterns) == (file.parent / "inbox", ("*.png",))
    assert origins["watch", "path"] == str(file)
