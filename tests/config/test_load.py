"""Settings: where they come from, and what is said of wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from larkdrop.commands.config import SAMPLES, UNSET, example
from larkdrop.config import load as config
from larkdrop.config.settings import Lark, Log, Settings, State, Upload, Watch
from larkdrop.errors import ConfigError
from tests.helpers import Daemon

GOOD = """
[lark]
app_id = "cli_x"
app_secret = "very secret"
[[watch]]
path = "inbox"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a config file beside a folder ``inbox``."""
    (tmp_path / "inbox").mkdir()

    def write_it(text: str) -> Path:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_it


def problems(file: Path) -> str:
    """What is said of a bad config."""
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    return "\n".join([str(caught.value), *caught.value.problems, caught.value.hint])


def test_the_defaults_are_those_of_the_contract(write: Callable[[str], Path]) -> None:
    """What the contract names as default is the default."""
    settings = config.load(write(GOOD))
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
    settings = config.load(file)
    assert settings.watch[0].path == tmp_path / "inbox"
    assert settings.state.dir == tmp_path / "state"
    assert settings.results == tmp_path / "out" / "results.jsonl"


def test_environment_before_credentials_before_the_file(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source overrides the next."""
    file = write(GOOD)
    assert config.load(file).lark.app_secret.get_secret_value() == "very secret"
    (tmp_path / "app_secret").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert config.load(file).lark.app_secret.get_secret_value() == "from systemd"
    monkeypatch.setenv("LARKDROP_LARK__APP_SECRET", "from the environment")
    monkeypatch.setenv("LARKDROP_UPLOAD__WORKERS", "3")
    monkeypatch.setenv("LARKDROP_WATCH", f'[{{"path": "{tmp_path}/inbox", "patterns": ["*.png"]}}]')
    settings = config.load(file)
    assert settings.lark.app_secret.get_secret_value() == "from the environment"
    assert settings.upload.workers == 3
    assert settings.watch[0].patterns == ("*.png",)


