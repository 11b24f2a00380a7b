"""The platform's official SDKs for Python and Node behind one small interface, each to be pointed at a sandbox."""

from __future__ import annotations

import io
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, cast

import lark_oapi
from lark_oapi.api.auth.v3 import InternalTenantAccessTokenRequest, InternalTenantAccessTokenRequestBody
from lark_oapi.api.im.v1 import CreateImageRequest, CreateImageRequestBody, GetImageRequest
from lark_oapi.core.model import RequestOption
from lark_oapi.core.token import TokenManager

from larkdrop.lark.client import UPLOAD_PATHS
from larkdrop.sandbox.server import Sandbox

NODE_SCRIPT = Path(__file__).with_name("node_sdk.cjs")


@dataclass(frozen=True)
class Said:
    """What an SDK makes of an answer. ``error`` holds ``log_id``, ``troubleshooter`` and ``permission_violations``."""

    status: int
    code: int
    msg: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    log_id: str = ""  # of the header


class Sdk(Protocol):
    """An official SDK, set up for one app."""

    def token(self, app_id: str, app_secret: str) -> Said:
        """Ask for a token; ``data`` holds it."""

    def upload(
        self, api: str, content: bytes, image_type: str = "message", *, token: str = "", bare: bool = False
    ) -> Said:
        """Upload; ``token`` instead of the SDK's own, ``bare`` without a file name."""

    def download(self, key: str) -> Said | bytes:
        """A picture's bytes, or the refusal."""


class PythonSdk:
    """lark-oapi."""

    def __init__(self, lark: Sandbox, home: Path) -> None:
        TokenManager.cache = type(TokenManager.cache)()
        self._lark = lark
        self._client = self._made(own_token=False)

    def _made(self, *, own_token: bool) -> lark_oapi.Client:
        builder = lark_oapi.Client.builder().app_id(self._lark.app_id).app_secret(self._lark.app_secret)
        return builder.domain(self._lark.url).enable_set_token(own_token).build()

    def token(self, app_id: str, app_secret: str) -> Said:
        body = InternalTenantAccessTokenRequestBody.builder().app_id(app_id).app_secret(app_secret).build()
        request = InternalTenantAccessTokenRequest.builder().request_body(body).build()
        return _said(self._client.auth.v3.tenant_access_token.internal(request))

    def upload(
        self, api: str, content: bytes, image_type: str = "message", *, token: str = "", bare: bool = False
    ) -> Said:
        file: Any = io.BytesIO(content) if bare else ("image.jpg", io.BytesIO(content), "image/jpeg")
        body = CreateImageRequestBody.builder().image_type(image_type).image(file).build()
        request = CreateImageRequest.builder().request_body(body).build()
        request.uri = UPLOAD_PATHS[cast("Any", api)]
        client = self._made(own_token=True) if token else self._client
        return _said(client.im.v1.image.create(request, RequestOption.builder().tenant_access_token(token).build()))

    def download(self, key: str) -> Said | bytes:
        got = self._client.im.v1.image.get(GetImageRequest.builder().image_key(key).build())
        return cast("bytes", got.file.read()) if got.success() else _said(got)


def _said(answer: Any) -> Said:
    raw = json.loads(answer.raw.content)
    data = {name: value for name, value in raw.items() if name not in {"code", "msg", "error", "data"}}
    data |= raw.get("data") or {}
    error = answer.error or {}  # as lark-oapi leaves it: a dict
    return Said(answer.raw.status_code, answer.code, answer.msg, data, error, answer.raw.headers.get("X-Tt-Logid", ""))


class NodeSdk:
    """@larksuiteoapi/node-sdk, in a process of its own; a context manager. ``LARK_NODE_SDK`` is its node_modules."""

    def __init__(self, lark: Sandbox, home: Path) -> None:
        self._lark, self._home = lark, home

    @staticmethod
    def missing() -> str:
        """Why it can't be used here; empty where it can."""
        place = os.environ.get("LARK_NODE_SDK", "")
        if not (Path(place) / "@larksuiteoapi" / "node-sdk").is_dir():
            return "LARK_NODE_SDK names no node_modules folder with @larksuiteoapi/node-sdk"
        try:
            subprocess.run(["node", "--version"], check=True, capture_output=True)
        except OSError:
            return "there is no node"
        return ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["node", str(NODE_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _call(self, **call: Any) -> Said:
        assert self._process.stdin
        assert self._process.stdout
        credentials = {"url": self._lark.url, "app_id": self._lark.app_id, "app_secret": self._lark.app_secret}
        self._process.stdin.write(json.dumps(credentials | call) + "\n")
        self._process.stdin.flush()
        made = json.loads(self._process.stdout.readline())
        body = made["body"]
        data = {name: value for name, value in body.items() if name not in {"code", "msg", "error", "data"}}
        data |= body.get("data") or {}
        error = body.get("error") or {}
        return Said(made["status"], body["code"], body.get("msg", ""), data, error, made.get("log_id", ""))

    def token(self, app_id: str, app_secret: str) -> Said:
        return self._call(call="token", asked={"app_id": app_id, "app_secret": app_secret})

    def upload(
        self, api: str, content: bytes, image_type: str = "message", *, token: str = "", bare: bool = False
    ) -> Said:
        path = self._home / "image.jpg"
        path.write_bytes(content)
        return self._call(call=api, path=str(path), image_type=image_type, token=token, bare=bare)

    def download(self, key: str) -> Said | bytes:
        path = self._home / "downloaded"
        said = self._call(call="download", key=key, path_out=str(path))
        return path.read_bytes() if said.code == 0 else said
