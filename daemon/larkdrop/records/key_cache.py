"""What was uploaded, remembered forever, in one SQLite file.

Content to image_key, so that the same bytes are uploaded once: asked by ``pipeline/worker.py``, which asks
``pipeline/dedupe.py`` too, where the key is still on its way. Besides, for the commands: the outcomes of every path,
and how many uploads a day.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import structlog

from larkdrop.config.settings import Lark
from larkdrop.records.durable import still_named
from larkdrop.records.sidecar_fields import Record

T = TypeVar("T")

# Paths are bytes, as the file system has them. "place" is where the image was moved to, empty where it was deleted,
# NULL where it was kept. A path has a row for every content and place: the same picture dropped again replaces its own.
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    host TEXT, app_id TEXT, api TEXT, image_type TEXT, sha256 TEXT,
    image_key TEXT NOT NULL, log_id TEXT NOT NULL, uploaded_at TEXT NOT NULL, uploaded_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (host, app_id, api, image_type, sha256)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, watch BLOB NOT NULL, status TEXT NOT NULL, at TEXT NOT NULL,
    image_key TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL, reused INTEGER NOT NULL, error TEXT,
    place BLOB
);
CREATE TABLE IF NOT EXISTS uploads (day TEXT PRIMARY KEY, made INTEGER NOT NULL) WITHOUT ROWID;
"""
INDEXES = """
CREATE UNIQUE INDEX IF NOT EXISTS outcomes_content ON outcomes (sha256, path, ifnull(place, 0));
CREATE INDEX IF NOT EXISTS outcomes_path ON outcomes (path);
CREATE INDEX IF NOT EXISTS outcomes_place ON outcomes (place) WHERE place > x'';
CREATE INDEX IF NOT EXISTS outcomes_at ON outcomes (at);
CREATE INDEX IF NOT EXISTS outcomes_rejected ON outcomes (path) WHERE status = 'rejected';
"""
# The first schema had a table "files" with one row a path.
MIGRATE = """
BEGIN IMMEDIATE;
INSERT OR IGNORE INTO outcomes (path, watch, status, at, image_key, sha256, size, reused, error, place)
    SELECT path, watch, status, at, image_key, sha256, size, reused, error, place FROM files;
DROP TABLE files;
COMMIT;
"""
# Of hosts that share an app: which one uploaded it, where that was another; what they are to be told (`outbox.py`).
ADD_UPLOADED_BY = "ALTER TABLE keys ADD COLUMN uploaded_by TEXT NOT NULL DEFAULT ''"
SHARING = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT, app_id TEXT, api TEXT, image_type TEXT, sha256 TEXT, file BLOB,
    size INTEGER
);
CREATE TABLE IF NOT EXISTS fleet (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# What is got meanwhile is not in the outbox: all is sent when this host shares again.
NOT_SHARING = "DROP TABLE IF EXISTS outbox; DROP TABLE IF EXISTS fleet;"
PUT_OUTBOX = "INSERT INTO outbox VALUES (NULL,?,?,?,?,?,?,?)"
PUT_KEY = "INSERT OR REPLACE INTO keys VALUES (?,?,?,?,?,?,?,?,?)"
PUT_OUTCOME = "INSERT OR REPLACE INTO outcomes VALUES (NULL,?,?,?,?,?,?,?,?,?,NULL)"
PUT_PLACE = (
    "UPDATE OR REPLACE outcomes SET place = ? WHERE id = (SELECT max(id) FROM outcomes WHERE path = ? AND sha256 = ?)"
)
PUT_UPLOADS = "INSERT INTO uploads VALUES (?,?) ON CONFLICT (day) DO UPDATE SET made = made + excluded.made"
GET_KEY = """
SELECT image_key, log_id, uploaded_by FROM keys WHERE host=? AND app_id=? AND api=? AND image_type=? AND sha256=?
"""


class Content(NamedTuple):
    """What a key belongs to: these bytes, for this app on this Lark, through this api, as this type of image."""

    host: str
    app_id: str
    api: str
    image_type: str
    sha256: str

    @classmethod
    def of(cls, lark: Lark, image_type: str, sha256: str) -> Content:
        """As it is configured."""
        return cls(lark.base_url, lark.scope, lark.api, image_type, sha256)


@dataclass(frozen=True)
class Known:
    """What the platform once answered for a content."""

    image_key: str
    log_id: str
    uploaded_by: str = ""  # which host, where it was another one
    is_new_here: bool = False  # only other hosts have it in their key caches so far


@dataclass(frozen=True)
class Row:
    """What became of a file, as it is kept; ``content`` is what a new key belongs to, None where it brought none."""

    path: str
    watch: str
    record: Record
    content: Content | None


@dataclass(eq=False)
class _Commit:
    """Rows that are written together, and what came of it."""

    rows: list[Row] = field(default_factory=list)
    failed: BaseException | None = None


@dataclass(eq=False)
class _Connection:
    """A connection, for one thread at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    db: sqlite3.Connection | None = None


class KeyCache:
    """A SQLite file; a context manager. Thread-safe; nobody who asks for a key waits for a commit."""

    def __init__(self, path: Path, *, shares: bool = False) -> None:
        """``shares``: other hosts are to be told of its keys."""
        self.path = path
        self._shares = shares
        self._log = structlog.get_logger()
        self._reads, self._writes = _Connection(), _Connection()
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._next = _Commit()
        self._in_use = False
        self._file: os.stat_result | None = None  # as it was opened

    def __enter__(self) -> Self:
        with self._reads.lock, self._writes.lock:
            self._open()
            self._in_use = True
        return self

    def __exit__(self, *_: object) -> None:
        with self._reads.lock, self._writes.lock:
            self._in_use = False
            self._close()

    @property
    def in_place(self) -> bool:
        """Whether the file that was opened still has its name: what is written to a removed one is lost."""
        file = self._file
        return file is None or still_named(self.path, file)

    def get(self, content: Content) -> Known | None:
        """The key of a content, or None. Raises sqlite3.Error."""
        rows = self.read(lambda db: db.execute(GET_KEY, content).fetchall())
        return Known(*rows[0]) if rows else None

    def put(self, row: Row) -> None:
        """Remember an outcome, durably: a power cut after this loses nothing. Raises sqlite3.Error.

        What comes while another thread commits goes together into the next commit.
        """
        with self._lock:
            commit = self._next
            commit.rows.append(row)
        with self._committing:
            if commit is self._next:  # else another thread took it along
                with self._lock:
                    self._next = _Commit()
                try:
                    self._write(commit.rows)
                except BaseException as error:  # noqa: BLE001 - every thread has to know
                    commit.failed = error
        if commit.failed:
            raise commit.failed

    def _write(self, rows: Sequence[Row]) -> None:
        keys = [(row.content, row) for row in rows if row.content]
        uploaded = [(content, row) for content, row in keys if not row.record.reused]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(PUT_OUTCOME, map(_values, rows))
            db.executemany(PUT_KEY, ((*content, *_answer(row.record)) for content, row in keys))
            if uploaded:
                today = f"{date.today():%Y-%m-%d}"  # noqa: DTZ011 - the user's day
                db.execute(PUT_UPLOADS, (today, len(uploaded)))
            if self._shares:
                sent = ((*content, os.fsencode(row.path), row.record.size) for content, row in uploaded)
                db.executemany(PUT_OUTBOX, sent)

        self.write(write)

    def moved(self, path: str, sha256: str, place: str) -> None:
        """Remember where an image went: to ``place``, or it was deleted where that is empty. Raises sqlite3.Error."""
        self.write(lambda db: db.execute(PUT_PLACE, (os.fsencode(place), os.fsencode(path), sha256)))

    def read(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """What ``action`` finds out. Raises sqlite3.Error."""
        return self._run(self._reads, action)

    def write(self, action: Callable[[sqlite3.Connection], object]) -> None:
        """A transaction: all that ``action`` changes, durably. Raises sqlite3.Error."""
        self._run(self._writes, action)

    def _run(self, connection: _Connection, action: Callable[[sqlite3.Connection], T]) -> T:
        with connection.lock:
            used = connection.db
            try:
                if used:
                    return _act(used, action)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
        with self._reads.lock, self._writes.lock:
            if self._in_use and connection.db is used:  # damaged, or could not be opened anew the last time
                self._close()
                self._open()
            try:
                return _act(connection.db, action)
            except sqlite3.DatabaseError as error:
                if not _is_corrupt(error):
                    raise
                self._close()
                self._put_aside(error)  # it is damaged where opening it does not look
                self._open()
            return _act(connection.db, action)

    def _open(self) -> None:
        """Open the file; one that is damaged or no key cache is set aside, and a new one begun."""
        try:
            writes = self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._put_aside(error)
            writes = self._connect()
        self._writes.db, self._reads.db = writes, self._connect()
        self._file = os.stat(self.path)

    def _close(self) -> None:
        self._file = None
        for connection in (self._reads, self._writes):
            if connection.db:
                connection.db.close()
                connection.db = None

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=10)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(SCHEMA)
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'files'").fetchone():
                db.executescript(MIGRATE)
            if "uploaded_by" not in {column for _, column, *_ in db.execute("PRAGMA table_info(keys)")}:
                db.execute(ADD_UPLOADED_BY)
            db.executescript(INDEXES)
            db.executescript(SHARING if self._shares else NOT_SHARING)
            db.execute(GET_KEY, ("",) * 5).fetchall()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _put_aside(self, why: sqlite3.DatabaseError) -> None:
        names = (self.path.with_name(f"{self.path.name}.damaged-{n}") for n in count(1))
        aside = next(name for name in names if not name.exists())
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._log.error(
            "key_cache_damaged", path=str(self.path), reason=str(why), set_aside=str(aside),
            hint="A new one was begun; files that have a sidecar stay as they are.",
        )  # fmt: skip


def _answer(record: Record) -> tuple[str, ...]:
    return record.image_key, record.log_id, record.at, record.host if record.reused else ""


def _values(row: Row) -> tuple[object, ...]:
    path, watch, record = os.fsencode(row.path), os.fsencode(row.watch), row.record
    told = (record.status, record.at, record.image_key, record.sha256, record.size, record.reused)
    return (path, watch, *told, record.error_message or None)


def _act(db: sqlite3.Connection | None, action: Callable[[sqlite3.Connection], T]) -> T:
    if db is None:
        raise sqlite3.ProgrammingError("the key cache is not open")
    with db:
        return action(db)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is at fault, and not the disk or a lock; or it has not the tables of a key cache."""
    return _is_corrupt(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR"


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
