"""What systemd is told: ready, what larkdrop does, that it gets on, and that it stops; and how lines reach its journal.

The unit (``systemd/larkdrop.service``) has systemd restart larkdrop where it crashes or ends with 1, since the state
folder or the key cache is gone (``daemon.py``), and where the watchdog is not fed, since a part is stuck
(``liveness.py``).

Sources: sd_notify(3), sd-daemon(3), systemd.exec(5) on $JOURNAL_STREAM.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from larkdrop.service.texts import printable

# Seconds by which each word while stopping or starting puts off systemd's time-out.
EXTENSION = 10.0
# What a line for the journal begins with.
PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>"}


def to_journal() -> bool:
    """Whether standard error is the journal's: systemd names its device and inode."""
    status = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Systemd:
    """The socket in ``$NOTIFY_SOCKET``; without one, every word goes nowhere."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        self._status = ""
        self._extended = 0.0
        self._fed = 0.0
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 if mine else 0.0

    def ready(self) -> None:
        """The service does its work from now on."""
        self._say("READY=1")

    def status(self, text: str) -> None:
        """What it does, in one line; said where it changed."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={printable(text)}")  # a folder's name may hold a newline, and another message

    def alive(self) -> None:
        """It gets on: don't restart it. Said four times in each time-out."""
        now = time.monotonic()
        if self.watchdog_seconds and now - self._fed >= self.watchdog_seconds / 4:
            self._fed = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """It was asked to stop, and does."""
        self._extended = 0.0
        self._say("STOPPING=1")

    def extend(self) -> None:
        """Starting or stopping goes on: don't kill it yet."""
        now = time.monotonic()
        if now - self._extended >= EXTENSION / 4:
            self._extended = now
            self._say(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")

    def _say(self, text: str) -> None:
        if self._socket:
            with suppress(OSError):  # where nobody listens, the work goes on all the same
                self._socket.sendto(text.encode("utf-8", "replace"), self._address)
