"""Crashes, full and read-only disks, damaged records: every picture ends with one true answer."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from larkdrop.folder.sidecar import name_for
from larkdrop.records.key_cache import Content, KeyCache
from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MANY = {"requests_per_second": 10_000, "requests_per_minute": 600_000}
SEED = int(os.environ.get("FAULT_SEED", "20261123"))
needs_root = pytest.mark.needs("root", "mount")


def fill(folder: Path) -> Path:
    """A hidden file that takes what room there is."""
    filler = folder / ".filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[None]:
    """A small file system of its own."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than ``tmp_path``."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def unlimited(lark: Sandbox) -> None:
    """The sandbox throttles nobody."""
    lark.faults.set({"per_second": 10_000, "per_minute": 600_000})


def true_answer(lark: Sandbox, path: Path) -> bool:
    """Whether the sidecar's key is one that Lark knows for exactly the file's bytes."""
    beside = sidecar_of(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    keys = {made.image_key for made in lark.uploads if made.sha256 == sha256}
    return beside is not None and beside["status"] == "uploaded" and beside["image_key"] in keys


def test_15_kills_through_500_pictures(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Killed at random moments: nothing lost, at most one duplicate per worker and kill, no temp file stays."""
    unlimited(lark)
    lark.faults.delay = 0.02
    dice = random.Random(SEED)
    print("seed", SEED)
    workers, kills = 8, 15
    daemon = make_daemon(lark={"base_url": lark.url, **MANY}, upload={"workers": workers})
    paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(250)]
    for kill in range(kills):
        daemon.start(ready=False)
        target = len(lark.uploads) + dice.randrange(1, 30)
        wait_until(lambda target=target: len(lark.uploads) >= target)  # type: ignore[misc]  # bound at once
        paths += [daemon.drop(f"{n}.png", picture(n)) for n in range(250 + kill * 16, 250 + kill * 16 + 16)]
        daemon.kill()
    paths += [daemon.drop(f"{n}.png", picture(n)) for n in range(490, 500)]
    with daemon:
        for path in paths:
            wait_for_sidecar(path)
        assert daemon.stop() == 0
    assert len(paths) == 500
    assert all(true_answer(lark, path) for path in paths)
    assert {line["path"] for line in daemon.results()} == set(map(str, paths))
    assert len(lark.uploads) - 500 <= workers * kills
    assert not [name for name in os.listdir(daemon.inbox) if name.startswith(".larkdrop-")]
    recorded = [line["image_key"] for line in daemon.results() if line["event"] == "uploaded"]
    assert len(recorded) == len(set(recorded)) <= 500


@pytest.mark.kills
@pytest.mark.timeout(0)
def test_a_thousand_kills(lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """KILLS of them, at random moments, while pictures are kept, moved and deleted: the promise holds in the end."""
    unlimited(lark)
    lark.faults.delay = 0.02
    dice = random.Random(SEED)
    workers, kills, done = 8, int(os.environ.get("KILLS", "1000")), tmp_path / "done"
    ways = ("keep", "move", "delete")
    for way in ways:
        (tmp_path / "inbox" / way).mkdir(parents=True)
    watch = [
        {"path": tmp_path / "inbox" / way, "after_upload": way} | ({"move_to": done} if way == "move" else {})
        for way in ways
    ]
    daemon = make_daemon(lark={"base_url": lark.url, **MANY}, upload={"workers": workers}, watch=watch)
    contents: dict[Path, str] = {}

    def drop(count: int) -> None:
        for number in range(len(contents), len(contents) + count):
            content = picture(number)
            path = daemon.drop(f"{ways[number % 3]}/{number}.png", content)
            contents[path] = hashlib.sha256(content).hexdigest()

    drop(100)
    for _ in range(kills):
        daemon.start(ready=False)
        target = len(lark.uploads) + dice.randrange(1, 15)
        wait_until(lambda target=target: daemon.process_ended() or len(lark.uploads) >= target)  # type: ignore[misc]
        drop(16)
        time.sleep(dice.uniform(0, 0.05))  # no wait for anything: the moment of the kill is a matter of chance
        daemon.kill()
    with daemon:
        wait_until(lambda: {line["path"] for line in daemon.results()} == set(map(str, contents)), 600)
        wait_until(lambda: not list(daemon.inbox.glob("[md]*/*.png")), 600)
        wait_until(lambda: all(sidecar_of(path) for path in contents if path.parent.name == "keep"), 600)
        assert daemon.stop() == 0
    given = {(made.sha256, made.image_key) for made in lark.uploads}
    for path, sha256 in contents.items():
        place = done / path.name if path.parent.name == "move" else path
        assert place.exists() == (path.parent.name != "delete")
        beside = sidecar_of(place) or {}
        assert beside["sha256"] == sha256
        assert (sha256, beside["image_key"]) in given
        assert path.parent.name == "delete" or hashlib.sha256(place.read_bytes()).hexdigest() == sha256
    again = len(lark.uploads) - len(contents)
    assert again <= workers * kills
    assert not list(tmp_path.rglob(".larkdrop-*"))
    print(f"seed {SEED}: {kills} kills, {len(contents)} pictures, {again} answers lost and asked for again")


@needs_root
def test_a_full_inbox(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """The key is kept, nothing goes twice, the sidecar follows when there is room, no torn one, one line."""
    daemon = make_daemon()
    with tmpfs(daemon.inbox, "1m"), daemon:
        path = daemon.drop("a.png", picture(1))
        wait_for_sidecar(path)
        filler = fill(daemon.inbox)
        other = daemon.inbox / "b.png"
        os.link(path, other)
        path_2 = daemon.inbox / "c.png"
        os.link(path, path_2)
        wait_until(lambda: len(daemon.results()) == 3)
        (said,) = wait_until(lambda: daemon.events("recording_failed"))
        assert (said["what"], said["level"]) == ("sidecar", "error")
        assert "make room" in said["hint"].lower()
        assert not [name for name in os.listdir(daemon.inbox) if "lark" in name and name != name_for("a.png")]
        filler.unlink()
        assert wait_for_sidecar(other)["image_key"] == wait_for_sidecar(path_2)["image_key"]
        assert len(daemon.results()) == 3, "no step is repeated"
        assert len(lark.uploads) == 1
        assert daemon.stop() == 0


@needs_root
def test_a_full_state_folder(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Where keys can't be kept no further ones are asked for; all is well once there is room."""
    daemon = make_daemon(upload={"workers": 4})
    with tmpfs(daemon.state, "8m"), daemon:
        filler = fill(daemon.state)
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(40)]
        wait_until(lambda: daemon.events("recording_failed"))
        assert len(lark.uploads) <= 40
        filler.unlink()
        for path in paths:
            wait_for_sidecar(path)
        wait_until(lambda: len({line["path"] for line in daemon.results()}) == 40)
        assert len(lark.uploads) == 40
        assert all(true_answer(lark, path) for path in paths)
        assert daemon.stop() == 0


@needs_root
def test_a_start_on_a_full_disk(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """It fails with what to do, and so that systemd tries again: with room on the disk, it starts."""
    daemon = make_daemon()
    with tmpfs(daemon.state, "1m"):
        for before in ("nothing", "a key cache"):
            filler = fill(daemon.state)
            ended = daemon.once()
            assert ended.returncode == 1, before
            assert "room" in ended.stderr, before
            assert "bug" not in ended.stderr, before
            filler.unlink()
            assert daemon.once().returncode == 0, before
        there = os.statvfs(daemon.state)
        subprocess.run(["mount", "-o", f"remount,nr_inodes={there.f_files - there.f_ffree}", daemon.state], check=True)
        ended = daemon.once()
        assert (ended.returncode, "room" in ended.stderr) == (1, True), "no room for one more file"


@needs_root
def test_a_read_only_inbox(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Keys in the log, sidecars once it is writable."""
    daemon = make_daemon()
    with tmpfs(daemon.inbox, "4m"):
        paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(5)]
        subprocess.run(["mount", "-o", "remount,ro", daemon.inbox], check=True)
        with daemon:
            wait_until(lambda: len(daemon.results()) == 5)
            (said,) = wait_until(lambda: daemon.events("recording_failed"))
            assert "writable" in said["hint"]
            subprocess.run(["mount", "-o", "remount,rw", daemon.inbox], check=True)
            for path in paths:
                wait_for_sidecar(path)
            assert len(lark.uploads) == len(daemon.results()) == 5
            assert daemon.stop() == 0


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 200, None])
def test_a_damaged_key_cache_is_set_aside(
    lark: Sandbox, make_daemon: Callable[..., Daemon], damage: bytes | None
) -> None:
    """Said once; what has a sidecar stays, and new drops go on."""
    daemon = make_daemon()
    old = daemon.drop("old.png", picture(1))
    assert daemon.once().returncode == 0
    cache = daemon.state / "keys.sqlite3"
    cache.write_bytes(cache.read_bytes()[:3000] if damage is None else damage)
    new = daemon.drop("new.png", picture(2))
    ended = daemon.once()
    assert ended.returncode == 0
    assert true_answer(lark, old)
    assert true_answer(lark, new)
    assert len(lark.uploads) == 2
    if damage != b"":
        assert ended.stderr.count("key_cache_damaged") == 1
        assert (daemon.state / "keys.sqlite3.damaged-1").exists()


def test_a_damaged_key_cache_that_could_not_be_opened_anew_is_so_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart; but not after its end, when another may have it."""
    content = Content("http://127.0.0.1", "cli_a", "image/v4", "message", "0" * 64)

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with KeyCache(tmp_path / "keys.sqlite3") as cache:
        with closing(sqlite3.connect(cache.path)) as other:
            other.execute("DROP TABLE keys")
        with monkeypatch.context() as broken:
            broken.setattr(sqlite3, "connect", fail)
            with pytest.raises(sqlite3.OperationalError):
                cache.get(content)
        assert cache.get(content) is None
    with pytest.raises(sqlite3.ProgrammingError):
        cache.get(content)


def settled(daemon: Daemon, lark: Sandbox, *numbers: int) -> list[Path]:
    """Pictures that are done, and the daemon ended."""
    paths = [daemon.drop(f"{n}.png", picture(n, "BMP")) for n in numbers]
    assert daemon.once().returncode == 0
    assert len(lark.uploads) == len(numbers)
    return paths


def test_after_a_restart_only_changed_content_goes(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Touched, chmodded, copied as a tree: nothing; replaced, however disguised: uploaded."""
    daemon = make_daemon()
    touched, chmodded, same_stat, older, bare, torn = settled(daemon, lark, 1, 2, 3, 4, 5, 6)
    os.utime(touched)
    chmodded.chmod(0o600)
    before = same_stat.stat()
    disguised = picture(103, "BMP")
    assert len(disguised) == before.st_size
    same_stat.write_bytes(disguised)
    os.utime(same_stat, ns=(before.st_atime_ns, before.st_mtime_ns))
    old = daemon.home / "old.png"
    old.write_bytes(picture(104))
    os.utime(old, (1_000_000_000, 1_000_000_000))
    old.rename(older)
    (daemon.inbox / name_for(bare.name)).unlink()
    place = daemon.inbox / name_for(torn.name)
    place.write_bytes(place.read_bytes()[:40])
    copy = daemon.inbox / "copy"
    copy.mkdir()
    for path in (touched, chmodded):
        shutil.copy2(path, copy)
        shutil.copy2(daemon.inbox / name_for(path.name), copy)
    assert daemon.once().returncode == 0
    assert {made.sha256 for made in lark.uploads[6:]} == {
        hashlib.sha256(content).hexdigest() for content in (disguised, picture(104))
    }
    everything = [*daemon.inbox.glob("*.png"), *copy.glob("*.png")]
    assert all(true_answer(lark, path) for path in everything)
    assert all((sidecar_of(path) or {})["mtime_ns"] == path.stat().st_mtime_ns for path in everything)
    lines = len(daemon.results())
    assert daemon.once().returncode == 0
    assert len(daemon.results()) == lines, "everything is settled now"


def test_files_of_others_are_left_alone(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """A foreign sidecar, a link in its place, a .json beside: each stays as it is, and the key is in the log."""
    daemon = make_daemon()
    target = daemon.home / "target"
    target.write_text("precious")
    foreign = {
        "a.png.lark.json": '{"mine": true}', "b.png.lark.json": "some words", "c.png.json": "{}",
        "g.png.lark.json": "[" * 60_000, "h.png.lark.json": '{"schema": 1, "status": []}',
    }  # fmt: skip
    for name, text in foreign.items():
        (daemon.inbox / name).write_text(text)
    (daemon.inbox / "d.png.lark.json").symlink_to(target)
    (daemon.inbox / "e.png.lark.json").mkdir()
    with daemon:
        for n, name in enumerate("abcdegh"):
            daemon.drop(f"{name}.png", picture(n))
        wait_until(lambda: len(daemon.results()) == 7 + 1)  # c.png.json is no picture
        daemon.signal(signal.SIGHUP)
        assert wait_for_sidecar(daemon.drop("f.png", picture(9)))
        assert daemon.stop() == 0
    assert target.read_text() == "precious"
    assert {name: (daemon.inbox / name).read_text() for name in foreign} == foreign
    assert (daemon.inbox / "d.png.lark.json").is_symlink()
    assert len(daemon.events("sidecar_name_taken")) == 6
    assert len(daemon.results()) == 9
    assert len(lark.uploads) == 8


@needs_root
def test_a_hostile_folder(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Links, FIFOs, sockets, devices, folders with a picture's name: nothing is followed, nothing blocks."""
    import socket  # noqa: PLC0415 - the name is a test's argument elsewhere

    daemon = make_daemon()
    secret = daemon.home / "secret.png"
    secret.write_bytes(picture(77))
    (daemon.home / "outside").mkdir()
    (daemon.home / "outside" / "x.png").write_bytes(picture(78))
    (daemon.inbox / "link.png").symlink_to(secret)
    (daemon.inbox / "dangling.png").symlink_to("nowhere")
    (daemon.inbox / "loop.png").symlink_to("loop.png")
    (daemon.inbox / "dirlink").symlink_to(daemon.home / "outside")
    (daemon.inbox / "self").symlink_to(daemon.inbox)
    (daemon.inbox / "dir.png").mkdir()
    os.mkfifo(daemon.inbox / "fifo.png")
    os.mknod(daemon.inbox / "null.png", 0o600 | 0o020000, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(daemon.inbox)
        listener.bind("sock.png")
        os.chdir(here)
        with daemon:
            (daemon.inbox / "later-link.png").symlink_to(secret)
            os.mkfifo(daemon.inbox / "later-fifo.png")
            assert wait_for_sidecar(daemon.drop("good.png", picture(1)))
            assert daemon.stop() == 0
    assert len(daemon.results()) == len(lark.uploads) == 1
    assert len([name for name in os.listdir(daemon.inbox) if name.endswith(".lark.json")]) == 1
    assert not [event for event in daemon.events() if event["level"] in {"warning", "error"}]


@pytest.mark.parametrize("after", ["move", "delete"])
@pytest.mark.parametrize("across", [False, True])
def test_after_upload(
    lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path, elsewhere: Path, after: str, *, across: bool
) -> None:
    """Never before the record is durable, never onto an existing file, across file systems too."""
    done = elsewhere if across else tmp_path / "done"
    done.mkdir(exist_ok=True)
    (done / "a.png").write_bytes(b"somebody's")
    watch = {"path": tmp_path / "inbox", "after_upload": after} | ({"move_to": done} if after == "move" else {})
    with make_daemon(watch=[watch]) as daemon:
        (daemon.inbox / "sub").mkdir()
        contents = {"a.png": picture(1), "sub/b.png": picture(2), "bad.png": b"words"}
        for name, content in contents.items():
            daemon.drop(name, content)
        wait_until(lambda: len(daemon.results()) == 3 and len(daemon.events("moved") + daemon.events("deleted")) == 2)
        assert daemon.stop() == 0
    assert not (daemon.inbox / "a.png").exists()
    assert not (daemon.inbox / "sub" / "b.png").exists()
    assert (daemon.inbox / "bad.png").read_bytes() == b"words"
    assert (done / "a.png").read_bytes() == b"somebody's"
    if after == "move":
        for name, content in (("a.1.png", picture(1)), ("sub/b.png", picture(2))):
            assert (done / name).read_bytes() == content
            assert true_answer(lark, done / name)
            assert (sidecar_of(done / name) or {})["file"] == Path(name).name
    else:
        assert (daemon.inbox / name_for("a.png")).exists()


@pytest.mark.slow
def test_kills_while_pictures_are_moved(
    lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path, elsewhere: Path
) -> None:
    """Killed in the middle of many moves: every content arrives once, with its true sidecar, and nothing stays."""
    unlimited(lark)
    dice = random.Random(SEED)
    watch = [{"path": tmp_path / "inbox", "after_upload": "move", "move_to": elsewhere}]
    daemon = make_daemon(lark={"base_url": lark.url, **MANY}, watch=watch)
    for n in range(120):
        daemon.drop(f"{n}.png", picture(n))
    for _ in range(6):
        daemon.start(ready=False)
        target = len(lark.uploads) + dice.randrange(1, 15)
        wait_until(lambda target=target: len(lark.uploads) >= target)  # type: ignore[misc]  # bound at once
        daemon.kill()
    with daemon:
        wait_until(lambda: not list(daemon.inbox.glob("*.png")))
        assert daemon.stop() == 0
    arrived = sorted(elsewhere.glob("*.png"))
    assert sorted(path.read_bytes() for path in arrived) == sorted(picture(n) for n in range(120))
    assert all(true_answer(lark, path) for path in arrived)
    assert not [name for name in os.listdir(elsewhere) if name.endswith(".tmp")]
    assert os.listdir(daemon.inbox) == []


@pytest.mark.slow
@pytest.mark.needs("strace")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["/^link", "/^unlink", "/^mkdir", "/sync$"])
def test_a_kill_before_any_step_of_a_move(
    lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path, elsewhere: Path, call: str
) -> None:
    """Whichever change of a name or sync of a file it is killed at, the next run finishes, and nothing else stays."""
    unlimited(lark)
    done = elsewhere / "done"
    daemon = make_daemon(
        lark={"base_url": lark.url, **MANY},
        watch=[{"path": tmp_path / "inbox", "after_upload": "move", "move_to": done}],
    )
    for number in count(1):
        daemon.drop(f"{number}.png", picture(number))
        daemon.prefix = ("strace", "-f", "-qq", "-o", "/dev/null", f"--inject={call}:signal=KILL:when={number}")
        killed = daemon.once().returncode == -signal.SIGKILL
        daemon.prefix = ()
        assert daemon.once().returncode == 0
        place = done / f"{number}.png"
        assert sorted(os.listdir(done)) == [place.name, name_for(place.name)], f"killed before number {number}"
        assert place.read_bytes() == picture(number)
        assert true_answer(lark, place)
        assert os.listdir(daemon.inbox) == []
        shutil.rmtree(done)
        if not killed:
            break
    assert number > 1


def test_the_key_cache_is_what_the_log_says(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """The two records agree, and with Lark."""
    daemon = make_daemon()
    settled(daemon, lark, *range(20))
    with sqlite3.connect(daemon.state / "keys.sqlite3") as db:
        cached = dict(db.execute("SELECT sha256, image_key FROM keys"))
    db.close()
    assert cached == {line["sha256"]: line["image_key"] for line in daemon.results()}
    assert cached == {made.sha256: made.image_key for made in lark.uploads}