def test_the_state_folder_comes_from_systemd(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """$STATE_DIRECTORY is the default where it is set."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/larkdrop")
    assert config.load(write(GOOD)).state.dir == Path("/var/lib/larkdrop")


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
    assert config.load(None).watch[0].path == tmp_path / "inbox"
    monkeypatch.chdir(tmp_path)
    file.write_text(GOOD.replace("cli_x", "cli_here"))
    assert config.load(None).lark.app_id == "cli_here"
    monkeypatch.setenv("LARKDROP_CONFIG", str(tmp_path / "named.toml"))
    assert "named.toml can't be read" in problems(None)  # type: ignore[arg-type]


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


CANARY = "canary-7f3a"
LARK, SECRET = '[lark]\napp_id = "cli_x"\n', f'app_secret = "{CANARY}"'
INBOX = '[[watch]]\npath = "inbox"\n'
# The command line, four times in one process; the exit code is that of check.
COMMANDS = """
import sys
from larkdrop.cli import main
file = sys.argv[1]
for command, *words in (["run", "--once"], ["config"], ["status"], ["check"]):
    sys.argv[1:] = [command, "--config", file, *words]
    try:
        main()
    except SystemExit as done:
        code = done.code
sys.exit(code)
"""
LEAKS: dict[str, tuple[str, dict[str, str]]] = {
    "a mistyped key": (f'{LARK}app_secert = "{CANARY}"\n{INBOX}', {}),
    "another name": (f'{LARK}secret = "{CANARY}"\n{INBOX}', {}),
    "outside of its table": (f"{SECRET}\n{LARK}{INBOX}", {}),
    "in a table of a wrong name": (f"[larc]\n{SECRET}\n{INBOX}", {}),
    "in another table": (f"{LARK}{INBOX}{SECRET}", {}),
    "a table within": (f'{LARK}[lark.app]\nsecret = "{CANARY}"\n{INBOX}', {}),
    "a list": (f'{LARK}app_secret = ["{CANARY}"]\n{INBOX}', {}),
    "a table": (f'{LARK}app_secret = {{value = "{CANARY}"}}\n{INBOX}', {}),
    "the whole section": (f'lark = "{CANARY}"\n{INBOX}', {}),
    "the section as a list": (f'lark = ["{CANARY}"]\n{INBOX}', {}),
    "watch as a text": (f'{LARK}watch = "{CANARY}"', {}),
    "watch as a list of texts": (f'watch = ["{CANARY}"]\n{LARK}', {}),
    "another section as a text": (f'upload = "{CANARY}"\n{LARK}{INBOX}', {}),
    "in place of the type of the API": (f'{LARK}api = "{CANARY}"\n{INBOX}', {}),
    "in place of a number": (f'{LARK}requests_per_second = "{CANARY}"\n{INBOX}', {}),
    "in place of the URL": (f'{LARK}base_url = "{CANARY}"\n{INBOX}', {}),
    "as the URL's password": (f'{LARK}{SECRET}\nbase_url = "https://me:{CANARY}@open.feishu.cn"\n{INBOX}', {}),
    "in a URL that is none": (f'{LARK}{SECRET}\nbase_url = "https://[{CANARY}"\n{INBOX}', {}),
    "in a host of odd characters": (f'{LARK}{SECRET}\nbase_url = "https://{CANARY}\u2100"\n{INBOX}', {}),
    "in the URL's query": (f'{LARK}{SECRET}\nbase_url = "https://open.feishu.cn?{CANARY}"\n{INBOX}', {}),
    "two lines as a token": (f'[lark]\ntenant_access_token = "t-{CANARY}\\nx"\n{INBOX}', {}),
    "a token outside ASCII": (f'[lark]\ntenant_access_token = "t-{CANARY}…"\n{INBOX}', {}),
    "both secrets": (f'{LARK}{SECRET}\ntenant_access_token = "t-{CANARY}"\n{INBOX}', {}),
    "no TOML: without quotes": (f"{LARK}app_secret = {CANARY}\n{INBOX}", {}),
    "no TOML: quotes that don't end": (f'{LARK}app_secret = "{CANARY}\n{INBOX}', {}),
    "no TOML: no equals sign": (f'{LARK}app_secret "{CANARY}"\n{INBOX}', {}),
    "no TOML: twice": (f"{LARK}{SECRET}\n{SECRET}\n{INBOX}", {}),
    "no TOML: an escape": (f'{LARK}app_secret = "\\{CANARY}"\n{INBOX}', {}),
    "a variable with one underscore": (LARK + INBOX, {"LARKDROP_LARK_APP_SECRET": CANARY}),
    "a variable with a typing mistake": (LARK + INBOX, {"LARKDROP_LARK__APP_SECERT": CANARY}),
    "a variable without a section": (LARK + INBOX, {"LARKDROP_APP_SECRET": CANARY}),
    "a variable with three underscores": (LARK + INBOX, {"LARKDROP_LARK___APP_SECRET": CANARY}),
    "a variable of a key within": (LARK + INBOX, {"LARKDROP_LARK__APP_SECRET__X": CANARY}),
    "a section in JSON": (INBOX, {"LARKDROP_LARK": f'{{"app_id": "cli_x", "app_secret": "{CANARY}"}}'}),
    "a section in broken JSON": (INBOX, {"LARKDROP_LARK": f'{{"app_secret": "{CANARY}'}),
    "a list in broken JSON": (LARK, {"LARKDROP_WATCH": f'[{{"path": "{CANARY}"'}),
    "a list of texts": (LARK, {"LARKDROP_WATCH": f'["{CANARY}"]'}),
    "a number in a variable": (LARK + INBOX, {"LARKDROP_UPLOAD__WORKERS": CANARY}),
    "a level in a variable": (LARK + INBOX, {"LARKDROP_LOG__LEVEL": CANARY}),
    "a folder within the inbox": (LARK + SECRET + "\n" + INBOX, {"LARKDROP_STATE__DIR": f"inbox/{CANARY}"}),
    "a URL in a variable": (LARK + INBOX, {"LARKDROP_LARK__BASE_URL": f"https://me:{CANARY}@open.feishu.cn"}),
    "a proxy that is none": (LARK + SECRET + "\n" + INBOX, {"HTTPS_PROXY": f"http://me:{CANARY}@proxy:port"}),
    "a proxy that refuses": (LARK + SECRET + "\n" + INBOX, {"HTTPS_PROXY": f"http://me:{CANARY}@127.0.0.1:1"}),
}


@pytest.mark.parametrize("where", LEAKS)
def test_a_secret_is_never_said(write: Callable[[str], Path], tmp_path: Path, where: str) -> None:
    """Wherever a secret was put by mistake: no command's output has it, and the mistake is named."""
    text, environment = LEAKS[where]
    file = write(text)
    places = {"HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state"), "LARKDROP_LARK__CONNECT_TIMEOUT": "2"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(file)], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **places, **environment}, cwd=tmp_path,
    )  # fmt: skip
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "is a bug" not in done.stderr
    assert done.returncode in {1, 78}


