"""A local Lark for demos and tests: the token, upload and download endpoints with the platform's checks and limits.

It plays the platform's faults too. Sources: the platform's pages named in ``larkdrop.lark``, and its answers as
recorded in public issues: pppscn/SmsForwarder#589 and m1heng/clawdbot-feishu#149 (refusals), excitedjs/dreamux#417 and
larksuite/oapi-sdk-java#33 (the token call's), openclaw/openclaw#95291 (the edge's page with HTTP 400).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import math
import random
import re
import secrets
import socket
import struct
import threading
import time
import uuid
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Literal, Self

from aiohttp import BodyPartReader, web
from PIL import Image, UnidentifiedImageError

from larkdrop.lark import accepted_images
from larkdrop.lark.client import TOKEN_PATH, UPLOAD_PATHS

APP_ID, APP_SECRET = "cli_sandbox", "sandbox-secret"
# The platform's two editions: Feishu's page lists HEIC, Lark's does not.
Edition = Literal["lark", "feishu"]
CONSOLES = {"lark": "https://open.larksuite.com", "feishu": "https://open.feishu.cn"}
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO")
# What an app_id looks like.
APP_IDS = re.compile(r"cli_[0-9A-Za-z_]{5,}")
HEIC = re.compile(rb"....ftyp(heic|heix|hevc|mif1|msf1)", re.DOTALL)
HEIC_SIZE = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)
# Bytes of pictures kept for download; the oldest go first, their hashes stay.
KEPT = 256 * 1024 * 1024
Image.MAX_IMAGE_PIXELS = None  # only headers are read; the sandbox checks the size itself
Image.init()


def _option(text: str, *, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class Faults:
    """What goes wrong. Rates are probabilities from 0 to 1; everything may be changed while the sandbox runs."""

    server_error: float = _option("rate of HTTP 500 answers", default=0.0)
    html: float = _option("rate of the edge's HTML pages, with HTTP 400 and 502 in turn", default=0.0)
    bad_json: float = _option("rate of bodies that are no JSON", default=0.0)
    internal: float = _option("rate of code 5000", default=0.0)
    unknown: float = _option("rate of code 424242, which no page lists", default=0.0)
    refused: float = _option("rate of code 234001, by which the call itself is wrong", default=0.0)
    throttle: float = _option("rate of throttled calls, as HTTP 429 or, as older APIs do, 400", default=0.0)
    reset_before: float = _option("rate of connections reset before the upload is read", default=0.0)
    reset_after: float = _option("rate of connections reset after the picture was taken", default=0.0)
    cut: float = _option("rate of answers that break off", default=0.0)
    hang: float = _option("rate of calls that are never answered", default=0.0)
    delay: float = _option("seconds that each upload takes", default=0.0)
    token_delay: float = _option("seconds that each call for a token takes", default=0.0)
    bot_off: bool = _option("the app's bot feature is off", default=False)
    scope_missing: bool = _option("the app lacks the permission to upload", default=False)
    quota_used_up: bool = _option("the month's calls are used up", default=False)
    app_disabled: bool = _option("the app is disabled", default=False)
    body_limit: int = _option("bytes of a body past which a proxy answers HTTP 413; 0 for none", default=0)
    v4_offline: bool = _option("image/v4 is switched off", default=False)
    down: bool = _option("every connection is reset", default=False)
    token_lifetime: float = _option("seconds that a token lives", default=7200.0)
    per_second: int = _option("uploads a second before calls are throttled", default=50)
    per_minute: int = _option("uploads a minute before calls are throttled", default=1000)

    def set(self, changes: dict[str, Any]) -> None:
        """Change some by name. Raises ValueError for an unknown name or a wrong type."""
        known = vars(self)
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{name} is no fault; there are: {', '.join(known)}")
            if isinstance(known[name], bool) != isinstance(value, bool):
                raise ValueError(f"{name} is {'true or false' if isinstance(known[name], bool) else 'a number'}")
            setattr(self, name, type(known[name])(value))


@dataclass(frozen=True)
class Upload:
    """One picture that the sandbox took."""

    image_key: str
    sha256: str
    size: int
    image_type: str
    api: str
    at: float  # monotonic seconds


class _Refusal(Exception):
    """``error`` is what the answer's ``error`` tells beside log id and troubleshooter."""

    def __init__(
        self, code: int, message: str, status: int = 400, headers: dict[str, str] | None = None, **error: Any
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.headers, self.error = code, message, status, headers or {}, error


class Sandbox:
    """A Lark on 127.0.0.1 that lives in a thread of its own; a context manager."""

    def __init__(
        self,
        port: int = 0,
        *,
        edition: Edition = "lark",
        app_id: str = APP_ID,
        app_secret: str = APP_SECRET,
        seed: int = 0,
    ) -> None:
        """``port`` 0 takes a free one; ``seed`` makes the faults' dice repeatable."""
        self.port = port
        self.edition = edition
        self.app_id = app_id
        self.app_secret = app_secret
        self.faults = Faults()
        self.uploads: list[Upload] = []
        self.poison: set[str] = set()  # hashes of pictures that code 5000 answers, always
        self.odd: set[str] = set()  # hashes of pictures for which code 234001 calls the request malformed, always
        self.calls: Counter[str] = Counter()  # by endpoint: "token", "upload", "download"
        self.answers: Counter[int] = Counter()  # uploads by code
        self._edge = cycle((web.HTTPBadRequest, web.HTTPBadGateway))
        self._dice = random.Random(seed)  # noqa: S311 - dice, no secrets
        self._kept: OrderedDict[str, tuple[bytes, str]] = OrderedDict()
        self._kept_bytes = 0
        self._tokens: dict[str, float] = {}
        self._windows: dict[str, deque[float]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        """The base_url to configure."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def revoke(self) -> None:
        """Every token given so far is dead."""
        self._tokens.clear()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post(TOKEN_PATH, self._token)
        for api, path in UPLOAD_PATHS.items():
            app.router.add_post(path, self._uploader(api))
        app.router.add_get("/open-apis/im/v1/images/{image_key}", self._download)
        app.router.add_get("/sandbox", self._tell)
        app.router.add_post("/sandbox/faults", self._set_faults)
        app.router.add_post("/sandbox/revoke", self._revoke)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        calls = asyncio.all_tasks() - {asyncio.current_task()}  # which nobody waits for any more
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.calls["token"] += 1
        if self.faults.down:
            return _reset(request)
        if self.faults.token_delay:
            await asyncio.sleep(self.faults.token_delay)
        try:
            asked = await request.json()
            given = (asked["app_id"], asked["app_secret"])
        except (ValueError, KeyError, TypeError):
            given = ("", "")
        if not all(given) or not APP_IDS.fullmatch(str(given[0])):
            return _answer({"code": 10003, "data": {}, "msg": "invalid param"})
        if given[0] != self.app_id:
            return _answer({"code": 10014, "msg": "app id not exists"})
        if given[1] != self.app_secret:
            return _answer({"code": 10014, "msg": "app secret invalid"})
        now = time.monotonic()
        token, ends = next(((t, e) for t, e in self._tokens.items() if e - now > 1800), ("", 0.0))
        if not token:
            token, ends = f"t-{secrets.token_hex(20)}", now + self.faults.token_lifetime
            self._tokens[token] = ends
        return _answer({"code": 0, "msg": "ok", "tenant_access_token": token, "expire": max(1, round(ends - now))})

    def _uploader(self, api: str) -> Any:
        async def upload(request: web.Request) -> web.StreamResponse:
            self.calls["upload"] += 1
            faults, roll = self.faults, self._roll
            if faults.down or roll(faults.reset_before):
                return _reset(request)
            if roll(faults.hang):
                await self._closing.wait()
                raise asyncio.CancelledError
            try:
                stored = await self._take(request, api)
            except _Refusal as refusal:
                self.answers[refusal.code] += 1
                return self._refuse(refusal)
            if roll(faults.reset_after):
                return _reset(request)
            self.answers[0] += 1
            message = "ok" if api == "image/v4" else "success"
            body = {"code": 0, "data": {"image_key": stored.image_key}, "msg": message}
            if roll(faults.cut):
                return _cut(request, body)
            if roll(faults.bad_json):
                return web.Response(text=json.dumps(body)[:-9], content_type="application/json")
            return _answer(body)

        return upload

    async def _take(self, request: web.Request, api: str) -> Upload:
        """The platform's checks, in its order. Raises _Refusal."""
        self._pass_edge(request)
        faults = self.faults
        if faults.v4_offline and api == "image/v4":
            raise _Refusal(99991201, "this api is offline", 404)
        self._authorise(request)
        self._pace(api)
        if self._roll(faults.internal):
            raise _Refusal(5000, "internal error", 500)
        if self._roll(faults.unknown):
            raise _Refusal(424242, "something new")
        if faults.quota_used_up:
            raise _Refusal(99991403, "This month's API call quota has been exceeded", 429)
        if faults.app_disabled:
            raise _Refusal(99991662, "app is not in use")
        if faults.scope_missing:
            raise self._scope_missing()
        if faults.bot_off:
            raise _Refusal(234007, "App does not enable bot feature.")
        image, image_type = await _form(request, api)
        if faults.delay:
            await asyncio.sleep(faults.delay)
        self._check(image, image_type)
        digest = hashlib.sha256(image).hexdigest()
        if self._roll(faults.refused) or digest in self.odd:
            raise _Refusal(234001, "Invalid request param.")
        if digest in self.poison:
            raise _Refusal(5000, "internal error", 500)
        return self._store(image, image_type, api)

    def _pass_edge(self, request: web.Request) -> None:
        """What stands before the platform answers with pages of its own. Raises web.HTTPException."""
        faults, size = self.faults, request.content_length or 0
        if 0 < faults.body_limit < size:
            self.answers[413] += 1
            raise web.HTTPRequestEntityTooLarge(faults.body_limit, size)
        if self._roll(faults.server_error):
            raise web.HTTPInternalServerError(text="upstream error")
        if self._roll(faults.html):
            edge = next(self._edge)
            page = f"<html><head><title>{edge.status_code}</title></head><body>{edge.__name__}</body></html>"
            raise edge(text=page, content_type="text/html")

    def _authorise(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise _Refusal(99991661, "Missing access token for authorization")
        if not token.startswith(("t-", "u-")):
            raise _Refusal(99991671, "Invalid access token for authorization. It must begin with t- or u-.")
        if self._tokens.get(token, 0) <= time.monotonic():
            raise _Refusal(99991663, "Invalid access token for authorization")

    def _pace(self, api: str) -> None:
        """Both limits, as sliding windows; a throttled call takes no place."""
        now, faults = time.monotonic(), self.faults
        taken = self._windows.setdefault(api, deque())
        while taken and taken[0] <= now - 60:
            taken.popleft()
        last_second = sum(1 for _ in _while_after(taken, now - 1))
        wait, limit = 0.0, faults.per_second
        if len(taken) >= faults.per_minute:
            wait, limit = taken[-faults.per_minute] + 60 - now, faults.per_minute
        elif last_second >= faults.per_second:
            wait = taken[-faults.per_second] + 1 - now
        elif self._roll(faults.throttle):
            wait = 1.0
        else:
            taken.append(now)
            return
        headers = {"x-ogw-ratelimit-limit": str(limit), "x-ogw-ratelimit-reset": str(max(1, math.ceil(wait)))}
        raise _Refusal(99991400, "request trigger frequency limit", 400 if api == "image/v4" else 429, headers)

    def _store(self, image: bytes, image_type: str, api: str) -> Upload:
        key = str(uuid.uuid4()) if api == "image/v4" else f"img_v3_02v2_{str(uuid.uuid4())[:-1]}g"
        made = Upload(key, hashlib.sha256(image).hexdigest(), len(image), image_type, api, time.monotonic())
        self.uploads.append(made)
        self._kept[key] = (image, image_type)
        self._kept_bytes += len(image)
        while self._kept_bytes > KEPT:
            _, (oldest, _) = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)
        return made

    async def _download(self, request: web.Request) -> web.StreamResponse:
        self.calls["download"] += 1
        try:
            self._authorise(request)
        except _Refusal as refusal:
            return self._refuse(refusal)
        image, image_type = self._kept.get(request.match_info["image_key"], (b"", ""))
        if image_type != "message":
            return self._refuse(_Refusal(234001, "Invalid request param."))
        return web.Response(body=image, content_type="application/octet-stream", headers={"X-Tt-Logid": _log_id()})

    async def _tell(self, _request: web.Request) -> web.Response:
        uploads = [{"image_key": made.image_key, "sha256": made.sha256} for made in self.uploads]
        return web.json_response({"calls": self.calls, "answers": self.answers, "uploads": uploads})

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self.faults.set(await request.json())
        except (ValueError, TypeError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(vars(self.faults))

    async def _revoke(self, _request: web.Request) -> web.Response:
        self.revoke()
        return web.json_response({})

    def _refuse(self, refusal: _Refusal) -> web.Response:
        """A refusal as the platform words it, with where to look it up."""
        log_id = _log_id()
        where = f"{CONSOLES[self.edition]}/search?from=openapi&log_id={log_id}&code={refusal.code}"
        error = {"log_id": log_id, "troubleshooter": f"排查建议查看(Troubleshooting suggestions): {where}"}
        body = {"code": refusal.code, "msg": refusal.message, "error": error | refusal.error}
        return _answer(body, refusal.status, {"X-Tt-Logid": log_id, **refusal.headers})

    def _scope_missing(self) -> _Refusal:
        scopes = ("im:resource", "im:resource:upload")
        listed = f"[{', '.join(scopes)}]"
        link = f"{CONSOLES[self.edition]}/app/{self.app_id}/auth?q={','.join(scopes)}&op_from=openapi&token_type=tenant"
        message = (
            f"Access denied. One of the following scopes is required: {listed}."
            f"应用尚未开通所需的应用身份权限：{listed}，点击链接申请并开通任一权限即可：{link}"
        )
        violations = [{"type": "action_scope_required", "subject": scope} for scope in scopes]
        return _Refusal(99991672, message, permission_violations=violations)

    def _check(self, image: bytes, image_type: str) -> None:
        """What the platform says of the picture itself; Pillow is the judge here, not larkdrop's own reader."""
        if not image:
            raise _Refusal(234010, "file's size can't be 0.")
        if len(image) > accepted_images.MAX_BYTES:
            raise _Refusal(234006, "The file size exceed the max value.")
        try:
            form, size = self._recognise(image)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error):
            raise _Refusal(234011, "Can't regonnize the image format.") from None
        if max(size) > accepted_images.max_side(form, image_type):
            raise _Refusal(234039, "Image resolution exceeds limit.")

    def _recognise(self, image: bytes) -> tuple[str, tuple[int, int]]:
        """Format, width and height. Raises what Pillow raises. Pillow has no HEIC; its largest size is enough here."""
        if self.edition == "feishu" and HEIC.match(image):
            return "HEIC", max(struct.unpack(">II", sides) for sides in HEIC_SIZE.findall(image))
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            return opened.format or "", opened.size

    def _roll(self, rate: float) -> bool:
        return rate > 0 and self._dice.random() < rate


def _while_after(taken: deque[float], after: float) -> Any:
    for at in reversed(taken):
        if at <= after:
            return
        yield at


async def _form(request: web.Request, api: str) -> tuple[bytes, str]:
    """The parts ``image`` and ``image_type``. Raises _Refusal as the platform does."""
    if request.content_length is None or not request.content_type.startswith("multipart/"):
        raise _Refusal(99992402, "field validation failed: a multipart body with a Content-Length is needed")
    image: bytes | None = None
    image_type = ""
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "image":
            if not part.filename or not part.filename.isascii() or "Content-Type" not in part.headers:
                raise _Refusal(99992402, "field validation failed: image needs a filename and a Content-Type")
            image = bytes(await part.read())
        elif part.name == "image_type":
            image_type = await part.text()
    if image_type not in {"message", "avatar"}:
        raise _Refusal(99992402, "field validation failed: image_type")
    if image is None:
        raise _Refusal(11214 if api == "image/v4" else 99992402, "image not given")
    return image, image_type


def _log_id() -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + secrets.token_hex(10).upper()


def _answer(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers={"X-Tt-Logid": _log_id(), **(headers or {})})


def _reset(request: web.Request) -> web.StreamResponse:
    """Break the connection with a TCP reset."""
    transport = request.transport
    if transport:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    raise asyncio.CancelledError


def _cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Send half of an answer and close the connection."""
    text = json.dumps(body).encode()
    transport = request.transport
    if transport:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        transport.write(head.encode() + text[: len(text) // 2])
        transport.close()
    raise asyncio.CancelledError
