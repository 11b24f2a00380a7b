"""Keys are durable when ``put`` returns, however many threads put them at the same time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from larkdrop.records.key_cache import Content, KeyCache, Row
from larkdrop.records.sidecar_fields import Record

THREADS = 16


def row(number: int) -> Row:
    """An upload with a key of its own."""
    record = Record(
        status="uploaded", file=f"{number}.png", image_type="message", api="image/v4", app_id="cli_x",
        sha256=f"{number:064x}", size=1, mtime_ns=1, format="PNG", width=1, height=1, at="2026-11-26T00:00:00Z",
        attempts=1, reused=False, image_key=f"key-{number}", log_id="",
    )  # fmt: skip
    return Row(f"/inbox/{number}.png", "/inbox", record, content(number))


def content(number: int) -> Content:
    """What that key belongs to."""
    return Content("https://open.feishu.cn", "cli_x", "image/v4", "message", f"{number:064x}")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[KeyCache]:
    """An empty one."""
    with KeyCache(tmp_path / "keys.sqlite3") as opened:
        yield opened


def test_each_key_is_on_the_disk_when_put_returns(cache: KeyCache) -> None:
    """Another process sees it at once, and each day's uploads are counted."""

    def put(number: int) -> int:
        cache.put(row(number))
        with closing(sqlite3.connect(cache.path)) as other:
            return len(other.execute("SELECT 1 FROM keys WHERE image_key = ?", (f"key-{number}",)).fetchall())

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(put, range(300))) == [1] * 300
    with closing(sqlite3.connect(cache.path)) as other:
        assert other.execute("SELECT sum(made) FROM uploads").fetchone() == (300,)
    known = cache.get(content(7))
    assert known
    assert known.image_key == "key-7"


def test_damage_where_opening_it_does_not_look(cache: KeyCache) -> None:
    """Pages that only an answer needs: the file is set aside as well, and what comes is kept in a new one."""
    for number in range(2000):
        cache.put(row(number))
    with closing(sqlite3.connect(cache.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        last = "SELECT pgoffset FROM dbstat WHERE name = 'keys' AND pagetype = 'leaf' ORDER BY path DESC LIMIT 20"
        places = [place for (place,) in other.execute(last)]
    with cache.path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(b"\xff" * 4096)
    with closing(sqlite3.connect(cache.path)) as other:  # which has other processes read it anew
        other.execute("PRAGMA user_version = 1")
    cache.put(row(3000))
    assert cache.get(content(3000))
    assert cache.path.with_name("keys.sqlite3.damaged-1").exists()
    assert cache.in_place


def test_a_disk_that_fails_is_told_to_everyone(cache: KeyCache) -> None:
    """Nobody believes that a key is kept; once the disk works again, it is."""

    def put(number: int) -> bool:
        try:
            cache.put(row(number))
        except sqlite3.OperationalError:
            return False
        return True

    assert cache._writes.db, "so that SQLite itself fails"
    with ThreadPoolExecutor(THREADS) as pool:
        cache._writes.db.execute("PRAGMA query_only = 1")
        assert not any(pool.map(put, range(100)))
        assert cache.get(content(1)) is None
        cache._writes.db.execute("PRAGMA query_only = 0")
        assert all(pool.map(put, range(100)))
    assert cache.get(content(1))