def test_a_folder_named_by_a_variable_is_not_said(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a variable holds by mistake: its name is enough."""
    monkeypatch.setenv("LARKDROP_WATCH", f'[{{"path": "{CANARY}"}}]')
    said = problems(write(GOOD))
    assert "watch[0].path: there is no such folder; create it, or correct the path (from LARKDROP_WATCH)" in said
    assert CANARY not in said


def test_a_good_secret_is_never_said(write: Callable[[str], Path]) -> None:
    """Nor what is right, in a repr."""
    assert "very secret" not in repr(config.load(write(GOOD)))


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


def test_small_things_are_taken_as_meant(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte order mark, [watch] for [[watch]], and spaces or line ends around what was pasted."""
    text = GOOD.replace("[[watch]]", "[watch]").replace('"cli_x"', '" cli_x "')
    file = write("\ufeff" + text.replace("[lark]", '[lark]\nbase_url = "https://open.feishu.cn/\\n"'))
    monkeypatch.setenv("LARKDROP_LARK__APP_SECRET", "from the environment \n")
    monkeypatch.setenv("LARKDROP_WATCH__PATTERNS", '["*.png"]')
    settings, origins = config.load_with_origins(file)
    assert (settings.lark.app_id, settings.lark.base_url) == ("cli_x", "https://open.feishu.cn")
    assert settings.lark.app_secret.get_secret_value() == "from the environment"
    (watch,) = settings.watch
    assert (watch.path, watch.patterns) == (file.parent / "inbox", ("*.png",))
    assert origins["watch", "path"] == str(file)


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
    assert config.load(None).lark.app_id == "cli_x"


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
    assert "result log can't be opened" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_example_is_the_schema() -> None:
    """config.example.toml names every key, and its values are the defaults."""
    text = (Path(__file__).parents[2] / "config.example.toml").read_text(encoding="utf-8")
    assert text == example()
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line or line.startswith("[")]
    made: dict[str, Any] = tomllib.loads("\n".join(lines[1:] if lines[0].startswith("Any") else lines))
    sections: dict[str, type[Any]] = {"lark": Lark, "watch": Watch, "upload": Upload, "state": State, "log": Log}
    assert set(made) == set(sections) == set(Settings.model_fields)
    for name, section in sections.items():
        values = made[name][0] if name == "watch" else made[name]
        assert set(values) == set(section.model_fields)
        for key, field in section.model_fields.items():
            if (name, key) in SAMPLES or (name, key) in UNSET:
                continue
            default = field.default.get_secret_value() if hasattr(field.default, "get_secret_value") else field.default
            assert values[key] == (list(default) if isinstance(default, tuple) else default), f"{name}.{key}"
