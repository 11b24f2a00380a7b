"""Whatever happens in a watched folder, the listener is told: at once by events, or that it has to scan.

How long real tools take to write a file, and folders that come and go, are in ``faults/test_writers.py``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog

from larkdrop.config.settings import Watch
from larkdrop.folder import watch as watch_module
from larkdrop.folder import watchdog_internals
from larkdrop.folder.drop import Drop
from larkdrop.folder.watch import Watcher
from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, wait_for_sidecar, wait_until

UNLIMITED = {"requests_per_second": 10_000, "requests_per_minute": 600_000}


class Told:
    """A listener that remembers what it was told: each call's name, and the name of the file or folder."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def finished(self, drop: Drop) -> None:
        """Remember."""
        self.calls.append(("finished", os.path.basename(drop.path)))

    def created(self, drop: Drop) -> None:
        """Remember."""
        self.calls.append(("created", os.path.basename(drop.path)))

    def request_scan(self, watch: Watch, below: str = "") -> None:
        """Remember."""
        self.calls.append(("request_scan", os.path.basename(below or str(watch.path))))

    def events_lost(self) -> None:
        """Remember."""
        self.calls.append(("events_lost", ""))

    def observer_chosen(self, watch: Watch, *, polled: bool, reason: str) -> None:
        """Remember."""
        self.calls.append(("observer_chosen", "polling" if polled else "inotify"))

    def watch_limit_reached(self, watch: Watch) -> None:
        """Remember."""
        self.calls.append(("watch_limit_reached", watch.path.name))

    def folder_gone(self, watch: Watch) -> None:
        """Remember."""
        self.calls.append(("folder_gone", watch.path.name))

    def folder_back(self, watch: Watch) -> None:
        """Remember."""
        self.calls.append(("folder_back", watch.path.name))

    def has(self, call: tuple[str, str], times: int) -> bool:
        """Whether it was told this so often."""
        return self.calls.count(call) == times

    def wait_for(self, *call: str) -> None:
        """Until it was told this."""
        wait_until(lambda: call in self.calls, 20, f"{call} in {self.calls}")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder to be watched."""
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def drop_in_every_way(inbox: Path, told: Told) -> None:
    """Written, renamed in, linked, and in a folder moved in: each is told, but for what is no drop."""
    outside = inbox.with_name("outside")
    (outside / "album").mkdir(parents=True)
    for name in ("renamed.png", "linked.png"):
        (outside / name).write_bytes(b"x")
    (inbox / "written.png").write_bytes(b"x")
    told.wait_for("finished", "written.png")
    os.link(outside / "linked.png", inbox / "linked.png")
    told.wait_for("created", "linked.png")
    (outside / "album").rename(inbox / "album")
    told.wait_for("request_scan", "album")
    (inbox / "album" / "within.png").write_bytes(b"x")
    told.wait_for("finished", "within.png")
    (outside / "renamed.png").rename(inbox / "renamed.png")
    wait_until(lambda: any(name == "renamed.png" for _, name in told.calls), 20)
    (inbox / "written.png").rename(inbox / "again.png")
    told.wait_for("finished", "again.png")


def test_every_way_to_drop_is_told(inbox: Path) -> None:
    """A rename as finished, since nobody writes to it; and it is counted, for liveness."""
    told = Told()
    with Watcher([Watch(path=inbox)], told) as watcher:
        drop_in_every_way(inbox, told)
        assert ("finished", "renamed.png") in told.calls
        wait_until(lambda: not any(busy for busy, _ in watcher.activity().values()))
        done = {part: number for part, (_, number) in watcher.activity().items()}
        assert done.keys() == {"inotify", "observer"}
        (inbox / "more.png").write_bytes(b"x")
        wait_until(lambda: all(watcher.activity()[part][1] > done[part] for part in done))
    assert {name for name, _ in told.calls} == {"observer_chosen", "finished", "created", "request_scan"}


def test_a_folder_that_is_removed_and_made_again_between_two_checks(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems give the new one the same inode at once, so that it looks like the old one."""
    monkeypatch.setattr(watch_module, "_identity", lambda watch: (1, 1) if watch.path.is_dir() else None)
    told = Told()
    with Watcher([Watch(path=inbox)], told) as watcher:
        inbox.rmdir()
        inbox.mkdir()

        def is_back() -> bool:
            watcher.check()
            return ("folder_back", "inbox") in told.calls

        wait_until(is_back, 20)
        (inbox / "a.png").write_bytes(b"x")
        told.wait_for("finished", "a.png")


