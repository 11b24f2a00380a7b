"""Every problem of a config is told at once, each with its key, its value and what would be right; exit 78."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.config.load import load
from larkdrop.errors import ConfigError
from tests.config.conftest import GOOD, problems
from tests.helpers import Daemon


def test_every_problem_is_listed_at_once(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its dotted key, its value, paths as they are understood, and what would be right."""
    monkeypatch.setenv("LARKDROP_UPLOAD__SETTLE_SECONDS", "-1")
    said = problems(
        write("""
nonsense = 1
[lark]
app_idd = "x"
app_secret = 5
base_url = "http://example.com"
requests_per_second = 0
[[watch]]
path = "nope"
after_upload = "move"
[[watch]]
path = "config.toml"
image_type = "x"
[upload]
workers = "many"
backoff_initial = 10
backoff_max = 1
""")
    )
    for expected in (
        "has 13 problems",
        "nonsense: unknown key",
        "lark.app_idd: unknown key; did you mean app_id?",
        "lark.app_secret: input should be a valid string",
        "lark.app_id: is missing; copy it from",
        "lark.base_url = 'http://example.com': must begin with https://",
        "lark.requests_per_second = 0: input should be greater than or equal to 1",
        "there is no such folder",
        "watch[0].move_to: is missing",
        "this is not a folder",
        "watch[1].image_type = 'x': input should be 'message' or 'avatar'",
        f"watch[0].path = '{tmp_path}/nope'",
        "upload.workers = 'many'",
        "(from LARKDROP_UPLOAD__SETTLE_SECONDS)",
        "upload.backoff_max = 1: must be at least backoff_initial",
    ):
        assert expected in said


def test_what_does_not_fit_together_is_named_wherever_it_comes_from(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one of the two is a variable, and the other the default."""
    monkeypatch.setenv("LARKDROP_UPLOAD__BACKOFF_INITIAL", "500")
    assert "upload.backoff_max = 300.0: must be at least backoff_initial" in problems(write(GOOD))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "[lark", "is not TOML"),
        (GOOD + '[[watch]]\npath = "inbox"', "must not be the same folder"),
        (GOOD + '[[watch]]\npath = "inbox/inner"', "or lie in each other"),
        (GOOD + 'move_to = "~nobody-of-this-name/done"\nafter_upload = "move"', "~ names no user"),
        (GOOD.replace('"inbox"', '"~nobody-of-this-name/inbox"'), "~ names no user"),
        (GOOD.replace('"cli_x"', '"cli_…"'), "lark.app_id: is the example's; copy it from the app's Credentials page"),
        (GOOD.replace('"cli_x"', '"cli_a1b2c3d4e5f6"'), "lark.app_id: is the example's"),
        (GOOD.replace('"cli_x"', '"  "'), "lark.app_id: is missing"),
        (GOOD.replace("[lark]", '[lark]\nbase_url = "https://me@open.feishu.cn"'), "without a user name"),
        (GOOD.replace("[lark]", '[lark]\nbase_url = "https://[open.feishu.cn"'), "is not a URL"),
        (GOOD.replace('app_secret = "v', 'tenant_access_token = "t-v'), "tenant_access_token: must be one word"),
        ("lark = 3", "lark: must be a table"),
        (GOOD + '[state]\ndir = "inbox/state"', "state.dir = "),
        (GOOD + '[log]\nresults = "inbox/r.jsonl"', "must lie outside the watched folder"),
        (GOOD.replace('app_secret = "very secret"', ""), "lark.app_secret: is missing"),
        (GOOD.replace("[lark]", '[lark]\ntenant_access_token = "t-x"'), "not both"),
        (GOOD.replace("[lark]", '[lark]\nbase_url = "open.feishu.cn"'), "must be a URL such as"),
        (GOOD.replace("[lark]", '[lark]\nbase_url = "https://open.feishu.cn/open-apis"'), "without a path"),
        (GOOD.replace("[lark]", "[lark]\nread_timeout = nan"), "finite"),
        ("", "watch: is missing"),
    ],
)
def test_each_bad_config_is_named(write: Callable[[str], Path], text: str, expected: str) -> None:
    """Bad input gets a clear error that names the thing."""
    file = write(text)
    (file.parent / "inbox" / "inner").mkdir()
    assert expected in problems(file)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("LARKDROP_LARK_APP_SECRET", "LARKDROP_LARK__APP_SECRET"),
        ("LARKDROP_APP_SECRET", "LARKDROP_LARK__APP_SECRET"),
        ("LARKDROP_LARK__APP_SECERT", "LARKDROP_LARK__APP_SECRET"),
        ("LARKDROP_UPLOAD_WORKERS", "LARKDROP_UPLOAD__WORKERS"),
        ("LARKDROP_STATE_DIR", "LARKDROP_STATE__DIR"),
    ],
)
def test_a_misspelt_variable_gets_a_suggestion(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    """By its own name, and the right one."""
    monkeypatch.setenv(name, "7")
    assert f"{name}: there is no setting of this name; did you mean {near}?" in problems(write(GOOD))


def test_a_bad_config_exits_78_without_a_traceback(make_daemon: Callable[..., Daemon]) -> None:
    """The command line's way of saying all this."""
    daemon = make_daemon(upload={"workers": 0})
    ended = daemon.once()
    assert ended.returncode == 78
    assert "upload.workers = 0" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_result_log_that_can_not_be_written_exits_78(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """It is named, with the cure."""
    (tmp_path / "file").write_text("no folder")
    ended = make_daemon(log={"results": tmp_path / "file" / "results.jsonl"}).once()
    assert ended.returncode == 78
    assert f"the result log can't be used:\n  log.results = '{tmp_path}/file/results.jsonl'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_commands_that_only_ask_need_no_credentials(write: Callable[[str], Path]) -> None:
    """But what keys together get wrong elsewhere is told to them, too."""
    text = GOOD.replace('app_secret = "very secret"', "")
    assert load(write(text), signs_in=False).lark.app_id == "cli_x"
    file = write(text + "[upload]\nbackoff_initial = 10\nbackoff_max = 1")
    with pytest.raises(ConfigError) as caught:
        load(file, signs_in=False)
    assert caught.value.problems == ("upload.backoff_max = 1: must be at least backoff_initial",)


@pytest.mark.parametrize(
    "listen",
    ["9464", ":9464", "camera.example:9464", "127.0.0.1:0", "127.0.0.1:70000", "::1:9464", "[::1:9464", "[::1]"],
)
def test_where_metrics_are_served(write: Callable[[str], Path], listen: str) -> None:
    """An address and a port."""
    said = problems(write(f'{GOOD}\n[metrics]\nlisten = "{listen}"\n'))
    assert "metrics.listen" in said
    assert 'must be an address and a port, such as "127.0.0.1:9464"' in said
