"""A Unix socket in the state folder, by which commands ask the running daemon.

One line of JSON each way: ``{"ask": "explain", "paths": […]}``, and the answer, ``{"error": …}`` where there is none.
Who may open the state folder may ask.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import structlog

from larkdrop.errors import NotAvailable

NAME = "control"
# Seconds to wait for the other side.
TIMEOUT = 10.0
# Bytes of a question or an answer; one with thousands of paths is still a line.
MAX_LINE = 64 * 1024 * 1024


class Control:
    """Answers one question at a time with what ``answer(question, paths)`` returns; a context manager."""

    def __init__(self, state_dir: Path, answer: Callable[[str, Sequence[str]], Any]) -> None:
        self._state_dir = state_dir
        self._answer = answer
        self._socket: socket.socket | None = None
        self._bound: os.stat_result | None = None

    def __enter__(self) -> Self:
        listener = _unix_socket()
        try:
            (self._state_dir / NAME).unlink(missing_ok=True)
            with _short_path(self._state_dir) as path:
                listener.bind(path)
                os.chmod(path, 0o660)
                self._bound = os.stat(path)
            listener.listen()
        except OSError as error:
            # Some file systems have no sockets. Uploads need none.
            listener.close()
            hint = "`larkdrop status` can't ask this larkdrop; put state.dir on a local file system."
            structlog.get_logger().warning("no_control", path=str(self._state_dir), reason=error.strerror, hint=hint)
            return self
        self._socket = listener
        threading.Thread(target=self._serve, args=(listener,), name="control", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is None:
            return
        path = self._state_dir / NAME
        with suppress(OSError):
            if self._bound and os.path.samestat(self._bound, path.stat()):  # not that of another larkdrop by now
                path.unlink()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                asker, _ = listener.accept()
            except OSError:  # closed
                return
            with asker, suppress(OSError):
                asker.settimeout(TIMEOUT)
                _send(asker, self._answer_to(_receive(asker)))

    def _answer_to(self, line: bytes) -> Any:
        try:
            asked = json.loads(line)
            return self._answer(asked["ask"], asked.get("paths", ()))
        except Exception as error:  # noqa: BLE001 - a question must not end the daemon
            return {"error": f"{type(error).__name__}: {error}"}


def ask(state_dir: Path, question: str, paths: Sequence[str] = ()) -> Any:
    """The running daemon's answer, or None where none runs on this state folder.

    Raises NotAvailable where it may not be asked or can't answer.
    """
    with _unix_socket() as daemon:
        daemon.settimeout(TIMEOUT)
        try:
            with _short_path(state_dir) as path:
                daemon.connect(path)
            _send(daemon, {"ask": question, "paths": paths})
            answer = json.loads(_receive(daemon))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise NotAvailable(
                f"the state folder {state_dir} can't be opened",
                hint="Run it as larkdrop's user, as one of its group, or as root.",
            ) from error
        except (OSError, ValueError) as error:
            raise NotAvailable(
                f"the running larkdrop did not answer ({type(error).__name__})", hint="Check its log; restart it."
            ) from error
    if isinstance(answer, dict) and "error" in answer:
        raise NotAvailable(f"the running larkdrop could not answer: {answer['error']}", hint="Check its log.")
    return answer


def _unix_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)


@contextmanager
def _short_path(state_dir: Path) -> Iterator[str]:
    """The socket's path by way of an open folder, since a socket's path may have 107 bytes at most."""
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{NAME}"
    finally:
        os.close(folder)


def _send(connection: socket.socket, message: Any) -> None:
    connection.sendall(json.dumps(message).encode("ascii") + b"\n")


def _receive(connection: socket.socket) -> bytes:
    """Read up to the end of the line."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < MAX_LINE:
        received = connection.recv(65_536)
        if not received:
            break
        line += received
    return bytes(line)