def test_folders_of_one_name_that_are_moved_away_and_removed(inbox: Path) -> None:
    """As where an album is archived under another name and begun anew; the next drop is told, and it stops in peace."""
    told, archive = Told(), inbox.with_name("archive")
    archive.mkdir()
    with Watcher([Watch(path=inbox)], told):
        for number in "12":
            (inbox / "album").mkdir()
            wait_until(partial(told.has, ("request_scan", "album"), int(number)), 20)
            (inbox / "album").rename(archive / number)
        for number in "21":
            (archive / number).rmdir()
        (inbox / "a.png").write_bytes(b"x")
        told.wait_for("finished", "a.png")


def test_a_folder_whose_name_ends_like_a_sidecars(inbox: Path) -> None:
    """It is a folder as any other."""
    told = Told()
    with Watcher([Watch(path=inbox)], told):
        (inbox / "album.lark.json").mkdir()
        told.wait_for("request_scan", "album.lark.json")


def test_a_file_that_has_no_name_is_no_drop(inbox: Path) -> None:
    """The kernel tells that it was closed, under a name made of its inode; nor is one that is gone by now."""
    told = Told()
    with Watcher([Watch(path=inbox)], told):
        os.close(os.open(inbox, os.O_WRONLY | os.O_TMPFILE))
        (inbox / "#1").write_bytes(b"x")
        told.wait_for("finished", "#1")
    assert [call for call in told.calls if call[0] == "finished"] == [("finished", "#1")]


