"""The sandbox speaks Lark: the official SDKs for Python and Node are the judges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import FORMATS, picture
from tests.sandbox.sdks import NodeSdk, PythonSdk, Said, Sdk

BOTH_APIS = pytest.mark.parametrize("api", ["image/v4", "im/v1"])


LOG_ID = re.compile(r"\d{14}[0-9A-F]{20}")


@pytest.fixture(params=["python", "node"])
def sdk(request: pytest.FixtureRequest, lark: Sandbox, tmp_path: Path) -> Iterator[Sdk]:
    """An official SDK, pointed at the sandbox."""
    if request.param == "python":
        yield PythonSdk(lark, tmp_path)
        return
    if why := NodeSdk.missing():
        pytest.skip(why)
    with NodeSdk(lark, tmp_path) as made:
        yield made


@BOTH_APIS
def test_the_official_sdks_upload_and_download_the_same_bytes(sdk: Sdk, lark: Sandbox, api: str) -> None:
    """Token, upload of every format by both calls, and download, byte for byte."""
    for form in FORMATS:
        content = picture(1, form)
        made = sdk.upload(api, content)
        assert made.code == 0, (form, made)
        key = made.data["image_key"]
        assert re.fullmatch(r"[0-9a-f-]{36}" if api == "image/v4" else r"img_v3_02v2_[0-9a-f-]{35}g", key)
        assert sdk.download(key) == content
    assert lark.calls["token"] == 1


def refused(said: Said | bytes, status: int, code: int, msg: str, **error: Any) -> None:
    """Check a refusal field by field."""
    assert isinstance(said, Said)
    assert (said.status, said.code, said.msg) == (status, code, msg)
    assert LOG_ID.fullmatch(said.log_id)
    assert said.error.pop("log_id") == said.log_id
    troubleshooter = said.error.pop("troubleshooter")
    assert troubleshooter.startswith("排查建议查看(Troubleshooting suggestions): https://open.")
    assert f"log_id={said.log_id}&code={code}" in troubleshooter
    assert said.error == error


CANNOT_READ = "Can't regonnize the image format."


PICTURES: dict[str, tuple[Callable[[], bytes], str, int, str]] = {
    "words": (lambda: b"words", "message", 234011, CANNOT_READ),
    "empty": (lambda: b"", "message", 234010, "file's size can't be 0."),
    "wide": (lambda: picture(1, "PNG", (12001, 2)), "message", 234039, "Image resolution exceeds limit."),
    "wide heic": (lambda: picture(1, "HEIC", (4098, 16)), "avatar", 234039, "Image resolution exceeds limit."),
    "wide avatar": (lambda: picture(1, "PNG", (4097, 2)), "avatar", 234039, "Image resolution exceeds limit."),
    "large": (
        lambda: picture(1) + bytes(10 * 1024 * 1024), "message", 234006, "The file size exceed the max value.",
    ),
    "odd type": (lambda: picture(1), "portrait", 99992402, "field validation failed: image_type"),
}  # fmt: skip


@BOTH_APIS
def test_pictures_are_refused_as_the_platform_refuses(sdk: Sdk, api: str) -> None:
    """Field by field; an avatar of the greatest size is taken."""
    for content, image_type, code, msg in PICTURES.values():
        refused(sdk.upload(api, content(), image_type), 400, code, msg)
    assert sdk.upload(api, picture(1, "PNG", (4096, 2)), "avatar").code == 0


def test_a_part_without_a_name_is_refused(sdk: Sdk) -> None:
    """As both SDKs send it where they are given bytes only."""
    said = sdk.upload("im/v1", picture(1), bare=True)
    assert (said.status, said.code) == (400, 99992402)


APP_FAULTS = [
    ("bot_off", 400, 234007, "App does not enable bot feature."),
    ("app_disabled", 400, 99991662, "app is not in use"),
    ("quota_used_up", 429, 99991403, "This month's API call quota has been exceeded"),
    ("refused", 400, 234001, "Invalid request param."),
    ("internal", 500, 5000, "internal error"),
]


@BOTH_APIS
def test_apps_are_refused_as_the_platform_refuses(sdk: Sdk, lark: Sandbox, api: str) -> None:
    """Field by field; a missing scope is named twice, with the link to grant it."""
    for fault, status, code, msg in APP_FAULTS:
        value = getattr(lark.faults, fault)
        lark.faults.set({fault: True if isinstance(value, bool) else 1.0})
        refused(sdk.upload(api, picture(1)), status, code, msg)
        lark.faults.set({fault: value})
    lark.faults.scope_missing = True
    said = sdk.upload(api, picture(1))
    scopes = ("im:resource", "im:resource:upload")
    assert said.msg.startswith("Access denied. One of the following scopes is required: [im:resource, ")
    assert said.msg.endswith(
        f"：https://open.feishu.cn/app/{lark.app_id}/auth?q={','.join(scopes)}&op_from=openapi&token_type=tenant"
    )
    violations = [{"type": "action_scope_required", "subject": scope} for scope in scopes]
    refused(said, 400, 99991672, said.msg, permission_violations=violations)


def test_an_older_api_that_is_switched_off(sdk: Sdk, lark: Sandbox) -> None:
    """The newer one goes on."""
    lark.faults.v4_offline = True
    refused(sdk.upload("image/v4", picture(1)), 404, 99991201, "this api is offline")
    assert sdk.upload("im/v1", picture(1)).code == 0


def test_tokens_are_refused_as_the_platform_refuses(sdk: Sdk, lark: Sandbox) -> None:
    """A dead one, and one that is none."""
    assert sdk.upload("im/v1", picture(1)).code == 0
    lark.revoke()
    refused(sdk.upload("im/v1", picture(1)), 400, 99991663, "Invalid access token for authorization")
    said = sdk.upload("im/v1", picture(1), token="x-1")
    refused(said, 400, 99991671, "Invalid access token for authorization. It must begin with t- or u-.")


def test_an_avatar_can_not_be_downloaded(sdk: Sdk) -> None:
    """Only message images are."""
    key = sdk.upload("im/v1", picture(1), "avatar").data["image_key"]
    refused(sdk.download(key), 400, 234001, "Invalid request param.")


def test_credentials(sdk: Sdk, lark: Sandbox) -> None:
    """An app that does not exist, one that can't, none, a wrong secret: with HTTP 200, and the right one."""
    for app_id, secret, code, msg in (
        ("cli_a1b2c3d4e5f60000", lark.app_secret, 10014, "app id not exists"),
        ("my app", lark.app_secret, 10003, "invalid param"),
        ("", lark.app_secret, 10003, "invalid param"),
        (lark.app_id, "", 10003, "invalid param"),
        (lark.app_id, "wrong", 10014, "app secret invalid"),
    ):
        said = sdk.token(app_id, secret)
        assert (said.status, said.code, said.msg, said.data) == (200, code, msg, {})
    said = sdk.token(lark.app_id, lark.app_secret)
    assert (said.code, said.data["expire"]) == (0, 7200)
    assert said.data["tenant_access_token"].startswith("t-")
