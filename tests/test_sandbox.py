"""The sandbox speaks Lark: the official SDK is the judge."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from typing import Any

import lark_oapi
import pytest
import requests
from lark_oapi.api.im.v1 import (
    CreateImageRequest,
    CreateImageRequestBody,
    GetImageRequest,
)
from lark_oapi.core.token import TokenManager

from larkdrop.lark.client import TOKEN_PATH, UPLOAD_PATHS
from larkdrop.sandbox import Sandbox
from tests.helpers import FORMATS, picture, wait_until


def named(content: bytes) -> tuple[str, io.BytesIO, str]:
    """A file as the SDK has to be given it; a bare file object goes out without a filename."""
    return "image.jpg", io.BytesIO(content), "image/jpeg"


@pytest.fixture
def sdk(lark: Sandbox) -> lark_oapi.Client:
    """The official SDK, pointed at the sandbox."""
    TokenManager.cache = type(TokenManager.cache)()
    return lark_oapi.Client.builder().app_id(lark.app_id).app_secret(lark.app_secret).domain(lark.url).build()


def create(sdk: lark_oapi.Client, file: Any, image_type: str = "message") -> Any:
    """Upload through the SDK."""
    body = CreateImageRequestBody.builder().image_type(image_type).image(file).build()
    return sdk.im.v1.image.create(CreateImageRequest.builder().request_body(body).build())


@pytest.mark.parametrize("form", FORMATS)
def test_the_official_sdk_uploads_and_downloads_the_same_bytes(sdk: lark_oapi.Client, lark: Sandbox, form: str) -> None:
    """Token, upload and download through lark-oapi."""
    content = picture(1, form)
    made = create(sdk, named(content))
    assert made.success(), (made.code, made.msg)
    key = made.data.image_key
    assert key.startswith("img_v3_")
    assert made.get_log_id()
    got = sdk.im.v1.image.get(GetImageRequest.builder().image_key(key).build())
    assert got.success()
    assert got.file.read() == content
    assert lark.calls["token"] == 1


def test_the_official_sdk_is_refused_as_the_platform_refuses(sdk: lark_oapi.Client, lark: Sandbox) -> None:
    """Codes for pictures, for the app, and for a file without a name."""
    assert create(sdk, named(b"words")).code == 234011
    assert create(sdk, named(b"")).code == 234010
    assert create(sdk, named(picture(1, "PNG", (12001, 2)))).code == 234039
    assert create(sdk, named(picture(1) + bytes(10 * 1024 * 1024))).code == 234006
    assert create(sdk, named(picture(1)), "portrait").code == 99992402
    assert create(sdk, io.BytesIO(picture(1))).code == 99992402
    for fault, code in (("bot_off", 234007), ("scope_missing", 99991672), ("quota_used_up", 99991403)):
        lark.faults.set({fault: True})
        assert create(sdk, named(picture(1))).code == code
        lark.faults.set({fault: False})
    lark.revoke()
    assert create(sdk, named(picture(1))).code == 99991663


def test_an_avatar_can_not_be_downloaded(sdk: lark_oapi.Client) -> None:
    """Only message images are."""
    key = create(sdk, named(picture(1)), "avatar").data.image_key
    assert not sdk.im.v1.image.get(GetImageRequest.builder().image_key(key).build()).success()


def test_wrong_credentials(lark: Sandbox) -> None:
    """The token endpoint tells an unknown app from a wrong secret."""
    for app_id, secret, code in (("cli_other", lark.app_secret, 10003), (lark.app_id, "wrong", 10014)):
        answer = requests.post(lark.url + TOKEN_PATH, json={"app_id": app_id, "app_secret": secret}, timeout=5)
        assert answer.json()["code"] == code
        assert answer.headers["X-Tt-Logid"]


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
            assert "boredom is no fault" in refused.json()["error"]
        finally:
            process.terminate()
        wait_until(lambda: process.poll() is not None)
        assert process.returncode == 0
