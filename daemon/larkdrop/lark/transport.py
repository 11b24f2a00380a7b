"""How bytes reach Lark: connections, proxies, time-outs; the only module that sees requests' exceptions."""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter

from larkdrop import __version__
from larkdrop.config.settings import Lark
from larkdrop.errors import LarkdropError, MomentFault, SetupFault
from larkdrop.lark.codes import PROXY_LOGIN
from larkdrop.lark.deadline import Deadlines, Overdue

PROXIES = "Check base_url, and the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY."
# The platform's answers have a few hundred bytes; a longer one comes from somebody else, and is cut.
LONGEST_ANSWER = 64 * 1024
# Bytes a second: a call's deadline leaves time to send its body over a line as slow as this.
SLOWEST_LINE = 64 * 1024
# Bytes that are sent at once, within connect_timeout. A body up to this size is joined, which costs less CPU.
PIECE = 128 * 1024
# Of all bodies; random, so that no picture contains it.
BOUNDARY = secrets.token_hex(16)
# An HTTP answer's status, headers and text, which is cut where it is longer than any answer of Lark's.
Answer = tuple[int, Mapping[str, str], bytes]


class Body:
    """A multipart/form-data body around a picture's bytes, which are not copied if they are many."""

    content_type = f"multipart/form-data; boundary={BOUNDARY}"

    def __init__(self, image: bytes, image_type: str) -> None:
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image_type"\r\n\r\n{image_type}\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode("ascii")
        tail = f"\r\n--{BOUNDARY}--\r\n".encode("ascii")
        self._parts = [b"".join((head, image, tail))] if len(image) <= PIECE else [head, image, tail]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[memoryview]:
        for part in self._parts:
            view = memoryview(part)
            yield from (view[at : at + PIECE] for at in range(0, len(part), PIECE))


