"""A Unix socket in the state folder, by which commands ask the running daemon.

One line of JSON each way: ``{"ask": "status", …}``, and the answer, ``{"error": …}`` where it failed. Who may open the
state folder may ask.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import structlog

from larkdrop.errors import NotAvailable

NAME = "control"
# Seconds for the other side to say a line; a question with thousands of paths still is one.
PATIENCE = 10.0
LONGEST = 64 * 1024 * 1024


class Control:
    """Answers with what ``answer`` returns, one question at a time; a context manager."""

    def __init__(self, folder: Path, answer: Callable[[dict[str, Any]], Any]) -> None:
        self._folder = folder
        self._answer = answer
        self._socket: socket.socket | None = None
        self._made: os.stat_result | None = None

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                (self._folder / NAME).unlink()
            with _Short(self._folder) as place:
                self._socket.bind(place)
                os.chmod(place, 0o660)
                self._made = os.stat(place)
            self._socket.listen()
        except OSError as error:
            # Some file systems have no sockets. Uploads need none.
            self._socket.close()
            self._socket = None
            hint = "`larkdrop status` can't ask this larkdrop; put state.dir on a local file system."
            structlog.get_logger().warning("no_control", path=str(self._folder), reason=error.strerror, hint=hint)
            return self
        threading.Thread(target=self._serve, name="control", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._made and os.path.samestat(self._made, os.stat(self._folder / NAME)):  # not another's, meanwhile
                (self._folder / NAME).unlink()
        if self._socket:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _serve(self) -> None:
        while self._socket:
            try:
                asker, _ = self._socket.accept()
            except OSError:
                return
            with asker, suppress(OSError):
                asker.settimeout(PATIENCE)
                asker.sendall(json.dumps(self._answered(_line(asker))).encode("ascii") + b"\n")

    def _answered(self, line: bytes) -> Any:
        try:
            return self._answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - a question must not end the daemon
            return {"error": f"{type(error).__name__}: {error}"}


def ask(folder: Path, question: dict[str, Any]) -> Any:
    """The running daemon's answer, or None where none runs on this state folder.

    Raises NotAvailable where it may not be asked or can't answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(PATIENCE)
        try:
            with _Short(folder) as place:
                asking.connect(place)
            asking.sendall(json.dumps(question).encode("ascii") + b"\n")
            answer = json.loads(_line(asking))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise NotAvailable(
                f"the state folder {folder} can't be opened",
                hint="Run it as larkdrop's user, as one of its group, or as root.",
            ) from error
        except (OSError, ValueError) as error:
            raise NotAvailable(
                f"the running larkdrop did not answer ({type(error).__name__})", hint="Look at its log; restart it."
            ) from error
    if isinstance(answer, dict) and "error" in answer:
        raise NotAvailable(f"the running larkdrop could not answer: {answer['error']}", hint="Look at its log.")
    return answer


class _Short:
    """The socket's name by way of an open folder, since a socket's path may have 107 bytes at most."""

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self._folder = -1

    def __enter__(self) -> str:
        self._folder = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{NAME}"

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)


def _line(connection: socket.socket) -> bytes:
    """Read up to the end of the line."""
    pieces = bytearray()
    while not pieces.endswith(b"\n") and len(pieces) < LONGEST:
        piece = connection.recv(65_536)
        if not piece:
            break
        pieces += piece
    return bytes(pieces)
