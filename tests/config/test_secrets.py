"""A secret is never said, wherever it was put by mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.config.load import load
from tests.config.conftest import CANARY, GOOD, problems

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
    assert "very secret" not in repr(load(write(GOOD)))
