"""A sidecar's name, and what proves that it is of the image as it is now."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from larkdrop.folder import sidecar
from larkdrop.records.sidecar_fields import Record, now
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


def test_a_sidecar_of_the_same_tick_proves_nothing(tmp_path: Path) -> None:
    """An image may change within the tick of the file system's clock in which its sidecar was written."""
    path = finish(tmp_path, "a.png")
    image = path.stat()
    fields = list(image)[:10]
    same = os.stat_result((*fields, *(0.0,) * 3, image.st_atime_ns, image.st_mtime_ns, image.st_ctime_ns))
    assert not sidecar.proves(*times(same), same)
    assert sidecar.proves(*times(image), (tmp_path / sidecar.name_for("a.png")).stat())


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