@pytest.mark.parametrize("missing", ["the module", "a part of it"])
def test_without_watchdogs_internals_it_watches_and_polls(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """By watchdog's own observer, and by scans for what that loses; the log says so once, and what to do."""
    if missing == "the module":
        monkeypatch.setattr(watch_module, "watchdog_internals", None)
    else:
        monkeypatch.delattr(watchdog_internals, "InotifyReader")
    told, other = Told(), inbox.with_name("other")
    other.mkdir()
    with (
        structlog.testing.capture_logs() as logged,
        Watcher([Watch(path=inbox), Watch(path=other)], told) as watcher,
    ):
        drop_in_every_way(inbox, told)
        assert watcher.activity().keys() == {"observer"}
        watcher.check()
    assert told.calls.count(("observer_chosen", "polling")) == 2
    (said,) = logged
    assert (said["event"], said["log_level"]) == ("watchdog_version", "warning")


def test_a_daemon_without_watchdogs_internals(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Every picture gets its key, as with a watchdog of another version."""
    (tmp_path / "sitecustomize.py").write_text(
        "import watchdog.observers.inotify\ndel watchdog.observers.inotify.InotifyFullEmitter\n"
    )
    daemon = make_daemon()
    daemon.start(PYTHONPATH=str(tmp_path))
    for number, name in enumerate(("a.png", "b.png")):
        assert wait_for_sidecar(daemon.drop(name, picture(number)))
    outside = tmp_path / "c.png"
    outside.write_bytes(picture(3))
    outside.rename(daemon.inbox / "c.png")
    assert wait_for_sidecar(daemon.inbox / "c.png")
    assert len(daemon.events("watchdog_version")) == 1
    assert daemon.stop() == 0


@contextmanager
def sysctl(name: str, value: int) -> Iterator[None]:
    """A kernel setting, set back afterwards; it holds for the whole machine."""
    place = Path("/proc/sys/fs/inotify", name)
    before = place.read_text()
    place.write_text(str(value))
    try:
        yield
    finally:
        place.write_text(before)


@pytest.mark.slow
@pytest.mark.needs("root", "mount")
def test_a_kernel_queue_overflow_is_made_good_at_once(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """64 events of room, 1,500 files dropped on a stopped process, no periodic rescan to help."""
    lark.faults.set({"per_second": 10_000, "per_minute": 600_000})
    with sysctl("max_queued_events", 64):
        daemon = make_daemon(
            lark={"base_url": lark.url, "requests_per_second": 10_000, "requests_per_minute": 600_000},
            upload={"rescan_seconds": 3600},
        )
        with daemon:
            daemon.signal(signal.SIGSTOP)
            paths = [daemon.drop(f"{n}.png", picture(n)) for n in range(1500)]
            daemon.signal(signal.SIGCONT)
            for path in paths:
                wait_for_sidecar(path, 60)
            assert daemon.events("events_lost")


@pytest.mark.slow
@pytest.mark.needs("root", "mount")
def test_out_of_inotify_watches(lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Says which sysctl and how much, and polls meanwhile."""
    watch = [{"path": tmp_path / "inbox", "poll_seconds": 0.3}]
    daemon = make_daemon(watch=watch)
    for n in range(40):
        (daemon.inbox / f"{n}").mkdir()
    with sysctl("max_user_watches", 20), daemon:
        (said,) = wait_until(lambda: daemon.events("watch_limit"))
        assert "fs.inotify.max_user_watches=40 (now 20)" in said["hint"]
        for n in range(40):
            assert wait_for_sidecar(daemon.drop(f"{n}/a.png", picture(n)))


@pytest.mark.slow
@pytest.mark.needs("root", "mount")
def test_out_of_inotify_instances(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Not one folder can be watched by events: all are polled, and the log says so."""
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "poll_seconds": 0.3}])
    with sysctl("max_user_instances", 0), daemon:
        (said,) = daemon.events("watch_limit")
        assert "fs.inotify.max_user_instances" in said["hint"]
        assert wait_for_sidecar(daemon.drop("a.png", picture(1)))


@pytest.mark.slow
@pytest.mark.needs("root", "mount")
def test_the_limit_of_watches_is_tried_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once; as soon as there is room it is watched by events again, and scanned for what was missed meanwhile."""
    monkeypatch.setattr(watch_module, "RETRY_SECONDS", 0)
    told = Told()
    with Watcher([Watch(path=inbox)], told) as watcher:
        with sysctl("max_user_watches", 10):
            for number in range(20):
                (inbox / f"{number}").mkdir()

            def limit_reached() -> bool:
                watcher.check()
                return ("watch_limit_reached", "inbox") in told.calls

            wait_until(limit_reached)
            watcher.check()
            assert told.calls.count(("watch_limit_reached", "inbox")) == 1
            assert told.calls[-1] == ("watch_limit_reached", "inbox")
        watcher.check()
        assert told.calls[-2:] == [("observer_chosen", "inotify"), ("request_scan", "inbox")]
        (inbox / "19" / "a.png").write_bytes(b"x")
        told.wait_for("finished", "a.png")


@pytest.mark.slow
@pytest.mark.needs("root", "mount")
def test_the_limit_of_instances_is_tried_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is watched by events until there is room."""
    monkeypatch.setattr(watch_module, "RETRY_SECONDS", 0)
    told = Told()
    watcher = Watcher([Watch(path=inbox)], told)
    with ExitStack() as stack:
        with sysctl("max_user_instances", 0):
            stack.enter_context(watcher)
        assert told.calls[-1] == ("watch_limit_reached", "inbox")
        watcher.check()
        assert told.calls[-1] == ("request_scan", "inbox")
        (inbox / "a.png").write_bytes(b"x")
        told.wait_for("finished", "a.png")
