"""Token and upload calls; the only place that sees requests' exceptions.

Source: the platform's pages *Upload image* (v4 and im/v1), *Custom app obtains tenant_access_token*.
"""

from __future__ import annotations

import json
import math
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

from larkdrop import __version__
from larkdrop.config import Lark
from larkdrop.errors import LarkdropError, MomentFault, SetupFault, TokenFault
from larkdrop.lark import codes
from larkdrop.progress import waiting

TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"  # noqa: S105 - a path, no password
UPLOAD_PATHS = {"image/v4": "/open-apis/image/v4/put/", "im/v1": "/open-apis/im/v1/images"}
# The platform's answers have a few hundred bytes; whatever is longer than this is none of them.
LONGEST_ANSWER = 64 * 1024
# A token is renewed this long before its end, or at half the lifetime of a short one.
RENEW_AHEAD = 600.0
# Seconds until a renewal ahead of time that failed is tried again; the old token still works.
RENEW_AGAIN = 10.0


@dataclass(frozen=True)
class Uploaded:
    """What the platform answered: the key, and the ``X-Tt-Logid`` of the answer."""

    image_key: str
    log_id: str


@dataclass(frozen=True)
class Token:
    """A tenant_access_token; times in monotonic seconds. Its value never shows in a ``repr``."""

    value: str
    renew_at: float
    ends_at: float

    def __repr__(self) -> str:
        return "Token(…)"


AGENT = f"larkdrop/{__version__}"


# Bytes up to which joining a body's pieces costs less than sending them one by one.
JOINED = 1024 * 1024
# Bytes that a socket takes at once, without a wait for the other side.
UNNOTICED = 16 * 1024
# Of all bodies; what a picture holds by chance differs from it.
BOUNDARY = secrets.token_hex(16)


class Body:
    """A multipart/form-data body around a picture's bytes; those of a large one are not copied."""

    def __init__(self, image: bytes, image_type: str) -> None:
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image_type"\r\n\r\n{image_type}\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        pieces = (head.encode("ascii"), image, f"\r\n--{BOUNDARY}--\r\n".encode("ascii"))
        self._pieces = (b"".join(pieces),) if len(image) <= JOINED else pieces
        self.content_type = f"multipart/form-data; boundary={BOUNDARY}"

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


@dataclass(frozen=True)
class Reached:
    """How the host answered."""

    seconds: float  # that it took
    clock_ahead: float | None  # seconds by which this machine's clock is ahead, where the host tells
    proxy: str | None  # the proxy's host


class _InTurn(HTTPConnection):
    """Marks its waits as such, so that other workers get on meanwhile."""

    def connect(self) -> None:
        with waiting:
            super().connect()

    def send(self, data: Any) -> None:
        if len(data) > UNNOTICED:
            waiting.begin()  # until the answer comes, since between the two is next to nothing to do
        try:
            super().send(data)
        except BaseException:
            waiting.end()
            raise

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 itself has it
        # Only a plain or an SSL socket tells by itself whether something is there to read.
        if isinstance(self.sock, socket.socket) and not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            with waiting:
                if not wait_for_read(self.sock, self.timeout):
                    raise TimeoutError
        return super().getresponse()


class _SecureInTurn(_InTurn, HTTPSConnection):
    pass


@dataclass(frozen=True)
class _Line:
    """One thread's connection for one address, as requests settled it: through which proxy, with which certificates."""

    pool: urllib3.HTTPConnectionPool
    target: str  # what stands in the request line


