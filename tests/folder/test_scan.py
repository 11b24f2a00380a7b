"""The walk over finished pictures: two stats each, nothing opened, nothing remembered."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from larkdrop.config.settings import Watch
from larkdrop.folder.scan import Scan
from tests.folder.test_sidecar import finish


def found(watch: Watch) -> list[str]:
    """What a scan gives, sorted."""
    return sorted(os.path.relpath(drop.path, watch.path) for drop in Scan(watch, unreadable=lambda *_: None))


def test_only_what_two_stats_do_not_prove_is_found(tmp_path: Path) -> None:
    """Finished pictures are passed over; changed ones, and such without a sidecar, are not."""
    watch = Watch(path=tmp_path)
    (tmp_path / "sub").mkdir()
    finish(tmp_path, "done.png")
    finish(tmp_path / "sub", "x" * 251 + ".png")
    (tmp_path / "new.png").write_bytes(b"x")
    before = finish(tmp_path, "changed.png").stat()
    (tmp_path / "changed.png").write_bytes(b"y")
    os.utime(tmp_path / "changed.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    finish(tmp_path, "chmodded.png").chmod(0o600)
    assert found(watch) == ["changed.png", "chmodded.png", "new.png"]


def test_only_files_are_sidecars(tmp_path: Path) -> None:
    """A folder of such a name holds pictures as any other."""
    (tmp_path / "album.lark.json").mkdir()
    (tmp_path / "album.lark.json" / "new.png").touch()
    assert found(Watch(path=tmp_path)) == ["album.lark.json/new.png"]


def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    """A folder of many entries is streamed."""
    watch = Watch(path=tmp_path)
    peaks = []
    for count in (500, 10_000):
        for number in range(count):
            (tmp_path / f"{number}.png").touch()
        tracemalloc.start()
        assert sum(1 for _ in Scan(watch, unreadable=lambda *_: None)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 64 * 1024


def test_left_over_temp_files_are_swept_by_age(tmp_path: Path) -> None:
    """Those from before the start go; one that is being written stays, and so does a stranger's."""
    (tmp_path / ".larkdrop-0123456789abcdef.tmp").touch()
    (tmp_path / ".other.tmp").touch()
    list(Scan(Watch(path=tmp_path), sweep_before=1.0, unreadable=lambda *_: None))
    assert len(os.listdir(tmp_path)) == 2
    list(Scan(Watch(path=tmp_path), sweep_before=float("inf"), unreadable=lambda *_: None))
    assert os.listdir(tmp_path) == [".other.tmp"]


def test_a_folder_that_can_not_be_listed_is_told(tmp_path: Path) -> None:
    """And the rest is walked."""
    told: list[str] = []
    watch = Watch(path=tmp_path)
    tmp_path.rmdir()
    list(Scan(watch, unreadable=lambda folder, _: told.append(folder)))
    assert told == [str(tmp_path)]
    tmp_path.mkdir()


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    """Every file and folder counts, whether it is passed over or not."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", "sub/.hidden"):
        (tmp_path / name).touch()
    walk = Scan(Watch(path=tmp_path), unreadable=lambda *_: None)
    counts = [walk.seen for _ in walk]
    assert counts == sorted(set(counts))
    assert walk.seen == 4
