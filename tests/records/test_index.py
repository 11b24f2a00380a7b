"""A key cache of the first schema is read while it is in use, and migrated once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from larkdrop.records.index import Index
from larkdrop.records.key_cache import KeyCache

OLD = """
CREATE TABLE keys (
    host TEXT, app_id TEXT, api TEXT, image_type TEXT, sha256 TEXT,
    image_key TEXT NOT NULL, log_id TEXT NOT NULL, uploaded_at TEXT NOT NULL,
    PRIMARY KEY (host, app_id, api, image_type, sha256)
) WITHOUT ROWID;
CREATE TABLE files (
    path BLOB PRIMARY KEY, watch BLOB NOT NULL, status TEXT NOT NULL, at TEXT NOT NULL, image_key TEXT NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, reused INTEGER NOT NULL, error TEXT, place BLOB
) WITHOUT ROWID;
CREATE TABLE uploads (day TEXT PRIMARY KEY, made INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO files VALUES
    (x'2f612f6f6e652e706e67', x'2f61', 'uploaded', '2026-11-01T00:00:00.000Z', 'k1', 's1', 1, 0, NULL, NULL),
    (x'2f612f74776f2e706e67', x'2f61', 'uploaded', '2026-11-02T00:00:00.000Z', 'k2', 's2', 1, 0, NULL,
     x'2f622f74776f2e706e67'),
    (x'2f612f62616428', x'2f61', 'rejected', '2026-11-03T00:00:00.000Z', '', 's3', 1, 0, 'no picture', NULL);
INSERT INTO keys VALUES ('h', 'a', 'image/v4', 'message', 's1', 'k1', '', '2026-11-01T00:00:00.000Z');
INSERT INTO uploads VALUES ('2026-11-01', 2);
"""


def found(place: Path) -> list[tuple[str, str | None, str | None]]:
    """What the commands find in a key cache's file."""
    with Index(place) as index:
        assert index.uploaded() == {"/a": 2}
        assert index.uploads_since("2026-11") == 2
        two = index.file("/b/two.png")
        assert two
        assert two.path == "/a/two.png"
        return [(file.path, file.place, file.error) for file in index.files()]


def test_a_file_of_the_first_schema(tmp_path: Path) -> None:
    """Read as it is while an older larkdrop still writes it; migrated whole, once, when a new one opens it."""
    place = tmp_path / "keys.sqlite3"
    with closing(sqlite3.connect(place)) as db:
        db.executescript(OLD)
    before = found(place)
    assert [path for path, _, _ in before] == ["/a/one.png", "/a/two.png", "/a/bad("]
    for _ in range(2):
        with KeyCache(place):
            assert found(place) == before
    assert not list(tmp_path.glob("*.damaged-*"))
    with closing(sqlite3.connect(place)) as db:  # an older larkdrop was put back for a while
        db.executescript(OLD[OLD.index("CREATE TABLE files") : OLD.index("CREATE TABLE uploads")])
        db.execute("INSERT INTO files SELECT x'2f612f6e6577', watch, status, '2026-12', 'k9', 's9', 1, 0, NULL, NULL "
                   "FROM outcomes LIMIT 1")  # fmt: skip
        db.commit()
    with KeyCache(place), Index(place) as index:
        assert [file.path for file in index.files()] == ["/a/one.png", "/a/two.png", "/a/bad(", "/a/new"]