class Client:
    """Speaks to one Lark as one app. Thread-safe; each thread keeps its own connection alive."""

    def __init__(self, settings: Lark, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._local = threading.local()
        self._renewing = threading.Lock()
        fixed = settings.tenant_access_token.get_secret_value()
        self._token = Token(fixed, float("inf"), float("inf")) if fixed else None
        self._fixed = bool(fixed)
        self._tries = Retrying(
            stop=stop_after_attempt(1 if fixed else 2), retry=retry_if_exception_type(TokenFault), reraise=True
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

    def reach(self) -> Reached:
        """See whether the host answers at all, without a token. Raises MomentFault or SetupFault."""
        session, began = self._session(), self._clock()
        timeout = (self._settings.connect_timeout, self._settings.read_timeout)
        try:
            with session.head(self._settings.base_url, timeout=timeout, allow_redirects=False) as response:
                date = response.headers.get("Date", "")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _transport_fault(error) from error
        proxy = requests.utils.select_proxy(self._settings.base_url, session.proxies)
        try:
            ahead = time.time() - parsedate_to_datetime(date).timestamp()
        except ValueError:
            ahead = None
        host = urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname if proxy else None
        return Reached(self._clock() - began, ahead, host)

    def sign_in(self) -> None:
        """Make sure of a token. Raises MomentFault or SetupFault."""
        self._current_token()

    def _upload_once(self, image: bytes, image_type: str) -> Uploaded:
        token = self._current_token()
        body = Body(image, image_type)
        headers = {"Authorization": f"Bearer {token.value}", "Content-Type": body.content_type}
        try:
            answer, log_id = self._post(UPLOAD_PATHS[self._settings.api], body, headers, upload=True)
        except TokenFault:
            self._forget(token)
            raise
        data = answer.get("data")
        key = data.get("image_key") if isinstance(data, dict) else None
        if not isinstance(key, str) or not key:
            raise MomentFault("Lark's answer holds no image_key", log_id=log_id)
        return Uploaded(key, log_id)

    def _current_token(self) -> Token:
        """The token to use now. One thread renews it ahead of its end while the others go on with the old one."""
        token, now = self._token, self._clock()
        if token and now < token.renew_at:
            return token
        usable = token is not None and now < token.ends_at
        with nullcontext() if usable else waiting:
            if not self._renewing.acquire(blocking=not usable) and token:
                return token
        try:
            if self._token is None or self._token is token:
                self._token = self._fetch_token()
        except MomentFault:
            if not usable or token is None:
                raise
            self._token = Token(token.value, now + RENEW_AGAIN, token.ends_at)
        finally:
            self._renewing.release()
        return self._token

    def _fetch_token(self) -> Token:
        asked = self._clock()
        secret = self._settings.app_secret.get_secret_value()
        body = json.dumps({"app_id": self._settings.app_id, "app_secret": secret}).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer, log_id = self._post(TOKEN_PATH, body, headers, upload=False)
        value, lifetime = answer.get("tenant_access_token"), answer.get("expire")
        if not isinstance(value, str) or not value or not isinstance(lifetime, int | float):
            raise MomentFault("Lark's answer holds no tenant_access_token", log_id=log_id)
        return Token(value, asked + lifetime - min(RENEW_AHEAD, lifetime / 2), asked + lifetime)

    def _forget(self, token: Token) -> None:
        """The platform refused ``token``: the next call fetches a new one, unless another thread already has."""
        with self._renewing:
            if self._token is token and not self._fixed:
                self._token = None

    def _post(
        self, path: str, body: Body | bytes, headers: dict[str, str], *, upload: bool
    ) -> tuple[dict[str, Any], str]:
        """One call: the JSON object of an answer with code 0, and its log id. Everything else is raised as a fault."""
        timeout = urllib3.Timeout(connect=self._settings.connect_timeout, read=self._settings.read_timeout)
        try:
            with closing(self._send(path, body, headers, timeout)) as response:
                text = response.read(LONGEST_ANSWER, decode_content=True)
                status, answered = response.status, response.headers
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _transport_fault(error) from error
        log_id = answered.get("X-Tt-Logid", "")
        wait = _seconds(answered.get("x-ogw-ratelimit-reset") or answered.get("Retry-After"))
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        code = answer.get("code") if isinstance(answer, dict) else None
        if not isinstance(code, int):
            raise codes.status_fault(status, log_id, retry_after=wait)
        if code != 0:
            raise codes.fault(code, str(answer.get("msg", "")), log_id, upload=upload, retry_after=wait)
        return answer, log_id

    def _send(
        self, path: str, body: Body | bytes, headers: dict[str, str], timeout: urllib3.Timeout
    ) -> urllib3.BaseHTTPResponse:
        """One POST by this thread's connection; a redirect is an answer like any other."""
        line = self._line(path)
        return line.pool.urlopen(
            "POST", line.target, body, {"User-Agent": AGENT, **headers, "Content-Length": str(len(body))},
            retries=False, redirect=False, assert_same_host=False, timeout=timeout, preload_content=False,
        )  # fmt: skip

    def _line(self, path: str) -> _Line:
        """This thread's line to a path. requests settles it once, since Session.request() would for each call anew."""
        lines: dict[str, _Line] = self._local.__dict__.setdefault("lines", {})
        if path not in lines:
            session, url = self._session(), self._settings.base_url + path
            adapter = cast("HTTPAdapter", session.get_adapter(url))
            request = requests.Request("POST", url).prepare()
            verify = True if session.verify is None else session.verify
            found = adapter.get_connection_with_tls_context(request, verify, session.proxies)
            pool = cast("urllib3.HTTPConnectionPool", found)
            adapter.cert_verify(pool, url, verify, None)  # type: ignore[no-untyped-call]
            pool.ConnectionCls = _SecureInTurn if pool.scheme == "https" else _InTurn
            lines[path] = _Line(pool, adapter.request_url(request, session.proxies))
        return lines[path]

    def _session(self) -> requests.Session:
        """This thread's session. What the environment says of proxies and certificates is settled once."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            settled = session.merge_environment_settings(self._settings.base_url, {}, None, None, None)
            session.proxies, session.verify = settled["proxies"], settled["verify"]
            session.trust_env = False
            session.mount("https://", HTTPAdapter(pool_connections=1, pool_maxsize=1))
            self._local.session = session
        return session


def _seconds(text: str | None) -> float | None:
    """A header's wait; a date, which the platform never sends, counts as none."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _transport_fault(error: Exception) -> LarkdropError:
    """No answer, or half of one: whose fault by the exceptions' types, never by their text."""
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return SetupFault(
            "the server's certificate can't be verified",
            hint="Check base_url and this machine's clock; behind an inspecting proxy set REQUESTS_CA_BUNDLE.",
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return SetupFault("base_url or the proxy's URL can't be used", hint="Check base_url and HTTPS_PROXY.")
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, requests.exceptions.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError) and not refused:
        return MomentFault("no connection to Lark within connect_timeout")
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError) and not refused:
        return MomentFault("no answer from Lark within read_timeout")
    return MomentFault(f"the connection to Lark failed ({type(causes[-1]).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all it wraps or came from, the innermost last."""
    seen: list[BaseException] = []
    stack: list[object] = [error]
    while stack:
        cause = stack.pop()
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            stack += [cause.__context__, cause.__cause__, getattr(cause, "reason", None), *cause.args]
