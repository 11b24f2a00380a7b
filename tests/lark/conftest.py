"""A server that shows what the client sends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.lark.wire import one_request


@pytest.fixture
def raw() -> Iterator[tuple[int, list[bytes], list[bytes]]]:
    """A server that keeps what comes, and answers with what it was given: port, requests, answers."""
    asked: list[bytes] = []
    answers: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                while answers:
                    text = one_request(connection)
                    if not text:
                        break
                    asked.append(text)
                    connection.sendall(answers.pop(0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], asked, answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
