"""A machine that misbehaves: clocks that jump, files and folders without permission."""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

NOBODY = 65534
FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"
needs_setpriv = pytest.mark.needs("root", "setpriv")
# Root without the power to pass over permissions.
POWERLESS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")


@pytest.mark.needs(FAKETIME)
@pytest.mark.parametrize("jump", ["+3d", "-3d"])
def test_the_clock_jumps(lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path, jump: str) -> None:
    """Days forward or back, while it runs and pictures wait: all go, none half, none rejected, none twice."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    daemon = make_daemon(upload={"settle_seconds": 1.0})
    content = picture(500, "JPEG", noise=4000)
    early = daemon.drop("early.tif", picture(1, "TIFF"))
    daemon.start(
        LD_PRELOAD=glob.glob(FAKETIME)[0], FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1", NO_FAKE_STAT="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    with (daemon.inbox / "slow.jpg").open("wb", buffering=0) as file:
        file.write(content[:2000])
        offset.write_text(jump)
        late = daemon.drop("late.tif", picture(2, "TIFF"))
        quick = daemon.drop("quick.png", picture(3))
        for path in (early, late, quick):
            assert wait_for_sidecar(path)["status"] == "uploaded"
        file.write(content[2000:])
    assert wait_for_sidecar(daemon.inbox / "slow.jpg")["status"] == "uploaded"
    daemon.signal(signal.SIGHUP)
    assert wait_for_sidecar(daemon.drop("last.png", picture(4)))
    assert daemon.stop() == 0
    assert len(lark.uploads) == len(daemon.results()) == 5


@pytest.mark.needs("prlimit")
def test_few_open_files(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Thousands of sidecars that can be written at once are not all opened at once."""
    daemon = make_daemon(upload={"workers": 4})
    content = picture(1)
    paths = [daemon.drop(f"{number}.png", content) for number in range(3000)]
    daemon.prefix = ("prlimit", "--nofile=200")
    done = daemon.once()
    assert done.returncode == 0
    assert "Too many open files" not in done.stderr
    assert all(sidecar_of(path) for path in paths)


