"""What the key cache's file knows of files and uploads, for the commands: it only reads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from larkdrop.errors import NotAvailable


@dataclass(frozen=True)
class File:
    """The last outcome of a path."""

    path: str
    watch: str  # the watched folder
    status: str  # "uploaded" or "rejected"
    at: str  # RFC 3339, UTC
    image_key: str
    sha256: str
    size: int  # bytes
    reused: bool
    error: str | None  # why it was rejected
    place: str | None  # where the image was moved to; empty where it was deleted


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

    def __exit__(self, *_: object) -> None:
        if self._db:
            self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection | None:
        if not os.path.lexists(self._path):
            os.listdir(self._path.parent) if self._path.parent.exists() else None
            return None
        try:
            return self._connect("mode=ro")
        except sqlite3.OperationalError:
            # Nobody has it open, and this user can't make the files beside it that reading would need.
            return self._connect("immutable=1")

    def _connect(self, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self._path.absolute().as_uri()}?{how}", uri=True, timeout=10, check_same_thread=False)
        try:
            db.execute("SELECT 1 FROM files LIMIT 1").fetchall()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def counts(self) -> dict[tuple[str, str], int]:
        """How many paths, by watched folder and status."""
        rows = self._rows("SELECT watch, status, count(*) FROM files GROUP BY watch, status")
        return {(os.fsdecode(watch), status): count for watch, status, count in rows}

    def file(self, path: str) -> File | None:
        """The last outcome of a path."""
        return next(self._files("WHERE path = ?", os.fsencode(path)), None)

    def files(self, *, below: str = "", status: str = "", since: str = "", until: str = "") -> Iterator[File]:
        """Outcomes, the oldest first: of paths ``below`` a folder, in a status, from ``since`` and before ``until``.

        Times are RFC 3339 in UTC, or their beginnings.
        """
        where: list[str] = ["1"]
        values: list[object] = []
        for condition, value in (("status = ?", status), ("at >= ?", since), ("at < ?", until)):
            if value:
                where.append(condition)
                values.append(value)
        if below:
            start = os.fsencode(below.rstrip("/")) + b"/"
            where.append("path > ? AND path < ?")
            values += [start, start[:-1] + b"0"]
        return self._files(f"WHERE {' AND '.join(where)} ORDER BY at", *values)

    def same_content(self, file: File, most: int = 10) -> list[str]:
        """Other paths with the same content, ``most`` at most."""
        others = self._files("WHERE sha256 = ? AND path != ? LIMIT ?", file.sha256, os.fsencode(file.path), most)
        return [other.path for other in others]

    def outcomes_since(self, *moments: datetime) -> list[int]:
        """How many files came to an outcome since each of these moments."""
        texts = [moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") for moment in moments]
        sums = ", ".join(["coalesce(sum(at >= ?), 0)"] * len(texts))
        return list(next(self._rows(f"SELECT {sums} FROM files", *texts), [0] * len(texts)))  # noqa: S608

    def uploads_since(self, day: str) -> int:
        """Calls that brought a key, from the ``day`` (``2026-11-23``, local) on."""
        return int(next(self._rows("SELECT coalesce(sum(made), 0) FROM uploads WHERE day >= ?", day), (0,))[0])

    def _files(self, where: str, *values: object) -> Iterator[File]:
        sql = f"SELECT path, watch, status, at, image_key, sha256, size, reused, error, place FROM files {where}"  # noqa: S608
        for path, watch, status, at, image_key, sha256, size, reused, error, place in self._rows(sql, *values):
            yield File(
                os.fsdecode(path), os.fsdecode(watch), status, at, image_key, sha256, size, bool(reused), error,
                None if place is None else os.fsdecode(place),
            )  # fmt: skip

    def _rows(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        if self._db:
            with closing(self._db.execute(sql, values)) as rows:
                yield from rows
