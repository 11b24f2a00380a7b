"""The connection to the fleet's database: every question has a time-out, and each trouble is one sentence.

Every call is one statement in autocommit mode and keeps nothing in the session, so that PgBouncer may stand between.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from larkdrop.errors import LarkdropError
from larkdrop.lark.deadline import Deadlines, Overdue

# Seconds to wait for a connection, and for the answer to a call.
CONNECT_SECONDS, CALL_SECONDS = 5, 2.0
SET_UP = "See docs/fleet.md for how the database is set up."
STANDBY = "Name the primary in fleet.url, or all of them with target_session_attrs=read-write."
# What is to be done, by PostgreSQL's code of an error.
HINTS = {
    "25006": STANDBY,
    "3F000": SET_UP,
    "42501": f"The user lacks a right. {SET_UP}",
    "42883": SET_UP,
    "42P01": SET_UP,
    "53100": "Its disk is full: make room there.",
    "53300": "Raise max_connections, or put PgBouncer between.",
    "57P03": "It is starting or stopping; larkdrop tries again by itself.",
}
# The same, by words of an error that has no code, since no connection came about.
WORDS = {
    "password": "Check the password: in LARKDROP_FLEET__URL, in the systemd credential fleet_url, or in PGPASSFILE.",
    "pg_hba.conf": "Let this host in: pg_hba.conf of the database.",
    "certificate": "Check sslrootcert in fleet.url, the file of the authority that signed the database's certificate.",
    "SSL": "Check sslmode in fleet.url, and whether the database offers TLS.",
    "does not exist": SET_UP,
    "resolve": "Check the name of the host in fleet.url.",
    "refused": "Check whether PostgreSQL is running, and host and port in fleet.url.",
    "timeout": "Check the network, and host and port in fleet.url.",
    "too many clients": "Raise max_connections, or put PgBouncer between.",
}  # fmt: skip
AGAIN = "larkdrop tries again by itself."


class Away(LarkdropError):
    """The database can't be used now."""


class Database:
    """One connection, opened by ``connect`` and closed by its first failure. Thread-safe; a context manager."""

    def __init__(self, url: str, name: str) -> None:
        """``name`` is what the database is told who asks."""
        self._url = url
        self._name = name
        self._lock = threading.Lock()
        self._deadlines = Deadlines()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._why = Away("there is no connection to the database", hint=AGAIN)  # where there is none

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """Host and database, as a person reads them."""
        try:
            parts = conninfo_to_dict(self._url)
        except psycopg.Error:
            return "the database"
        return f"{parts.get('host') or 'localhost'}/{parts.get('dbname') or parts.get('user') or ''}"

    def connect(self) -> None:
        """Open the connection anew. Raises Away."""
        self.close()
        try:
            connection = psycopg.connect(
                self._url, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_SECONDS,
                client_encoding="utf8", application_name=self._name,
                tcp_user_timeout=10_000, keepalives_idle=30,  # ms, s
            )  # fmt: skip
        except psycopg.ProgrammingError:  # its text quotes the URL
            raise Away("fleet.url can't be read", hint="Check it; write special characters as %40 for @.") from None
        except psycopg.Error as error:
            raise away(error) from None
        with self._lock:
            self._connection = connection

    def check(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The connection. Raises Away where it was lost, with the reason of that."""
        if self._connection is None:
            raise Away(self._why.message, hint=self._why.hint)
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    def ask(self, query: str, values: Sequence[object] = (), *, seconds: float = CALL_SECONDS) -> list[tuple[Any, ...]]:
        """The rows of one statement; none where it has no result. Raises Away, also where it takes longer."""
        if not self._lock.acquire(timeout=CONNECT_SECONDS):
            raise Away("the database does not answer", hint=AGAIN)
        try:
            connection = self.check()
            with self._deadlines.within(seconds, lambda: _cut(connection)):
                cursor = connection.execute(query, values or None)
                return cursor.fetchall() if cursor.description else []
        except (Overdue, psycopg.Error) as error:
            self._close()
            late = Away(f"the database did not answer within {seconds:.0f} s", hint=AGAIN)
            self._why = late if isinstance(error, Overdue) else away(error)
            raise self._why from None
        finally:
            self._lock.release()

    def _close(self) -> None:
        if self._connection:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def away(error: psycopg.Error) -> Away:
    """What PostgreSQL said, in a sentence, and what to do."""
    if error.sqlstate:
        message = (error.diag.message_primary or str(error)).strip()
        return Away(f"PostgreSQL says: {message}", hint=HINTS.get(error.sqlstate, AGAIN))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = next((line for line in lines if "FATAL" in line), lines[0] if lines else "connection lost")
    message = re.sub(r"^connection (failed|to server).*?(FATAL|error):\s*", "", message)
    message = message.removeprefix("connection failed: ")
    hint = next((hint for word, hint in WORDS.items() if word in message), AGAIN)
    return Away(f"the connection failed: {message}", hint=hint)


def _cut(connection: psycopg.Connection[Any]) -> None:
    """End whatever waits for the connection, from another thread."""
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as copy:
        copy.shutdown(socket.SHUT_RDWR)
