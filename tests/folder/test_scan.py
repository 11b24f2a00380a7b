"""The walk over finished pictures: two stats each, nothing opened, nothing remembered."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from larkdrop.config.settings import Watch
from larkdrop.folder import sidecar
from larkdrop.folder.scan import Scan
from larkdrop.records.record import Record, now
from tests.helpers import wait_until

RECORD = Record(
    "uploaded", "x", "message", "im/v1", "cli_x", "0" * 64, 1, 0, "PNG", 1, 1, now(), 1, reused=False, log_id="",
    image_key="k",
)  # fmt: skip


def times(status: os.stat_result) -> tuple[int, int]:
    """Modification and change time in nanoseconds."""
    return status.st_mtime_ns, status.st_ctime_ns


def finish(folder: Path, name: str) -> Path:
    """A picture with a sidecar that proves it."""
    path = folder / name
    path.write_bytes(b"x")
    descriptor = os.open(folder, os.O_RDONLY)
    sidecar.write(descriptor, name, replace(RECORD, file=name, mtime_ns=path.stat().st_mtime_ns))
    os.close(descriptor)
    place, image = folder / sidecar.name_for(name), path.stat()

    def proven() -> bool:
        """Both may have been written within the same tick of the file system's clock."""
        os.utime(place, ns=(image.st_mtime_ns, image.st_mtime_ns))
        return sidecar.proves(*times(image), place.stat())

    wait_until(proven)
    return path


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


def test_a_sidecar_of_the_same_tick_proves_nothing(tmp_path: Path) -> None:
    """An image may change within the tick of the file system's clock in which its sidecar was written."""
    path = finish(tmp_path, "a.png")
    image = path.stat()
    fields = list(image)[:10]
    same = os.stat_result((*fields, *(0.0,) * 3, image.st_atime_ns, image.st_mtime_ns, image.st_ctime_ns))
    assert not sidecar.proves(*times(same), same)
    assert sidecar.proves(*times(image), (tmp_path / sidecar.name_for("a.png")).stat())


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


@pytest.mark.parametrize("length", [1, 241, 245, 246, 251, 255])
def test_sidecar_names_fit_and_differ(length: int) -> None:
    """At most 255 bytes, the same for the same name, another for another, and never cut within a character."""
    names = [("é" * length)[: length // 2] + ending for ending in ("a", "b")] + ["x" * length, "x" * (length - 1) + "y"]
    names = [name for name in names if len(os.fsencode(name)) <= 255]
    made = [sidecar.name_for(name) for name in names]
    assert len(set(made)) == len(names)
    for name, place in zip(names, made, strict=True):
        assert len(os.fsencode(place)) <= 255
        assert sidecar.is_ours(place)
        place.encode("utf-8")
        assert (place == f"{name}.lark.json") == (len(os.fsencode(name)) <= 245)
