"""What the SDKs don't show: answers as they stand on the wire, tokens, both limits, the proxy's pages, the command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.request

import pytest
import requests

from larkdrop.lark.client import TOKEN_PATH, UPLOAD_PATHS
from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture, wait_until
from tests.sandbox.test_platform import CANNOT_READ, LOG_ID


def test_a_refused_token_call_as_it_stands_on_the_wire(lark: Sandbox) -> None:
    """With empty data, and a log id."""
    answer = requests.post(lark.url + TOKEN_PATH, data=b"{", timeout=5)
    assert (answer.status_code, answer.json()) == (200, {"code": 10003, "data": {}, "msg": "invalid param"})
    assert LOG_ID.fullmatch(answer.headers["X-Tt-Logid"])


def test_larks_edition_takes_no_heic() -> None:
    """Feishu's does."""
    with Sandbox(edition="lark") as lark:
        answer = post(lark, picture(1, "HEIC"))
        assert (answer.status_code, answer.json()["code"], answer.json()["msg"]) == (400, 234011, CANNOT_READ)
        assert "https://open.larksuite.com/" in answer.json()["error"]["troubleshooter"]
        assert post(lark, picture(1)).json()["code"] == 0


def test_pages_of_the_edge(lark: Sandbox) -> None:
    """HTML, with HTTP 400 too."""
    lark.faults.html = 1.0
    answers = [post(lark, picture(1)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 502]
    assert all(answer.headers["Content-Type"].startswith("text/html") for answer in answers)


def post(lark: Sandbox, content: bytes) -> requests.Response:
    """Upload without an SDK."""
    return requests.post(
        lark.url + UPLOAD_PATHS["im/v1"], files={"image": ("image.jpg", content, "image/jpeg")},
        data={"image_type": "message"}, headers={"Authorization": f"Bearer {token_of(lark)[0]}"}, timeout=5,
    )  # fmt: skip


def token_of(lark: Sandbox) -> tuple[str, int]:
    """Ask for a token: its value and its remaining seconds."""
    credentials = {"app_id": lark.app_id, "app_secret": lark.app_secret}
    made = requests.post(lark.url + TOKEN_PATH, json=credentials, timeout=5).json()
    return made["tenant_access_token"], made["expire"]


def test_a_token_is_given_again_while_it_lives_long(lark: Sandbox) -> None:
    """The same token while more than 30 minutes are left; else a new one, and both are valid."""
    assert token_of(lark)[0] == token_of(lark)[0]
    lark.revoke()
    lark.faults.token_lifetime = 60
    first, second = token_of(lark), token_of(lark)
    assert first[0] != second[0]
    assert first[1] == 60
    for token in (first[0], second[0]):
        files = {"image": ("image.jpg", picture(1), "image/jpeg")}
        answer = requests.post(
            lark.url + UPLOAD_PATHS["im/v1"], files=files, data={"image_type": "message"},
            headers={"Authorization": f"Bearer {token}"}, timeout=5,
        )  # fmt: skip
        assert answer.json()["code"] == 0


@pytest.mark.parametrize(("api", "status"), [("image/v4", 400), ("im/v1", 429)])
def test_both_limits_are_enforced(lark: Sandbox, api: str, status: int) -> None:
    """Beyond the limit a call is throttled, with the seconds to wait in a header."""
    headers = {"Authorization": f"Bearer {token_of(lark)[0]}"}

    def upload() -> requests.Response:
        files = {"image": ("image.jpg", picture(1), "image/jpeg")}
        data = {"image_type": "message"}
        return requests.post(lark.url + UPLOAD_PATHS[api], files=files, data=data, headers=headers, timeout=5)

    lark.faults.per_second = 3
    answers = [upload() for _ in range(4)]
    assert [answer.json()["code"] for answer in answers] == [0, 0, 0, 99991400]
    assert answers[3].status_code == status
    assert answers[3].headers["x-ogw-ratelimit-limit"] == "3"
    assert answers[3].headers["x-ogw-ratelimit-reset"] == "1"
    lark.faults.set({"per_second": 1000, "per_minute": 3})
    throttled = upload()
    assert throttled.json()["code"] == 99991400
    assert 50 <= int(throttled.headers["x-ogw-ratelimit-reset"]) <= 60


def test_the_command_serves_until_it_is_stopped() -> None:
    """``larkdrop sandbox`` prints a config, tells what came, and takes faults over HTTP."""
    argv = [sys.executable, "-m", "larkdrop", "sandbox", "--port", "0", "--bot-off", "--seed", "3"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[4]
            with urllib.request.urlopen(f"{url}/sandbox") as answer:
                assert json.load(answer) == {"calls": {}, "answers": {}, "uploads": []}
            changed = requests.post(f"{url}/sandbox/faults", json={"bot_off": False, "delay": 0.1}, timeout=5).json()
            assert (changed["bot_off"], changed["delay"]) == (False, 0.1)
            refused = requests.post(f"{url}/sandbox/faults", json={"boredom": 1}, timeout=5)
            assert refused.status_code == 400
            assert "boredom is not a fault" in refused.json()["error"]
        finally:
            process.terminate()
        wait_until(lambda: process.poll() is not None)
        assert process.returncode == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"nope": 1}, {"per_second": 0.5}, {"per_second": math.inf}, {"delay": []}, {"delay": True}, {"delay": math.nan},
        {"server_error": 7}, {"bot_off": 1}, {"per_second": 2.5}, {"delay": -1},
    ],
)  # fmt: skip
def test_faults_that_can_not_be_are_refused(lark: Sandbox, changes: dict[str, object]) -> None:
    """With what came with them: nothing is half done."""
    answer = requests.post(f"{lark.url}/sandbox/faults", data=json.dumps({"down": True, **changes}), timeout=10)
    assert answer.status_code == 400
    assert " must be " in answer.json()["error"] or "not a fault" in answer.json()["error"]
    assert not lark.faults.down


def test_a_call_in_no_encoding_that_there_is(lark: Sandbox) -> None:
    """Refused like any other that can't be read."""
    for path, status in ((TOKEN_PATH, 200), ("/sandbox/faults", 400)):
        answer = requests.post(
            f"{lark.url}{path}", data=b"{}", headers={"Content-Type": "application/json; charset=nope"}, timeout=10
        )
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("option", [("--per-second", "0"), ("--app-id", "mine")])
def test_options_that_can_not_be_are_refused(option: tuple[str, str]) -> None:
    """As wrong usage."""
    words = [sys.executable, "-m", "larkdrop", "sandbox", "--port", "0", *option]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert option[0].removeprefix("--").replace("-", "_") in ended.stderr.replace("-", "_")
