"""Keys that other hosts are to be told of: they stand in the key cache's file, so that no crash forgets one.

A transactional outbox: a key is added in the commit that keeps it. Besides, what this host last knew of the fleet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from larkdrop.records.key_cache import Content, KeyCache

# Of every key that this host itself has got, with the name and size of one of its files.
ADD_ALL = """
INSERT INTO outbox
    SELECT NULL, k.host, k.app_id, k.api, k.image_type, k.sha256,
        coalesce((SELECT path FROM outcomes o WHERE o.sha256 = k.sha256 AND o.image_key = k.image_key LIMIT 1), x''),
        coalesce((SELECT size FROM outcomes o WHERE o.sha256 = k.sha256 AND o.image_key = k.image_key LIMIT 1), 0)
    FROM keys k WHERE k.uploaded_by = ''
"""
NEWEST = "SELECT 1 FROM sqlite_sequence WHERE name = 'outbox' AND seq >= ?"
READ = """
SELECT o.id, o.host, o.app_id, o.api, o.image_type, o.sha256, k.image_key, k.log_id, o.file, o.size
    FROM outbox o JOIN keys k USING (host, app_id, api, image_type, sha256) WHERE o.id > ? ORDER BY o.id LIMIT ?
"""


@dataclass(frozen=True)
class Unsent:
    """A key that the others don't know yet; ``file`` is a name that its content has on this host."""

    id: int
    content: Content
    image_key: str
    log_id: str
    file: str
    size: int  # bytes


class Outbox:
    """In the file of a key cache that shares. Everything here raises sqlite3.Error."""

    def __init__(self, cache: KeyCache) -> None:
        self._cache = cache
        self._sent = self._cleared = 0  # all up to this were

    def unsent(self, most: int) -> list[Unsent]:
        """The oldest that were not sent yet."""
        rows = self._cache.read(lambda db: db.execute(READ, (self._sent, most)).fetchall())
        if not rows and self._sent and not self._cache.read(lambda db: db.execute(NEWEST, (self._sent,)).fetchall()):
            self._sent = self._cleared = 0  # a damaged file was set aside, and a new one begun
        return [
            Unsent(id_, Content(*of), image_key, log_id, os.path.basename(os.fsdecode(file)), size)
            for id_, *of, image_key, log_id, file, size in rows
        ]

    def sent(self, last: Unsent) -> None:
        """The others have all up to this one. That is written down with the next ``clear``."""
        self._sent = last.id

    def clear(self) -> None:
        """Forget what was sent. After a crash before this, it is sent again, which is harmless."""
        if self._sent > self._cleared:
            self._cache.write(lambda db: db.execute("DELETE FROM outbox WHERE id <= ?", (self._sent,)))
            self._cleared = self._sent

    def refill(self, born: str) -> None:
        """Queue all keys that this host itself has got, unless that was done for the database that was ``born`` so."""
        if self.recall("born") != born:
            self._cache.write(lambda db: db.executescript(ADD_ALL))
            self.remember("born", born)

    def recall(self, name: str) -> str:
        """A fact of the fleet that was remembered; an empty string where there is none."""
        rows = self._cache.read(lambda db: db.execute("SELECT value FROM fleet WHERE name = ?", (name,)).fetchall())
        return str(rows[0][0]) if rows else ""

    def remember(self, name: str, value: str) -> None:
        """Keep a fact for the next start."""
        self._cache.write(lambda db: db.execute("INSERT OR REPLACE INTO fleet VALUES (?, ?)", (name, value)))
