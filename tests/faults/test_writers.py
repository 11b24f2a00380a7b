"""When is a file finished? Real tools, or their exact system calls; the server never sees half a picture."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import FORMATS, Daemon, file_name, picture, sidecar_of, wait_for_sidecar, wait_until

SETTLE = 0.3


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon that settles after 0.3 s."""
    with make_daemon(upload={"settle_seconds": SETTLE}) as running:
        yield running


def pause(seconds: float) -> None:
    """Time that a slow writer takes: the length of the pause is what is tested."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= ends)


def only_whole(lark: Sandbox, *contents: bytes) -> bool:
    """Whether Lark got these contents and nothing else."""
    return {made.sha256 for made in lark.uploads} == {hashlib.sha256(content).hexdigest() for content in contents}


def run(*argv: str | Path) -> None:
    """Run a tool."""
    subprocess.run([str(word) for word in argv], check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize("form", FORMATS)
def test_a_slow_writer(daemon: Daemon, lark: Sandbox, form: str) -> None:
    """Pauses longer than settle_seconds, in one open file."""
    content = picture(1, form, noise=4000)
    path = daemon.inbox / file_name(form)
    with path.open("wb", buffering=0) as file:
        for part in range(4):
            file.write(content[len(content) * part // 4 : len(content) * (part + 1) // 4])
            pause(2 * SETTLE)
    assert wait_for_sidecar(path)["status"] == "uploaded"
    assert only_whole(lark, content)


@pytest.mark.parametrize("form", FORMATS)
def test_a_writer_that_closes_and_reopens(daemon: Daemon, lark: Sandbox, form: str) -> None:
    """As an FTP server does when a transfer is resumed: closed in the middle, quiet, then appended to."""
    content = picture(2, form, noise=4000)
    path = daemon.drop(file_name(form), content[: len(content) // 2])
    pause(3 * SETTLE)
    assert sidecar_of(path) is None
    with path.open("ab") as file:
        file.write(content[len(content) // 2 :])
    assert wait_for_sidecar(path)["status"] == "uploaded"
    assert only_whole(lark, content)


@pytest.mark.slow
def test_a_file_that_stays_cut_is_rejected_after_a_minute_and_taken_when_finished(
    make_daemon: Callable[..., Daemon], lark: Sandbox
) -> None:
    """A file whose last change is over a minute ago, and cut: told so, and taken once it is whole."""
    daemon = make_daemon()
    content = picture(3, "JPEG", noise=4000)
    path = daemon.drop("cut.jpg", content[:-100])
    with daemon:
        pause(1)
        assert sidecar_of(path) is None
        beside = wait_for_sidecar(path, 75)
        assert beside["status"] == "rejected"
        assert "incomplete" in beside["error"]["message"]
        assert "when it is finished" in beside["error"]["hint"]
        with path.open("ab") as file:
            file.write(content[-100:])
        wait_until(lambda: (sidecar_of(path) or {}).get("status") == "uploaded")
    assert only_whole(lark, content)


def test_a_rewritten_file_is_uploaded_again(daemon: Daemon, lark: Sandbox) -> None:
    """Its sidecar then speaks of the new content."""
    path = daemon.drop("a.png", picture(4))
    first = wait_for_sidecar(path)
    path.write_bytes(picture(5))
    second = wait_until(lambda: beside if (beside := sidecar_of(path)) != first else None)
    assert second["sha256"] == hashlib.sha256(picture(5)).hexdigest()
    assert len(lark.uploads) == 2


def test_cp_mv_and_ln(daemon: Daemon, lark: Sandbox, tmp_path: Path) -> None:
    """Each as the real tool does it, from outside and within."""
    outside = tmp_path / "outside"
    outside.mkdir()
    contents = [picture(10 + n, noise=50_000) for n in range(4)]
    for n, content in enumerate(contents):
        (outside / f"{n}.png").write_bytes(content)
    run("cp", outside / "0.png", daemon.inbox / "cp.png")
    run("cp", "--preserve=all", outside / "1.png", daemon.inbox / "cp-p.png")
    run("mv", outside / "2.png", daemon.inbox / "mv.png")
    run("ln", outside / "3.png", daemon.inbox / "ln.png")
    for name in ("cp", "cp-p", "mv", "ln"):
        assert wait_for_sidecar(daemon.inbox / f"{name}.png")["status"] == "uploaded"
    assert only_whole(lark, *contents)
    run("mv", daemon.inbox / "cp.png", daemon.inbox / "renamed.png")
    assert wait_for_sidecar(daemon.inbox / "renamed.png")["reused"]
    assert len(lark.uploads) == 4


@pytest.mark.needs("rsync")
def test_rsync(daemon: Daemon, lark: Sandbox, tmp_path: Path) -> None:
    """It writes under a hidden name and renames; again, over what is there."""
    source = tmp_path / "source.png"
    contents = [picture(number, noise=50_000) for number in range(2)]
    for number, content in enumerate(contents, 1):
        source.write_bytes(content)
        run("rsync", "-a", source, daemon.inbox / "a.png")
        wait_until(lambda number=number: len(lark.uploads) == number)  # type: ignore[misc]  # bound at once
    wait_for_sidecar(daemon.inbox / "a.png")
    assert only_whole(lark, *contents)


@pytest.mark.needs("tar")
def test_tar_x_of_a_tree(daemon: Daemon, lark: Sandbox, tmp_path: Path) -> None:
    """Folders within folders, filled faster than they can be watched."""
    tree = tmp_path / "tree"
    contents = []
    for n in range(60):
        place = tree / f"a{n % 5}" / f"b{n % 3}"
        place.mkdir(parents=True, exist_ok=True)
        contents.append(picture(100 + n))
        (place / f"{n}.png").write_bytes(contents[-1])
    run("tar", "-C", tmp_path, "-cf", tmp_path / "tree.tar", "tree")
    run("tar", "-C", daemon.inbox, "-xf", tmp_path / "tree.tar")
    for path in sorted((daemon.inbox / "tree").rglob("*.png")):
        assert wait_for_sidecar(path)["status"] == "uploaded"
    assert only_whole(lark, *contents)


def test_browsers_and_editors(daemon: Daemon, lark: Sandbox) -> None:
    """A download's temporary name is left alone until it is renamed; saving by rename replaces the content."""
    for ending in (".part", ".crdownload"):
        temp = daemon.drop(f"download.png{ending}", picture(20))
        pause(2 * SETTLE)
        assert sidecar_of(temp) is None
        temp.rename(daemon.inbox / f"download{ending[1:]}.png")
        assert wait_for_sidecar(daemon.inbox / f"download{ending[1:]}.png")["status"] == "uploaded"
    path = daemon.drop("edited.png", picture(21))
    first = wait_for_sidecar(path)
    swap = daemon.drop(".edited.png.swp", picture(22))
    os.replace(swap, path)
    wait_until(lambda: (sidecar_of(path) or first)["image_key"] != first["image_key"])
    assert only_whole(lark, picture(20), picture(21), picture(22))