class Transport:
    """Reaches one Lark. Thread-safe: a connection serves one call at a time, and is kept for the next one."""

    def __init__(self, settings: Lark) -> None:
        self._settings = settings
        # What the environment says of proxies and certificates is read once, since for each call it costs too much.
        self._environment: dict[str, Any] = dict(
            requests.Session().merge_environment_settings(settings.base_url, {}, stream=True, verify=None, cert=None)
        )
        self._idle: list[_Line] = []  # the one used last comes last
        self._prepared: dict[str, requests.PreparedRequest] = {}
        self._deadlines = Deadlines()

    def reach(self) -> tuple[float, float | None]:
        """See whether the host answers at all, without a token. Raises MomentFault or SetupFault.

        Returns the seconds that it took, and by how many this machine's clock is ahead; None where Lark doesn't tell.
        """
        began = time.monotonic()
        _, headers, _ = self.call("HEAD", "/", b"", {})
        seconds = time.monotonic() - began
        try:
            ahead = time.time() - parsedate_to_datetime(headers.get("Date", "")).timestamp()
        except ValueError:
            ahead = None
        return seconds, ahead

    def deadline(self, size: int) -> float:
        """Seconds after which a call that sends ``size`` bytes is ended."""
        return self._settings.connect_timeout + size / SLOWEST_LINE + self._settings.read_timeout

    @property
    def proxy(self) -> str:
        """The proxy to reach Lark through, ``host:port`` without user and password; empty where there is none."""
        proxy = requests.utils.select_proxy(self._settings.base_url, self._environment["proxies"]) or ""
        return proxy.rpartition("@")[2].rpartition("//")[2].rstrip("/")

    def call(self, method: str, path: str, body: Body | bytes, headers: dict[str, str]) -> Answer:
        """One call; a redirect is an answer like any other. Raises MomentFault or SetupFault where none came."""
        # The system may still be sending a large part of the body when the wait for the answer begins.
        timeout = (self._settings.connect_timeout, self._settings.read_timeout + len(body) / SLOWEST_LINE)
        try:
            line = self._idle.pop()
        except IndexError:
            line = _Line()
        try:
            request = self._request(method, path)
            request.headers.update(headers | {"Content-Length": str(len(body))})
            request.body = cast("Any", body)
            with (
                self._deadlines.within(self.deadline(len(body)), line.shut_down) as deadline,
                line.send(request, timeout=timeout, **self._environment) as response,
            ):
                deadline.end = response.raw.shutdown  # the line may have given its connection away
                text = response.raw.read(LONGEST_ANSWER, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:  # all of requests' are OSErrors
            raise self._fault(error) from error
        finally:
            self._idle.append(line)
        return response.status_code, response.headers, text

    def _request(self, method: str, path: str) -> requests.PreparedRequest:
        """A request without a body, prepared once, since its URL alone costs 0.1 ms."""
        if path not in self._prepared:
            headers = {"User-Agent": f"larkdrop/{__version__}"}
            self._prepared[path] = requests.Request(method, self._settings.base_url + path, headers).prepare()
        return self._prepared[path].copy()

    def _fault(self, error: Exception) -> LarkdropError:
        """No answer, or half of one: whose fault by the exceptions' types, but for a proxy's status."""
        causes = list(_causes(error))
        through = f" through the proxy {self.proxy}" if self.proxy else ""
        if isinstance(error, Overdue):
            return MomentFault(
                f"the call to Lark{through} was {error}, so its connection was closed",
                hint="Something on the way is very slow; a larger read_timeout in [lark] gives calls more time.",
            )
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return SetupFault(
                "the server's certificate can't be verified",
                hint="Check base_url and this machine's clock; behind an inspecting proxy set REQUESTS_CA_BUNDLE.",
            )
        bundle = self._environment["verify"]
        if isinstance(bundle, str) and not os.path.exists(bundle):
            return SetupFault(f"there is no {bundle}", hint="Correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.")
        # http.client tells the proxy's status in words only.
        if tunnel := next((str(cause) for cause in causes if str(cause).startswith("Tunnel connection failed: ")), ""):
            said = f"the proxy {self.proxy} does not connect to Lark ({tunnel.partition(': ')[2]})"
            wants_password = ": 407" in tunnel
            return SetupFault(said, hint=PROXY_LOGIN) if wants_password else MomentFault(said, hint=PROXIES)
        if isinstance(error, requests.exceptions.InvalidSchema) and not find_spec("socks"):
            return SetupFault(
                f"the proxy {self.proxy} speaks SOCKS, for which the package PySocks is needed",
                hint="Install it, in a checkout: pip install '.[socks]'.",
            )
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            return SetupFault(f"base_url or the URL of the proxy can't be used{through}", hint=PROXIES)
        if self.proxy and any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return MomentFault(f"the proxy {self.proxy} refuses connections", hint=PROXIES)
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return MomentFault(f"no connection to Lark{through} within connect_timeout")
        if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in causes):
            return MomentFault(f"no answer from Lark{through} within read_timeout")
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return MomentFault(f"sending to Lark{through} stood still for connect_timeout")
        return MomentFault(f"the connection to Lark{through} failed ({type(causes[-1]).__name__})")


class _Line(HTTPAdapter):
    """requests' way to one host, with one connection, which it knows so that a call can be ended from outside."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._connection: Any = None
        self._pool: urllib3.HTTPConnectionPool | None = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> urllib3.HTTPConnectionPool:
        """The pool that requests chose. urllib3 lets others make its connections: that is its ``ConnectionCls``."""
        if self._pool is None:
            self._pool = cast("urllib3.HTTPConnectionPool", super().get_connection_with_tls_context(*args, **kwargs))
            self._pool.ConnectionCls = cast("Any", partial(self._connect, self._pool.ConnectionCls))
        return self._pool

    def _connect(self, kind: type[Any], *args: Any, **kwargs: Any) -> Any:
        self._connection = kind(*args, **kwargs)
        return self._connection

    def shut_down(self) -> None:
        """End the call in hand. Nothing happens where it is not connected yet."""
        sock = getattr(self._connection, "sock", None)
        sock = getattr(sock, "socket", sock)  # of TLS within a proxy's TLS
        if isinstance(sock, socket.socket):
            # That of an SSLSocket would first make it a plain socket, under a call that may be sending.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those in whose handling it was raised, the innermost last."""
    while error is not None:
        yield error
        error = error.__context__
