"""How bytes reach Lark: connections, proxies, time-outs; the only place that sees requests' exceptions."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.util.wait import wait_for_read

from larkdrop import __version__
from larkdrop.config.settings import Lark
from larkdrop.errors import LarkdropError, MomentFault, SetupFault
from larkdrop.progress import waiting

PROXIES = "Check base_url, and the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY."
# The exceptions of requests, and of urllib3 where it is used without requests.
UNUSABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationValueError,
    urllib3.exceptions.ProxySchemeUnknown,
)
TIMED_OUT_CONNECTING = (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)
TIMED_OUT = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)

# The platform's answers have a few hundred bytes; whatever is longer than this is none of them.
LONGEST_ANSWER = 64 * 1024
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
class Answer:
    """What came back, whatever it says; ``text`` is cut where it is longer than any answer of Lark's."""

    status: int
    headers: Mapping[str, str]
    text: bytes


@dataclass(frozen=True)
class Reached:
    """How the host answered."""

    seconds: float  # that it took
    clock_ahead: float | None  # seconds by which this machine's clock is ahead, where the host tells
    proxy: str  # ``host:port``, empty where there is none


class Transport:
    """Reaches one Lark. Thread-safe; each thread keeps its own connection alive."""

    def __init__(self, settings: Lark, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._local = threading.local()

    def post(self, path: str, body: Body | bytes, headers: dict[str, str]) -> Answer:
        """One POST; a redirect is an answer like any other. Raises MomentFault or SetupFault where none came."""
        timeout = urllib3.Timeout(connect=self._settings.connect_timeout, read=self._settings.read_timeout)
        headers = {"User-Agent": AGENT, **headers, "Content-Length": str(len(body))}
        try:
            line = self._line(path)
            response = line.pool.urlopen(
                "POST", line.target, body, headers, retries=False, redirect=False, assert_same_host=False,
                timeout=timeout, preload_content=False,
            )  # fmt: skip
            with closing(response):
                text = response.read(LONGEST_ANSWER, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._fault(error) from error
        return Answer(response.status, response.headers, text)

    def reach(self) -> Reached:
        """See whether the host answers at all. Raises MomentFault or SetupFault."""
        session, began = self._session(), self._clock()
        timeout = (self._settings.connect_timeout, self._settings.read_timeout)
        try:
            with session.head(self._settings.base_url, timeout=timeout, allow_redirects=False) as response:
                date = response.headers.get("Date", "")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._fault(error) from error
        try:
            ahead = time.time() - parsedate_to_datetime(date).timestamp()
        except ValueError:
            ahead = None
        return Reached(self._clock() - began, ahead, self.proxy)

    @property
    def proxy(self) -> str:
        """The proxy to reach Lark through, ``host:port`` without user and password; empty where there is none."""
        proxy = requests.utils.select_proxy(self._settings.base_url, self._session().proxies) or ""
        return proxy.rpartition("@")[2].rpartition("//")[2].rstrip("/")

    def _fault(self, error: Exception) -> LarkdropError:
        """No answer, or half of one: whose fault by the exceptions' types, never by their text."""
        causes = list(_causes(error))
        through = f" through the proxy {self.proxy}" if self.proxy else ""
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return SetupFault(
                "the server's certificate can't be verified",
                hint="Check base_url and this machine's clock; behind an inspecting proxy set REQUESTS_CA_BUNDLE.",
            )
        if isinstance(error, requests.exceptions.InvalidSchema) and not find_spec("socks"):
            return SetupFault(
                f"the proxy {self.proxy} speaks SOCKS, for which the package PySocks is needed",
                hint="Install it: pip install 'larkdrop[socks]'.",
            )
        if isinstance(error, UNUSABLE):
            return SetupFault(f"base_url or the URL of the proxy can't be used{through}", hint=PROXIES)
        refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
        if refused and self.proxy:
            return MomentFault(f"the proxy {self.proxy} refuses connections", hint=PROXIES)
        refused = refused or isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, TIMED_OUT_CONNECTING) and not refused:
            return MomentFault(f"no connection to Lark{through} within connect_timeout")
        if isinstance(error, TIMED_OUT) and not refused:
            return MomentFault(f"no answer from Lark{through} within read_timeout")
        return MomentFault(f"the connection to Lark{through} failed ({type(causes[-1]).__name__})")

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
            pool.ConnectionCls = _in_turn(cast("type[HTTPConnection]", pool.ConnectionCls))
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
        with waiting:
            if not isinstance(self.sock, socket.socket):  # TLS within a proxy's TLS can't tell that something came
                return super().getresponse()
            there = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
            if not there and not wait_for_read(self.sock, self.timeout):
                raise TimeoutError
        return super().getresponse()


def _in_turn(kind: type[HTTPConnection]) -> type[HTTPConnection]:
    """Connections of this kind (HTTPS, through a SOCKS proxy, …) that mark their waits."""
    return kind if issubclass(kind, _InTurn) else type(f"InTurn{kind.__name__}", (_InTurn, kind), {})


@dataclass(frozen=True)
class _Line:
    """One thread's connection for one address, as requests settled it: through which proxy, with which certificates."""

    pool: urllib3.HTTPConnectionPool
    target: str  # what stands in the request line


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all it wraps or came from, the innermost last."""
    seen: list[BaseException] = []
    stack: list[object] = [error]
    while stack:
        cause = stack.pop()
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            inner = [getattr(cause, name, None) for name in ("reason", "socket_err")]  # urllib3's, and PySocks'
            stack += [cause.__context__, cause.__cause__, *inner, *cause.args]
