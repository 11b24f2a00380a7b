"""A small HTTP server for those who watch larkdrop from outside: ``/metrics``, ``/healthz`` and ``/readyz``.

Nothing that is served holds a secret or the path of a picture.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Self

import structlog
from prometheus_client.exposition import choose_encoder

from larkdrop.config.validate import host_and_port
from larkdrop.pipeline.log_once import LogOnce
from larkdrop.service.metrics import Metrics
from larkdrop.service.parts import Parts
from larkdrop.service.status import needs
from larkdrop.service.texts import printable

TEXT = "text/plain; charset=utf-8"
# Connections at the same time; and seconds after which one is ended, however its bytes trickle in.
MOST_CONNECTIONS, LONGEST = 8, 10.0
# Seconds between looks at these, and until a connection is accepted again where the machine has no more files.
LOOK = 0.1
# Status, type and body of an answer.
Answer = tuple[int, str, bytes]


class Monitoring:
    """Serves on ``metrics.listen``; a context manager. Where that address can't be had, ``retry`` tries again."""

    def __init__(self, live: Parts, *, is_ready: Callable[[], bool]) -> None:
        self._live = live
        self._is_ready = is_ready
        self._log = structlog.get_logger()
        self._log_once = LogOnce()
        self._server: _Server | None = None
        self._said = False

    def __enter__(self) -> Self:
        self.retry()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def retry(self) -> None:
        """Begin to serve, if that is not done yet. What keeps it from that is said once; uploads go on."""
        if self._server:
            return
        listen = self._live.settings.metrics.listen
        try:
            self._server = _Server(*host_and_port(listen), self._answer)
        except OSError as error:
            if not self._said:
                hint = "Set another metrics.listen, or end what uses it; it is tried again by itself."
                self._log.error("no_metrics", listen=listen, reason=error.strerror or str(error), hint=hint)
            self._said = True
            return
        threading.Thread(target=self._server.serve_forever, args=(LOOK,), name="metrics", daemon=True).start()
        self._log.info("metrics", listen=listen)

    def _answer(self, path: str, accept: str) -> Answer:
        try:
            return self._find(path, accept)
        except Exception as error:  # noqa: BLE001 - a bug may cost an answer, but has to be said
            self._log_once(
                type(error), "error", "unexpected", path=path.partition("?")[0], reason=repr(error),
                hint="This is a bug of larkdrop; please report it. Uploads go on.",
            )  # fmt: skip
            return _say(500, "larkdrop can't answer; its log says why.")

    def _find(self, path: str, accept: str) -> Answer:
        match path.partition("?")[0]:
            case "/metrics":
                encode, kind = choose_encoder(accept)
                return 200, kind, encode(Metrics(self._live))
            case "/healthz":
                wanted = needs(self._live)
                return _say(503, printable(wanted[0])) if wanted else _say(200, "All is well.")
            case "/readyz":
                return _say(200, "larkdrop is ready.") if self._is_ready() else _say(503, "larkdrop starts or stops.")
        return _say(404, "There are /metrics, /healthz and /readyz.")


def _say(status: int, sentence: str) -> Answer:
    return status, TEXT, f"{sentence}\n".encode()


class _Server(ThreadingTCPServer):
    """A thread a connection, for a few at a time. Raises OSError where the address can't be had."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, host: str, port: int, answer: Callable[[str, str], Answer]) -> None:
        self.answer = answer
        self._connected: dict[socket.socket, float] = {}  # since when, in monotonic seconds
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises OSError where the machine is short of files: not again and again at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(LOOK)
            raise

    def verify_request(self, request: Any, _address: Any) -> bool:
        """Whether there is a place for one more connection."""
        if len(self._connected) >= MOST_CONNECTIONS:
            return False
        self._connected[request] = time.monotonic()
        return True

    def service_actions(self) -> None:
        """End the connections that take too long."""
        for connection, since in tuple(self._connected.items()):
            if time.monotonic() - since > LONGEST:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        self._connected.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Who asked went away, or asked nonsense."""


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: _Server

    def do_GET(self) -> None:
        status, kind, body = self.server.answer(self.path, self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - as http.server calls it

    def version_string(self) -> str:
        return "larkdrop"

    def log_message(self, *_: Any) -> None:
        """Being asked is no news."""