@needs_setpriv
def test_an_unreadable_file(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Said once with what to do, also by status; looked at again, and taken once it can be read. A folder likewise."""
    daemon = make_daemon()
    closed = daemon.inbox / "closed"
    closed.mkdir()
    inner = daemon.drop("closed/inner.png", picture(3))
    path = daemon.drop("private.png", picture(1))
    path.chmod(0o600)
    closed.chmod(0o700)
    os.chown(path, NOBODY, NOBODY)
    os.chown(closed, NOBODY, NOBODY)
    daemon.prefix = POWERLESS
    with daemon:
        (said,) = wait_until(lambda: daemon.events("cannot_read"))
        assert (said["level"], said["path"]) == ("error", str(path))
        assert status(daemon)["troubles"] == [f"list {closed}", f"read {path}"]
        daemon.signal(signal.SIGHUP)
        assert wait_for_sidecar(daemon.drop("good.png", picture(2)))
        path.chmod(0o644)
        closed.chmod(0o755)
        daemon.signal(signal.SIGHUP)
        assert wait_for_sidecar(path)["status"] == "uploaded"
        wait_until(lambda: lark.uploads[2:], what="the picture in the folder")
        for event in ("cannot_read", "cannot_list"):
            assert len([told for told in daemon.events(event) if told["level"] == "error"]) == 1
        closed.chmod(0o777)
        daemon.signal(signal.SIGHUP)
        assert wait_for_sidecar(inner)["status"] == "uploaded"
        wait_until(lambda: status(daemon)["well"], what="all to be well")
    assert len(lark.uploads) == 3


@needs_setpriv
def test_a_folder_that_becomes_readable_is_watched(make_daemon: Callable[..., Daemon]) -> None:
    """At once, with what is in it: neither a rescan nor a restart is needed."""
    daemon = make_daemon(upload={"rescan_seconds": 3600})
    album = daemon.inbox / "album"
    album.mkdir(mode=0o700)
    os.chown(album, NOBODY, NOBODY)
    early = daemon.drop("album/early.png", picture(1))
    daemon.prefix = POWERLESS
    with daemon:
        wait_until(lambda: daemon.events("cannot_list"))
        os.chown(album, 0, 0)
        assert wait_for_sidecar(early)["status"] == "uploaded"
        assert wait_for_sidecar(daemon.drop("album/late.png", picture(2)))["status"] == "uploaded"


def status(daemon: Daemon) -> dict[str, Any]:
    """What ``larkdrop status`` says."""
    done = subprocess.run(daemon.command("status", "--json"), capture_output=True, text=True, check=False)
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@needs_setpriv
def test_a_folder_that_can_not_be_written(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """The key is in the log, one line says what to do, the sidecars follow."""
    daemon = make_daemon()
    paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(3)]
    os.chown(daemon.inbox, NOBODY, NOBODY)
    daemon.inbox.chmod(0o755)
    daemon.prefix = POWERLESS
    with daemon:
        (said,) = wait_until(lambda: daemon.events("recording_failed"))
        assert "user write there" in said["hint"]
        wait_until(lambda: len(daemon.results()) == 3)
        assert not [path for path in paths if sidecar_of(path)]
        daemon.inbox.chmod(0o777)
        for path in paths:
            wait_for_sidecar(path)
    assert len(lark.uploads) == len(daemon.results()) == 3


@pytest.mark.parametrize(("folder", "expected"), [(0o755, 0o644), (0o770, 0o660), (0o700, 0o600)])
def test_a_sidecar_is_as_open_as_its_folder(make_daemon: Callable[..., Daemon], folder: int, expected: int) -> None:
    """Readable for those who can read the folder, writable for those who can write to it."""
    daemon = make_daemon()
    daemon.inbox.chmod(folder)
    daemon.drop("a.png", picture(1))
    before = os.umask(0)
    try:
        assert daemon.once().returncode == 0
    finally:
        os.umask(before)
    assert (daemon.inbox / "a.png.lark.json").stat().st_mode & 0o777 == expected


def test_a_polyglot_goes_as_the_picture_that_it_is(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """A JPEG that is an archive too: the bytes go as they are, once quiet."""
    content = picture(1, "JPEG") + b"PK\x03\x04" + bytes(100)
    with make_daemon() as daemon:
        assert wait_for_sidecar(daemon.drop("both.jpg", content))["format"] == "JPEG"
    assert lark.uploads[0].size == len(content)


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own, to be frozen by ``fsfreeze``."""
    with mounted(tmp_path / "disk.img", tmp_path / "frozen") as place:
        yield place
        subprocess.run(["fsfreeze", "--unfreeze", place], check=False, capture_output=True)


@contextmanager
def mounted(image: Path, place: Path, *options: str) -> Iterator[Path]:
    """A small ext4 of its own, made with ``options``."""
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.needs("root", "mount", "mkfs.ext4", "fsfreeze")
def test_a_disk_that_does_not_write_holds_up_its_own_folder_only(
    lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path, freezer: Path
) -> None:
    """A crowd whose sidecars hang leaves the workers to other folders; once it writes again, nothing is missing."""
    content, count = picture(1), 1000
    paths = [freezer / f"{number}.png" for number in range(count)]
    for path in paths:
        path.write_bytes(content)
    subprocess.run(["fsfreeze", "--freeze", freezer], check=True)
    limits = {"requests_per_second": 10_000, "requests_per_minute": 600_000}
    daemon = make_daemon(lark=limits, watch=[{"path": tmp_path / "inbox"}, {"path": freezer}])
    with daemon:
        wait_until(lambda: len(daemon.events("reused")) >= 600, what="the crowd's thread to be behind")
        assert wait_for_sidecar(daemon.drop("other.png", picture(2)))["image_key"]
        assert not sidecar_of(paths[0])
        subprocess.run(["fsfreeze", "--unfreeze", freezer], check=True)
        for path in paths:
            assert wait_for_sidecar(path)["image_key"]
    assert len(lark.uploads) == 2
    assert len(daemon.results()) == count + 1


@pytest.mark.needs("root", "mount", "mkfs.ext4")
def test_a_file_system_to_move_to_that_keeps_whole_seconds_only(
    lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """As FAT and many network drives round times: each picture arrives once, also where it is dropped again."""
    with mounted(tmp_path / "disk.img", tmp_path / "done", "-I", "128") as done:
        moving = {"path": tmp_path / "inbox", "after_upload": "move", "move_to": done}
        daemon = make_daemon(watch=[moving])
        for _ in range(2):
            daemon.drop("a.png", picture(1))
            os.utime(daemon.inbox / "a.png", ns=(1_700_000_000_123_456_789,) * 2)
            assert daemon.once().returncode == 0
            assert not os.listdir(daemon.inbox)
            assert (done / "a.png").read_bytes() == picture(1)
            assert len(list(done.glob("*.png"))) == 1
            assert sidecar_of(done / "a.png")
    assert len(lark.uploads) == 1
