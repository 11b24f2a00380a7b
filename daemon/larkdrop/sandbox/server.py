"""A local Lark over HTTP: routes, start and stop, broken answers; what the platform decides stands in ``platform``."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import threading
import time
from collections import Counter
from functools import partial
from itertools import cycle
from typing import Any, NoReturn, Self

from aiohttp import BodyPartReader, web

from larkdrop.lark.client import TOKEN_PATH, UPLOAD_PATHS
from larkdrop.sandbox.platform import APP_ID, APP_SECRET, Edition, Platform, Refusal

DOWNLOAD_PATH = "/open-apis/im/v1/images/{image_key}"


class Sandbox(Platform):
    """The platform, served on 127.0.0.1 by a thread of its own; a context manager."""

    def __init__(
        self, port: int = 0, *, edition: Edition = "lark", app_id: str = APP_ID, app_secret: str = APP_SECRET,
        seed: int = 0,
    ) -> None:  # fmt: skip
        """``port`` 0 takes a free one."""
        super().__init__(edition, app_id, app_secret, seed)
        self.port = port
        self.calls: Counter[str] = Counter()  # by endpoint: "token", "upload", "download"
        self.answers: Counter[int] = Counter()  # uploads by code
        # Pages of the proxy before the platform; source: openclaw/openclaw#95291 (HTTP 400).
        self._proxy_errors = cycle((web.HTTPBadRequest, web.HTTPBadGateway))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)

    @property
    def url(self) -> str:
        """The base_url to configure."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post(TOKEN_PATH, self._answer_token)
        for api, path in UPLOAD_PATHS.items():
            app.router.add_post(path, partial(self._answer_upload, api))
        app.router.add_get(DOWNLOAD_PATH, self._answer_download)
        app.router.add_get("/sandbox", self._tell)
        app.router.add_post("/sandbox/faults", self._set_faults)
        app.router.add_post("/sandbox/revoke", self._revoke)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._runner.cleanup()
        calls = asyncio.all_tasks() - {asyncio.current_task()}  # which nobody waits for any more
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _answer_token(self, request: web.Request) -> web.Response:
        self.calls["token"] += 1
        if self.faults.down:
            _reset(request)
        await asyncio.sleep(self.faults.token_delay)
        try:
            asked = await request.json()
            credentials = str(asked["app_id"]), str(asked["app_secret"])
        except (ValueError, LookupError, TypeError):
            credentials = "", ""
        return _json(self.sign_in(*credentials))

    async def _answer_upload(self, api: str, request: web.Request) -> web.Response:
        self.calls["upload"] += 1
        faults, roll = self.faults, self.roll
        if faults.down or roll(faults.reset_before):
            _reset(request)
        if roll(faults.hang):
            await asyncio.Event().wait()  # until the call is cancelled at the end
        self._pass_proxy(request)
        try:
            self.admit(request.headers.get("Authorization", ""), api)
            image, image_type = await _form(request, api)
            await asyncio.sleep(faults.delay)
            stored = self.store(image, image_type, api)
        except Refusal as refusal:
            self.answers[refusal.code] += 1
            # A client may not be done sending, and sends less if its file changes with the answer.
            await request.release()
            return self._refuse(refusal)
        if roll(faults.reset_after):
            _reset(request)
        self.answers[0] += 1
        body = {"code": 0, "data": {"image_key": stored.image_key}, "msg": "ok" if api == "image/v4" else "success"}
        if roll(faults.cut):
            _send_half(request, body)
        if roll(faults.bad_json):
            return web.Response(text=json.dumps(body)[:-9], content_type="application/json")
        return _json(body)

    async def _answer_download(self, request: web.Request) -> web.Response:
        self.calls["download"] += 1
        try:
            image = self.download(request.headers.get("Authorization", ""), request.match_info["image_key"])
        except Refusal as refusal:
            return self._refuse(refusal)
        return web.Response(body=image, content_type="application/octet-stream", headers={"X-Tt-Logid": _log_id()})

    def _pass_proxy(self, request: web.Request) -> None:
        """What stands before the platform answers with pages of its own. Raises web.HTTPException."""
        faults, size = self.faults, request.content_length or 0
        if 0 < faults.body_limit < size:
            self.answers[413] += 1
            raise web.HTTPRequestEntityTooLarge(faults.body_limit, size)
        if self.roll(faults.server_error):
            raise web.HTTPInternalServerError(text="upstream error")
        if self.roll(faults.html):
            error = next(self._proxy_errors)
            page = f"<html><head><title>{error.status_code}</title></head><body>{error.__name__}</body></html>"
            raise error(text=page, content_type="text/html")

    def _refuse(self, refusal: Refusal) -> web.Response:
        log_id = _log_id()
        return _json(self.body_of(refusal, log_id), refusal.status, {"X-Tt-Logid": log_id, **refusal.headers})

    async def _tell(self, _request: web.Request) -> web.Response:
        uploads = [{"image_key": upload.image_key, "sha256": upload.sha256} for upload in self.uploads]
        return web.json_response({"calls": self.calls, "answers": self.answers, "uploads": uploads})

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self.faults.set(await request.json())
        except (ValueError, LookupError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(vars(self.faults))

    async def _revoke(self, _request: web.Request) -> web.Response:
        self.revoke()
        return web.json_response({})


async def _form(request: web.Request, api: str) -> tuple[bytes, str]:
    """The parts ``image`` and ``image_type``. Raises Refusal as the platform does."""
    if request.content_length is None or not request.content_type.startswith("multipart/"):
        raise Refusal(99992402, "field validation failed: a multipart body with a Content-Length is needed")
    image, image_type = None, ""
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "image":
            if not part.filename or not part.filename.isascii() or "Content-Type" not in part.headers:
                raise Refusal(99992402, "field validation failed: image needs a filename and a Content-Type")
            image = bytes(await part.read())
        elif part.name == "image_type":
            image_type = await part.text()
    if image_type not in {"message", "avatar"}:
        raise Refusal(99992402, "field validation failed: image_type")
    if image is None:
        raise Refusal(11214 if api == "image/v4" else 99992402, "image not given")
    return image, image_type


def _log_id() -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + secrets.token_hex(10).upper()


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers={"X-Tt-Logid": _log_id(), **(headers or {})})


def _reset(request: web.Request) -> NoReturn:
    """Break the connection with a TCP reset."""
    if transport := request.transport:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    raise asyncio.CancelledError


def _send_half(request: web.Request, body: dict[str, Any]) -> NoReturn:
    """Send half of an answer and close the connection."""
    text = json.dumps(body).encode()
    if transport := request.transport:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        transport.write(head.encode() + text[: len(text) // 2])
        transport.close()
    raise asyncio.CancelledError
