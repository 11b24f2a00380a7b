"""Content to image_key, remembered for ever: the same bytes are never uploaded twice for the same app."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import astuple, dataclass
from itertools import count
from pathlib import Path
from typing import Self

import structlog

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    host TEXT, app_id TEXT, api TEXT, image_type TEXT, sha256 TEXT,
    image_key TEXT NOT NULL, log_id TEXT NOT NULL, uploaded_at TEXT NOT NULL,
    PRIMARY KEY (host, app_id, api, image_type, sha256)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Content:
    """What a key belongs to: these bytes, for this app on this Lark, through this api, as this type of image."""

    host: str
    app_id: str
    api: str
    image_type: str
    sha256: str


@dataclass(frozen=True)
class Known:
    """What the platform once answered for a content."""

    image_key: str
    log_id: str
    uploaded_at: str  # RFC 3339, UTC


class KeyCache:
    """A SQLite file; a context manager. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self._db = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._db:
                self._db.close()
                self._db = None

    def get(self, content: Content) -> Known | None:
        """The key of a content, or None. Raises sqlite3.Error."""
        sql = (
            "SELECT image_key, log_id, uploaded_at FROM keys"
            " WHERE host=? AND app_id=? AND api=? AND image_type=? AND sha256=?"
        )
        rows = self._run(sql, astuple(content))
        return Known(*rows[0]) if rows else None

    def put(self, content: Content, known: Known) -> None:
        """Remember a key, durably: a power cut after this loses nothing. Raises sqlite3.Error."""
        self._run("INSERT OR REPLACE INTO keys VALUES (?,?,?,?,?,?,?,?)", (*astuple(content), *astuple(known)))

    def _run(self, sql: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
        with self._lock:
            if self._db is None:
                raise sqlite3.ProgrammingError("the key cache is not open")
            try:
                with self._db:
                    return self._db.execute(sql, values).fetchall()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._db.close()
                self._db = None
                self._db = self._open()
                with self._db:
                    return self._db.execute(sql, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        """Open the file; one that is damaged or no key cache is set aside, and a new one begun."""
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            aside = self._put_aside()
            self._log.error(
                "key_cache_damaged",
                path=str(self.path),
                reason=str(error),
                set_aside=str(aside),
                hint="A new one was begun; files that have a sidecar stay as they are.",
            )
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=10)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(SCHEMA)
            db.execute("SELECT image_key, log_id, uploaded_at FROM keys WHERE sha256='' AND host=''").fetchall()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _put_aside(self) -> Path:
        names = (self.path.with_name(f"{self.path.name}.damaged-{n}") for n in count(1))
        aside = next(name for name in names if not name.exists())
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return aside


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is at fault, and not the disk or a lock."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or name == "SQLITE_ERROR"
