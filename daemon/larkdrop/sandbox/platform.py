"""How the platform decides: tokens, rate limits, checks of an upload, and refusals in its own words.

Sources: the platform's pages named in ``larkdrop.lark``, and its answers as recorded in public issues:
pppscn/SmsForwarder#589 and m1heng/clawdbot-feishu#149 (refusals), excitedjs/dreamux#417 and larksuite/oapi-sdk-java#33
(the token call's).
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import re
import secrets
import struct
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from larkdrop.lark import accepted_images
from larkdrop.sandbox.faults import Faults

APP_ID, APP_SECRET = "cli_sandbox", "sandbox-secret"
# The platform's two editions: Feishu's page lists HEIC, Lark's does not.
Edition = Literal["lark", "feishu"]
CONSOLES = {"lark": "https://open.larksuite.com", "feishu": "https://open.feishu.cn"}
SCOPES = ("im:resource", "im:resource:upload")
# What an app_id looks like.
APP_IDS = re.compile(r"cli_[0-9A-Za-z_]{5,}")
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO")
HEIC = re.compile(rb"....ftyp(heic|heix|hevc|mif1|msf1)", re.DOTALL)
HEIC_SIZE = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)
# Seconds: a token is given again while more than this is left of it.
GIVEN_AGAIN = 1800
# Bytes of pictures kept for download; the oldest go first, their hashes stay.
KEPT = 256 * 1024 * 1024
Image.MAX_IMAGE_PIXELS = None  # only headers are read; the size is checked here
Image.init()


@dataclass(frozen=True)
class Upload:
    """One picture that the sandbox stored."""

    image_key: str
    sha256: str
    size: int
    image_type: str
    api: str
    at: float  # monotonic seconds


class Refusal(Exception):
    """A call that the platform refuses; ``error`` is what its answer tells beside log id and troubleshooter."""

    def __init__(
        self, code: int, message: str, status: int = 400, headers: dict[str, str] | None = None, **error: Any
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.headers, self.error = code, message, status, headers or {}, error


class Platform:
    """One app on one edition of the platform."""

    def __init__(self, edition: Edition, app_id: str, app_secret: str, seed: int) -> None:
        """``seed`` makes the faults' dice repeatable."""
        self.edition = edition
        self.app_id = app_id
        self.app_secret = app_secret
        self.faults = Faults()
        self.uploads: list[Upload] = []
        self.poison: set[str] = set()  # hashes of pictures that code 5000 answers, always
        self.odd: set[str] = set()  # hashes of pictures for which code 234001 calls the request wrong, always
        self._dice = random.Random(seed)  # noqa: S311 - dice, no secrets
        self._tokens: dict[str, float] = {}  # until when each is valid, in monotonic seconds
        self._windows: dict[str, deque[float]] = {}  # when each API was called in the last minute
        self._stored: OrderedDict[str, tuple[bytes, str]] = OrderedDict()  # picture and image_type, by key
        self._stored_bytes = 0

    def sign_in(self, app_id: str, app_secret: str) -> dict[str, Any]:
        """The answer to a call for a token; refusals, too, come with HTTP 200."""
        if not APP_IDS.fullmatch(app_id) or not app_secret:
            return {"code": 10003, "data": {}, "msg": "invalid param"}
        if app_id != self.app_id:
            return {"code": 10014, "msg": "app id not exists"}
        if app_secret != self.app_secret:
            return {"code": 10014, "msg": "app secret invalid"}
        now = time.monotonic()
        token = next((one for one, ends in self._tokens.items() if ends - now > GIVEN_AGAIN), "")
        if not token:
            token = f"t-{secrets.token_hex(20)}"
            self._tokens[token] = now + self.faults.token_lifetime
        expire = max(1, round(self._tokens[token] - now))
        return {"code": 0, "msg": "ok", "tenant_access_token": token, "expire": expire}

    def revoke(self) -> None:
        """Every token given so far is dead."""
        self._tokens.clear()

    def authorise(self, authorization: str) -> None:
        """Check a call's header. Raises Refusal."""
        kind, _, token = authorization.partition(" ")
        if kind != "Bearer" or not token:
            raise Refusal(99991661, "Missing access token for authorization")
        if not token.startswith(("t-", "u-")):
            raise Refusal(99991671, "Invalid access token for authorization. It must begin with t- or u-.")
        if self._tokens.get(token, 0) <= time.monotonic():
            raise Refusal(99991663, "Invalid access token for authorization")

    def admit(self, authorization: str, api: str) -> None:
        """What is checked before an upload's body is read, in the platform's order. Raises Refusal."""
        faults = self.faults
        if faults.v4_offline and api == "image/v4":
            raise Refusal(99991201, "this api is offline", 404)
        self.authorise(authorization)
        self._limit_rate(api)
        if self.roll(faults.internal):
            raise Refusal(5000, "internal error", 500)
        if self.roll(faults.unknown):
            raise Refusal(424242, "something new")
        if faults.quota_used_up:
            raise Refusal(99991403, "This month's API call quota has been exceeded", 429)
        if faults.app_disabled:
            raise Refusal(99991662, "app is not in use")
        if faults.scope_missing:
            raise self._scope_missing()
        if faults.bot_off:
            raise Refusal(234007, "App does not enable bot feature.")

    def store(self, image: bytes, image_type: str, api: str) -> Upload:
        """Check a picture and store it. Raises Refusal."""
        self._check(image, image_type)
        digest = hashlib.sha256(image).hexdigest()
        if self.roll(self.faults.refused) or digest in self.odd:
            raise Refusal(234001, "Invalid request param.")
        if digest in self.poison:
            raise Refusal(5000, "internal error", 500)
        key = str(uuid.uuid4()) if api == "image/v4" else f"img_v3_02v2_{str(uuid.uuid4())[:-1]}g"
        upload = Upload(key, digest, len(image), image_type, api, time.monotonic())
        self.uploads.append(upload)
        self._stored[key] = (image, image_type)
        self._stored_bytes += len(image)
        while self._stored_bytes > KEPT:
            _, (oldest, _) = self._stored.popitem(last=False)
            self._stored_bytes -= len(oldest)
        return upload

    def download(self, authorization: str, image_key: str) -> bytes:
        """A stored picture; only message images can be downloaded. Raises Refusal."""
        self.authorise(authorization)
        image, image_type = self._stored.get(image_key, (b"", ""))
        if image_type != "message":
            raise Refusal(234001, "Invalid request param.")
        return image

    def _check(self, image: bytes, image_type: str) -> None:
        """Check the picture itself; Pillow is the judge here, not larkdrop's own reader. Raises Refusal."""
        if not image:
            raise Refusal(234010, "file's size can't be 0.")
        if len(image) > accepted_images.MAX_BYTES:
            raise Refusal(234006, "The file size exceed the max value.")
        try:
            form, size = self._recognise(image)
        except (OSError, ValueError, struct.error):
            raise Refusal(234011, "Can't regonnize the image format.") from None
        if max(size) > accepted_images.max_side(form, image_type):
            raise Refusal(234039, "Image resolution exceeds limit.")

    def _recognise(self, image: bytes) -> tuple[str, tuple[int, int]]:
        """Format, width and height. Raises what Pillow raises. Pillow has no HEIC; its largest size is enough here."""
        if self.edition == "feishu" and HEIC.match(image):
            return "HEIC", max(struct.unpack(">II", sides) for sides in HEIC_SIZE.findall(image))
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            return opened.format or "", opened.size

    def body_of(self, refusal: Refusal, log_id: str) -> dict[str, Any]:
        """A refusal as the platform words it, with where to look it up."""
        where = f"{CONSOLES[self.edition]}/search?from=openapi&log_id={log_id}&code={refusal.code}"
        error = {"log_id": log_id, "troubleshooter": f"排查建议查看(Troubleshooting suggestions): {where}"}
        return {"code": refusal.code, "msg": refusal.message, "error": error | refusal.error}

    def roll(self, rate: float) -> bool:
        """True at a fault's rate."""
        return rate > 0 and self._dice.random() < rate

    def _limit_rate(self, api: str) -> None:
        """Both limits, as sliding windows; a throttled call takes no place. Raises Refusal."""
        now, faults = time.monotonic(), self.faults
        calls = self._windows.setdefault(api, deque())
        while calls and calls[0] <= now - 60:
            calls.popleft()
        wait, limit = 0.0, faults.per_second
        if len(calls) >= faults.per_minute:
            wait, limit = calls[-faults.per_minute] + 60 - now, faults.per_minute
        elif len(calls) >= faults.per_second and calls[-faults.per_second] > now - 1:
            wait = calls[-faults.per_second] + 1 - now
        elif self.roll(faults.throttle):
            wait = 1.0
        else:
            calls.append(now)
            return
        headers = {"x-ogw-ratelimit-limit": str(limit), "x-ogw-ratelimit-reset": str(max(1, math.ceil(wait)))}
        raise Refusal(99991400, "request trigger frequency limit", 400 if api == "image/v4" else 429, headers)

    def _scope_missing(self) -> Refusal:
        listed = f"[{', '.join(SCOPES)}]"
        link = f"{CONSOLES[self.edition]}/app/{self.app_id}/auth?q={','.join(SCOPES)}&op_from=openapi&token_type=tenant"
        message = (
            f"Access denied. One of the following scopes is required: {listed}."
            f"应用尚未开通所需的应用身份权限：{listed}，点击链接申请并开通任一权限即可：{link}"
        )
        violations = [{"type": "action_scope_required", "subject": scope} for scope in SCOPES]
        return Refusal(99991672, message, permission_violations=violations)
