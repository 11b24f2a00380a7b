"""Servers and clients for what the sandbox does not show: bytes as they stand on the wire."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from larkdrop.config.settings import Lark
from larkdrop.lark.client import Client


def one_request(connection: socket.socket) -> bytes:
    """The next request on a connection, head and body; what came of it where that was closed before."""
    text = b""
    while b"\r\n\r\n" not in text:
        if not (more := connection.recv(65536)):
            return text
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")).split()[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """An HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


def token_client(port: int) -> Client:
    """A client with a fixed token."""
    return Client(Lark(base_url=f"http://127.0.0.1:{port}", tenant_access_token="t-1"))


@contextmanager
def serving(converse: Callable[[socket.socket], object], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server of one connection, through which it speaks as it is told until the client closes it: its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

        def serve() -> None:
            connection, _ = listener.accept()
            with suppress(OSError):
                connection.settimeout(20)
                with tls.wrap_socket(connection, server_side=True) if tls else connection as spoken:
                    converse(spoken)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
