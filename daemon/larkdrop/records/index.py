"""What the key cache's file knows of files and uploads, for the commands: it only reads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from larkdrop.errors import NotAvailable
from larkdrop.records.key_cache import GET_KEY, Content
from larkdrop.records.sidecar_fields import rfc3339


@dataclass(frozen=True)
class File:
    """One outcome of a path."""

    path: str  # where it was dropped
    watch: str  # the watched folder
    status: str  # "uploaded" or "rejected"
    at: str  # RFC 3339, UTC
    image_key: str
    sha256: str
    size: int  # bytes
    error: str | None  # why it was rejected
    place: str | None  # where the image was moved to; empty where it was deleted; None where it was kept

    @property
    def where(self) -> str:
        """The path at which the image was left, or was before it was deleted."""
        return self.place or self.path


# A larkdrop that was not restarted since its upgrade still writes the table of the first schema: one row a path.
OLD_SCHEMA = "CREATE TEMP VIEW outcomes AS SELECT 0 AS id, * FROM files"
# Every outcome but those of contents that a file kept in its place had before.
LATEST = "(place IS NOT NULL OR id = (SELECT max(id) FROM outcomes AS other WHERE other.path = outcomes.path))"

Values = Sequence[Any] | Mapping[str, Any]


class Index:
    """Reads while a daemon writes, or while none runs; a context manager. Empty where nothing was ever uploaded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        try:
            self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            hint = "Run it as larkdrop's user, as one of its group, or as root."
            raise NotAvailable(f"{self._path} can't be read: {error}", hint=hint) from error
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._db:
            self._db.close()
            self._db = None
        if isinstance(error, sqlite3.Error):
            raise NotAvailable(f"{self._path} can't be read: {error}", hint="Check the disk.") from error

    def _open(self) -> sqlite3.Connection | None:
        try:
            os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return self._connect("mode=ro")
        except sqlite3.OperationalError:
            # Nobody has it open, and this user can't make the files beside it that reading would need.
            return self._connect("immutable=1")

    def _connect(self, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self._path.absolute().as_uri()}?{how}", uri=True, timeout=10, check_same_thread=False)
        try:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "outcomes" not in tables:
                db.execute(OLD_SCHEMA)
            db.execute("SELECT 1 FROM outcomes LIMIT 1").fetchall()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def uploaded(self) -> dict[str, int]:
        """How many outcomes brought a key, by watched folder."""
        rows = self._rows("SELECT watch, count(*) FROM outcomes WHERE status = 'uploaded' GROUP BY watch")
        return {os.fsdecode(watch): count for watch, count in rows}

    def uploaded_by(self, content: Content) -> str | None:
        """Which other host uploaded a content; empty where it was this one, None where that is not known."""
        with suppress(sqlite3.OperationalError):  # a larkdrop that was not restarted since its upgrade does not note it
            for _, _, host in self._rows(GET_KEY, content):
                return str(host)
        return None

    def file(self, path: str) -> File | None:
        """The last outcome of the image that was dropped at a path, or moved there."""
        for name in ("path", "place > x'' AND place"):
            for file in self._files(f"WHERE {name} = ? ORDER BY id DESC LIMIT 1", (os.fsencode(path),)):
                return file
        return None

    def files(
        self, *, below: str = "", at: str = "", status: str = "", since: str = "", until: str = "", every: bool = False
    ) -> Iterator[File]:
        """Outcomes, the oldest first: in a status, of images dropped or moved ``below`` a folder or ``at`` a path.

        From ``since`` and before ``until``: RFC 3339 in UTC, or their beginnings. ``every`` adds those of contents that
        a file had before.
        """
        conditions = {
            "at >= :since": since,
            "at < :until": until,
            f"status = '{status}'": status,  # as the partial index says it
            "(path = :at OR (place > x'' AND place = :at))": at,
            "(path > :start AND path < :stop OR place > x'' AND place > :start AND place < :stop)": below,
        }
        asked = [condition for condition, value in conditions.items() if value]
        where = " AND ".join(["1" if every else LATEST, *asked])
        folder = os.fsencode(below.rstrip("/"))  # what is in it comes after its name with "/", and before that with "0"
        values = {"since": since, "until": until, "at": os.fsencode(at), "start": folder + b"/", "stop": folder + b"0"}
        few = at or below or status == "rejected"  # which an index finds sooner than the one that is in order
        return self._files(f"WHERE {where} ORDER BY {'+' if few else ''}at", values)

    def same_content(self, file: File) -> list[str]:
        """Where else the same content is, ten paths at most."""
        others = self._files(f"WHERE sha256 = ? AND place IS NOT x'' AND {LATEST}", (file.sha256,))
        return list(dict.fromkeys(other.where for other in others if other.where != file.where))[:10]

    def outcomes_since(self, moment: datetime) -> int:
        """How many outcomes came since a moment."""
        return int(next(self._rows("SELECT count(*) FROM outcomes WHERE at >= ?", (rfc3339(moment),)), (0,))[0])

    def uploads_since(self, day: str) -> int:
        """Calls that brought a key, from the ``day`` (``2026-11-23``, local) on."""
        return int(next(self._rows("SELECT coalesce(sum(made), 0) FROM uploads WHERE day >= ?", (day,)), (0,))[0])

    def _files(self, where: str, values: Values) -> Iterator[File]:
        columns = "path, watch, status, at, image_key, sha256, size, error, place"
        sql = f"SELECT {columns} FROM outcomes {where}"  # noqa: S608
        for path, watch, status, at, image_key, sha256, size, error, place in self._rows(sql, values):
            yield File(
                os.fsdecode(path), os.fsdecode(watch), status, at, image_key, sha256, size, error,
                None if place is None else os.fsdecode(place),
            )  # fmt: skip

    def _rows(self, sql: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        if self._db:
            with closing(self._db.execute(sql, values)) as rows:
                yield from rows
