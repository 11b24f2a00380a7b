"""Upload a picture, get a token: the calls to Lark, and what their answers say.

Source: the platform's pages *Upload image* (v4 and im/v1), *Custom app obtains tenant_access_token*.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from larkdrop.config.settings import Api, Lark
from larkdrop.errors import MomentFault, SetupFault, TokenFault
from larkdrop.lark import codes, throttling
from larkdrop.lark.accepted_images import MAX_BYTES
from larkdrop.lark.contact import Contact
from larkdrop.lark.transport import Body, Transport

TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"  # noqa: S105 - a path, no password
UPLOAD_PATHS = {"image/v4": "/open-apis/image/v4/put/", "im/v1": "/open-apis/im/v1/images"}
FIT_FOR_HEADER = re.compile(r"[!-~]+").fullmatch
# Seconds before its end that a token is renewed, or at half the lifetime of a short one.
RENEW_AHEAD = 600.0
# Seconds until a renewal that failed is tried again, while the old token still works.
RENEW_AGAIN = 10.0
# Bytes of a call for a token, or of an upload apart from its picture, at most.
FORM = 1024
_LOG_ID = re.compile(r"[!-~]{1,128}")
_SCOPE = re.compile(r"[\w.:-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Uploaded:
    """What the platform answered: the key, and the answer's log id."""

    image_key: str
    log_id: str


@dataclass
class Token:
    """A tenant_access_token; times in monotonic seconds."""

    value: str = field(repr=False)
    renew_at: float
    ends_at: float
    asked_at: float | None = None


class Client:
    """Speaks to one Lark as one app. Thread-safe."""

    def __init__(self, settings: Lark, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self.transport = Transport(settings)
        self.contact = Contact(clock)
        self._renewing = threading.Lock()
        self._fixed = settings.tenant_access_token.get_secret_value()
        self._token = Token(self._fixed, math.inf, math.inf) if self._fixed else Token("", -math.inf, -math.inf)
        self._tries = Retrying(
            stop=stop_after_attempt(1 if self._fixed else 2), retry=retry_if_exception_type(TokenFault), reraise=True
        )

    def upload(self, image: bytes, image_type: str) -> Uploaded:
        """Upload a picture's bytes (at most 10 MB) as ``message`` or ``avatar`` image.

        A dead token is renewed and the picture sent once more. Raises PictureFault, MomentFault or SetupFault.
        """
        try:
            return self._tries(self._upload_once, image, image_type)
        except TokenFault as fault:
            message = "the token was refused again right after it was renewed"
            if self._fixed:
                message = "the tenant_access_token is refused; it lives for 2 hours at most"
            raise SetupFault(message, hint=fault.hint, code=fault.code, log_id=fault.log_id) from fault

    @property
    def longest_upload(self) -> float:
        """Seconds that ``upload`` takes at most, where every call takes until its deadline.

        Two tries, each with a wait for another thread's call for a token and a call of its own. It is never less than a
        host with several addresses takes that don't answer, one after the other: no other call follows that one.
        """
        token, upload = self.transport.deadline(FORM), self.transport.deadline(MAX_BYTES + FORM)
        return upload if self._fixed else 2 * (2 * token + upload)

    @property
    def token_age(self) -> float | None:
        """Seconds since the token was asked for; None where there is none, or a fixed one."""
        return None if self._token.asked_at is None else self._clock() - self._token.asked_at

    def sign_in(self) -> bool:
        """Make sure of a token; False where there is one already, so that Lark was not asked.

        Raises MomentFault or SetupFault.
        """
        return self._token is not self._current_token()

    def _upload_once(self, image: bytes, image_type: str) -> Uploaded:
        token = self._current_token()
        body = Body(image, image_type)
        headers = {"Authorization": f"Bearer {token.value}", "Content-Type": body.content_type}
        try:
            answer, log_id = self._post(body, headers, api=self._settings.api)
        except TokenFault:
            if not self._fixed:
                token.renew_at = token.ends_at = -math.inf  # so the next call fetches another
            raise
        key = _object(answer.get("data")).get("image_key")
        if not isinstance(key, str) or not key:
            raise MomentFault("Lark's answer holds no image_key", log_id=log_id)
        return Uploaded(key, log_id)

    def _current_token(self) -> Token:
        """The token to use now. One thread renews it; the others use the old one, or wait if that has ended."""
        token, now = self._token, self._clock()
        if now < token.renew_at:
            return token
        wait = 0.0 if now < token.ends_at else self.transport.deadline(FORM)
        if not self._renewing.acquire(timeout=wait):
            if wait:
                raise MomentFault("another call for a token is still not answered")
            return token
        try:
            token, now = self._token, self._clock()
            if now >= token.renew_at:  # no other thread was faster
                self._token = self._fetch_token()
        except (MomentFault, SetupFault) as fault:
            if now >= token.ends_at or (isinstance(fault, SetupFault) and fault.code is not None):
                raise
            token.renew_at = now + RENEW_AGAIN
        finally:
            self._renewing.release()
        return self._token

    def _fetch_token(self) -> Token:
        asked = self._clock()
        secret = self._settings.app_secret.get_secret_value()
        body = json.dumps({"app_id": self._settings.app_id, "app_secret": secret}).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer, log_id = self._post(body, headers, api=None)
        value, lifetime = answer.get("tenant_access_token"), answer.get("expire")
        if not isinstance(value, str) or not FIT_FOR_HEADER(value) or not isinstance(lifetime, int | float):
            raise MomentFault("Lark's answer holds no tenant_access_token", log_id=log_id)
        return Token(value, asked + lifetime - min(RENEW_AHEAD, lifetime / 2), asked + lifetime, asked)

    def _post(self, body: Body | bytes, headers: dict[str, str], *, api: Api | None) -> tuple[dict[str, Any], str]:
        """One call, for a token where ``api`` is None: the JSON object of an answer with code 0, and its log id.

        Raises every other answer as a fault.
        """
        self.contact.called()
        status, told, text = self.transport.call("POST", UPLOAD_PATHS[api] if api else TOKEN_PATH, body, headers)
        wait = throttling.wait(told.get("x-ogw-ratelimit-reset") or told.get("Retry-After"))
        try:
            answer = _object(json.loads(text))
        except (ValueError, RecursionError):
            answer = {}
        error = _object(answer.get("error"))
        log_id = _log_id(told.get("X-Tt-Logid"), told.get("X-Request-Id"), error.get("log_id"), answer.get("log_id"))
        code = answer.get("code")
        if not isinstance(code, int):
            raise codes.status_fault(status, log_id, api=api, retry_after=wait)
        self.contact.answered()
        if code != 0:
            message, scopes = str(answer.get("msg", "")), _scopes(error.get("permission_violations"))
            raise codes.fault(code, message, log_id, api=api, retry_after=wait, scopes=scopes)
        return answer, log_id


def _object(value: object) -> dict[str, Any]:
    """A JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _log_id(*places: object) -> str:
    """The first place that holds one; the official SDK for Go and the official CLI read all four."""
    return next((place for place in places if isinstance(place, str) and _LOG_ID.fullmatch(place)), "")


def _scopes(violations: object) -> list[str]:
    """The scopes that an answer names as missing."""
    subjects = [_object(one).get("subject") for one in violations] if isinstance(violations, list) else []
    return [subject for subject in subjects if isinstance(subject, str) and _SCOPE.fullmatch(subject)]
