"""What larkdrop needs of watchdog's inside is there. A failure here means that another watchdog is installed.

Then read what changed in ``watchdog.observers.inotify`` and ``inotify_c``, adapt ``folder/watchdog_internals.py``, and
move the range in pyproject.toml. Until then larkdrop works without it, by scanning more often.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import FileClosedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import inotify_c
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, WatchDescriptor
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.version import VERSION_MAJOR, VERSION_MINOR, VERSION_STRING

from larkdrop.folder.watch import EVENTS
from larkdrop.folder.watchdog_internals import InotifyReader
from tests.helpers import wait_until


class Heard(FileSystemEventHandler):
    """Remembers the events that come through watchdog."""

    def __init__(self) -> None:
        self.events: list[FileSystemEvent] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Remember."""
        self.events.append(event)

    def names(self) -> list[str]:
        """The names of the files."""
        return [os.path.basename(os.fsdecode(event.dest_path or event.src_path)) for event in self.events]


@pytest.fixture
def overflows() -> list[str]:
    """What the reader tells of."""
    return []


@pytest.fixture
def reader(overflows: list[str]) -> Iterator[InotifyReader]:
    """A reader that is started, and stopped after the test."""
    made = InotifyReader(lambda: overflows.append("lost"))
    made.start()
    yield made
    made.stop()
    made.join()


@pytest.fixture
def heard(reader: InotifyReader, tmp_path: Path) -> Iterator[Heard]:
    """What comes of the events below ``tmp_path``."""
    handler, observer = Heard(), reader.observer()
    observer.schedule(handler, str(tmp_path), recursive=True, event_filter=EVENTS)
    observer.start()
    yield handler
    observer.stop()
    observer.join()


def test_the_version_is_the_one_it_was_written_for() -> None:
    """It is pinned in pyproject.toml, since what is below may change in any other."""
    assert (int(VERSION_MAJOR), int(VERSION_MINOR)) == (7, 1), (
        f"watchdog {VERSION_STRING} is installed, and folder/watchdog_internals.py was written for 7.1"
    )


def test_an_overflow_is_told(heard: Heard, reader: InotifyReader, overflows: list[str]) -> None:
    """With the event that the kernel gives for it."""
    reader.handle_event(InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b""))
    assert overflows == ["lost"], "InotifyFD.handle_event no longer gets the kernel's overflow (IN_Q_OVERFLOW)"


def test_a_folder_that_the_kernel_will_not_watch_is_counted(
    heard: Heard, reader: InotifyReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sub-folder, beyond the limit of watches."""

    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(inotify_c, "inotify_add_watch", refuse)
    (tmp_path / "new").mkdir()
    wait_until(
        lambda: reader.refused, 20, "InotifyFD.add_callback no longer raises what the kernel says (ENOSPC) of a folder"
    )


def test_what_is_moved_out_holds_nothing_back(
    reader: InotifyReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchdog waits for the other half of a move; here for so long that the next drop would not come in time.

    What is moved in comes as closed, since its other half is not looked for either.
    """
    monkeypatch.setattr(InotifyMoveEventGrouper, "delay", 3600)
    inbox, handler, observer = tmp_path / "inbox", Heard(), reader.observer()
    inbox.mkdir()
    (inbox / "old.png").touch()
    observer.schedule(handler, str(inbox), event_filter=EVENTS)
    observer.start()
    (inbox / "old.png").rename(tmp_path / "old.png")
    (tmp_path / "old.png").rename(inbox / "new.png")
    what = "events wait behind IN_MOVED_FROM: InotifyFD.add_callback no longer gets the mask"
    wait_until(lambda: handler.names() == ["new.png"], 20, what)
    assert isinstance(handler.events[0], FileClosedEvent), "InotifyFD.handle_event no longer gets each event"
    observer.stop()
    observer.join()


def test_own_files_go_no_further(heard: Heard, tmp_path: Path) -> None:
    """A sidecar for each picture would be as many events again."""
    (tmp_path / "a.png.lark.json").write_bytes(b"x")
    os.close(os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE))
    (tmp_path / "last.png").write_bytes(b"x")
    wait_until(
        lambda: heard.names() == ["last.png", "last.png"],
        20,
        "InotifyFD.handle_event no longer gets each event, or add_callback the mask",
    )


def test_unread_events_are_seen(tmp_path: Path) -> None:
    """While the reader does not run."""
    reader = InotifyReader(lambda: None)
    observer = reader.observer()
    observer.schedule(Heard(), str(tmp_path))
    observer.start()
    assert reader.activity() == (False, 0)
    (tmp_path / "a.png").touch()
    assert reader.activity() == (True, 0), "FIONREAD on InotifyFD._inotify_fd no longer tells of unread events"
    reader.start()
    wait_until(lambda: not reader.activity()[0])
    observer.stop()
    observer.join()
    reader.stop()
    reader.join()