def test_folders_that_come_go_and_move(daemon: Daemon, tmp_path: Path) -> None:
    """A tree moved in, a folder renamed while busy, a folder removed while busy."""
    outside = tmp_path / "album"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "a.png").write_bytes(picture(30))
    outside.rename(daemon.inbox / "album")
    assert wait_for_sidecar(daemon.inbox / "album" / "deep" / "a.png")
    (daemon.inbox / "album").rename(daemon.inbox / "renamed")
    late = daemon.drop("renamed/deep/b.png", picture(31))
    assert wait_for_sidecar(late)
    for n in range(40):
        daemon.drop(f"renamed/{n}.png", picture(40 + n))
    words = ("rm", "-rf", str(daemon.inbox / "renamed"))
    # A sidecar may come between rm's look and its rmdir.
    wait_until(lambda: subprocess.run(words, capture_output=True, check=False).returncode == 0, what="rm")
    (daemon.inbox / "renamed" / "deep").mkdir(parents=True)
    assert wait_for_sidecar(daemon.drop("renamed/deep/c.png", picture(32)))
    assert not [event for event in daemon.events() if event["level"] == "error"]


def test_the_root_goes_and_comes_back(daemon: Daemon) -> None:
    """Watched again by itself, one line each way."""
    gone = daemon.inbox.with_name("elsewhere")
    daemon.inbox.rename(gone)
    wait_until(lambda: daemon.events("folder_gone"))
    daemon.inbox.mkdir()
    path = daemon.drop("a.png", picture(50))
    assert wait_for_sidecar(path)
    assert wait_for_sidecar(daemon.drop("b.png", picture(51)))
    assert [len(daemon.events(name)) for name in ("folder_gone", "folder_back")] == [1, 1]


@pytest.mark.needs("root", "mount")
def test_a_folder_that_is_mounted_later(daemon: Daemon) -> None:
    """What is mounted over the watched folder is watched in its place."""
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", daemon.inbox)
    try:
        wait_until(lambda: daemon.events("folder_back"))
        assert wait_for_sidecar(daemon.drop("a.png", picture(52)))
        assert daemon.stop() == 0
    finally:
        run("umount", "-l", daemon.inbox)


def test_polling(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """With observer = "polling" a rescan finds what is dropped and rewritten, and says why it polls."""
    watch = [{"path": tmp_path / "inbox", "observer": "polling", "poll_seconds": 0.2}]
    with make_daemon(watch=watch) as daemon:
        path = daemon.drop("a.png", picture(60))
        first = wait_for_sidecar(path)
        path.write_bytes(picture(61))
        wait_until(lambda: (sidecar_of(path) or first)["image_key"] != first["image_key"])
        (chosen,) = daemon.events("observer")
        assert (chosen["chosen"], chosen["reason"]) == ("polling", 'observer = "polling"')


@pytest.mark.needs("root", "/dev/fuse", "bindfs")
def test_a_fuse_file_system_is_polled(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """What others write below it, inotify doesn't tell: "auto" polls, says why, and finds it."""
    below = tmp_path / "below"
    below.mkdir()
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "poll_seconds": 0.3}])
    run("bindfs", below, daemon.inbox)
    try:
        with daemon:
            (chosen,) = daemon.events("observer")
            assert chosen["chosen"] == "polling"
            assert "fuse" in chosen["reason"]
            assert "does not report what others write" in chosen["reason"]
            (below / "a.png").write_bytes(picture(70))
            assert wait_for_sidecar(below / "a.png")["status"] == "uploaded"
            assert daemon.stop() == 0
    finally:
        run("umount", "-l", daemon.inbox)


def test_auto_says_what_it_chose(daemon: Daemon) -> None:
    """And why: by the file system's type."""
    (chosen,) = daemon.events("observer")
    assert chosen["chosen"] == "inotify"
    assert "reports every change" in chosen["reason"]
