"""A Unix socket by which commands ask the running daemon, and its answers; without one, they answer themselves.

One line of JSON each way: ``{"ask": "explain", "paths": […]}``, and the answer, ``{"error": …}`` where there is none.
For ``fleet_keys`` a ``KeyQuery`` stands in place of each path.
Who may open the state folder may ask.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from larkdrop.config.settings import Settings
from larkdrop.errors import NotAvailable
from larkdrop.fleet.facts import KeyQuery
from larkdrop.records.index import Index
from larkdrop.service.explain import explain
from larkdrop.service.parts import Parts
from larkdrop.service.retry import retry
from larkdrop.service.status import status

NAME = "control"
# Seconds to wait for the other side.
TIMEOUT = 10.0
# Where the machine has none left of something, a question waits; and for how many seconds until the next look.
SHORTAGES, PAUSE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}), 0.1
# Bytes of a question or an answer; one with thousands of paths is still a line.
MAX_LINE = 64 * 1024 * 1024


@contextmanager
def answering(state_dir: Path, answer: Callable[[str, Sequence[str]], Any]) -> Iterator[None]:
    """Answer one question at a time with what ``answer(question, paths)`` returns, until this ends."""
    place, bound = state_dir / NAME, None
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            place.unlink(missing_ok=True)
            with _short_path(state_dir) as path:
                listener.bind(path)
                os.chmod(path, 0o660)
                bound = os.stat(path)
            listener.listen()
            threading.Thread(target=_serve, args=(listener, answer), name="control", daemon=True).start()
        except OSError as error:
            # Some file systems have no sockets. Uploads need none.
            hint = "`larkdrop status` can't ask this larkdrop; put state.dir on a local file system."
            structlog.get_logger().warning("no_control", path=str(state_dir), reason=error.strerror, hint=hint)
        try:
            yield
        finally:
            with suppress(OSError):
                if bound and os.path.samestat(bound, place.stat()):  # not that of another larkdrop by now
                    place.unlink()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, answer: Callable[[str, Sequence[str]], Any]) -> None:
    while True:
        try:
            asker, _ = listener.accept()
        except OSError as error:
            if error.errno not in SHORTAGES:  # it was closed
                return
            time.sleep(PAUSE)
            continue
        with asker, suppress(OSError):
            asker.settimeout(TIMEOUT)
            _send(asker, _answer_to(_receive(asker), answer))


def _answer_to(line: bytes, answer: Callable[[str, Sequence[str]], Any]) -> Any:
    try:
        asked = json.loads(line)
        return answer(asked["ask"], asked.get("paths", ()))
    except NotAvailable as error:
        return {"error": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - a question must not end the daemon
        hint = "This is a bug of larkdrop; please report it. Uploads go on."
        structlog.get_logger().error("unexpected", reason=repr(error), hint=hint)
        return {"error": f"the running larkdrop could not answer: {error!r}", "hint": "Check its log."}


def ask(state_dir: Path, question: str, paths: Sequence[Any] = ()) -> Any:
    """The running daemon's answer, or None where none runs on this state folder.

    Raises NotAvailable where it may not be asked or can't answer.
    """
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.settimeout(TIMEOUT)
        try:
            with _short_path(state_dir) as path:
                daemon.connect(path)
            _send(daemon, {"ask": question, "paths": paths})
            answer = json.loads(_receive(daemon))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            hint = "Run it as larkdrop's user, as one of its group, or as root."
            raise NotAvailable(f"the state folder {state_dir} can't be opened", hint=hint) from error
        except (OSError, ValueError) as error:
            message = f"the running larkdrop did not answer ({type(error).__name__})"
            raise NotAvailable(message, hint="Check its log; restart it.") from error
    if isinstance(answer, dict) and "error" in answer:
        raise NotAvailable(answer["error"], hint=answer["hint"])
    return answer


def answer(question: str, paths: Sequence[Any], settings: Settings, live: Parts | None) -> Any:
    """The answer as JSON, by what is ``live``; without a daemon, from the folders and the key cache only."""
    with Index(settings.key_cache) as index:
        match question:
            case "status":
                return status(settings, index, live)
            case "explain":
                return [asdict(one) for one in explain(paths, settings, index, live)]
            case "retry":
                return [asdict(one) for one in retry(paths, settings, index, live)]
            case "fleet_hosts" | "fleet_keys":
                from larkdrop.fleet.overview import overview  # noqa: PLC0415 - loads the driver of the database

                with overview(settings) as fleet:
                    if question == "fleet_hosts":
                        return [asdict(one) for one in fleet.hosts()]
                    return [[asdict(key) for key in fleet.keys(KeyQuery(**query))] for query in paths]
    raise ValueError(f"there is no question {question!r}")


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
    with connection.makefile("rb") as lines:
        return lines.readline(MAX_LINE)
