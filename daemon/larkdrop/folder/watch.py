"""Watches the drop folders by watchdog's events, and watches them again when they come back."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Self

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.version import VERSION_STRING

from larkdrop.config.settings import Watch
from larkdrop.folder.drop import Drop, belongs, in_ignored
from larkdrop.folder.mounts import by_events, file_system
from larkdrop.folder.picture import Stamp

try:
    from larkdrop.folder import watchdog_internals
except (AttributeError, ImportError):  # of another version of watchdog
    watchdog_internals = None  # type: ignore[assignment]

# Seconds after which folders that the kernel would not watch are tried again.
RETRY_SECONDS = 60.0
EVENTS = [FileClosedEvent, FileCreatedEvent, FileMovedEvent, DirCreatedEvent, DirMovedEvent]


class Listener(Protocol):
    """Who is told what the watcher sees."""

    def finished(self, drop: Drop) -> None:
        """A file was closed by its writer, or renamed in."""

    def created(self, drop: Drop) -> None:
        """A file appeared, and nobody closed it yet: it is being written, or is a hard link."""

    def request_scan(self, watch: Watch, below: str = "") -> None:
        """Something may be in the folder, or in its sub-folder ``below``, that no event told of."""

    def events_lost(self) -> None:
        """The kernel dropped events."""

    def observer_chosen(self, watch: Watch, *, polled: bool, reason: str) -> None:
        """A folder is watched by events, or has to be looked through every ``poll_seconds``."""

    def watch_limit_reached(self, watch: Watch) -> None:
        """The kernel won't watch all of a folder, which is to be polled until ``observer_chosen`` says otherwise."""

    def folder_gone(self, watch: Watch) -> None:
        """A watched folder was removed, renamed or unmounted."""

    def folder_back(self, watch: Watch) -> None:
        """A watched folder is there again, and watched."""


@dataclass(eq=False)
class _Handler(FileSystemEventHandler):
    """Makes drops of one watched folder's events."""

    watch: Watch
    listener: Listener
    handled: int = 0

    def on_any_event(self, event: FileSystemEvent) -> None:
        """One of ``EVENTS``."""
        self.handled += 1
        path = os.fsdecode(event.dest_path or event.src_path)
        if event.is_directory:
            if self.watch.recursive and not in_ignored(self.watch, path):
                self.listener.request_scan(self.watch, path)
        elif not belongs(self.watch, path):
            pass
        elif isinstance(event, FileCreatedEvent):
            with suppress(OSError):  # it is gone already
                self.listener.created(Drop(path, self.watch, stamp=Stamp.of(os.lstat(path))))
        else:
            self.listener.finished(Drop(path, self.watch, closed=True))


@dataclass
class _Root:
    """A watched folder as it was last seen: ``identity`` is device and inode, None while it isn't there.

    ``limited``: the kernel would not watch all of it.
    """

    handler: _Handler
    identity: tuple[int, int] | None = None
    by_events: bool = False
    reason: str = ""
    scheduled: ObservedWatch | None = None
    limited: bool = False


class Watcher:
    """Watches every folder; a context manager."""

    def __init__(self, watches: Sequence[Watch], listener: Listener) -> None:
        self._listener = listener
        self._roots = {watch: _Root(_Handler(watch, listener)) for watch in watches}
        self._observer: BaseObserver | None = None
        self._reader: watchdog_internals.InotifyReader | None = None
        self._refused = 0  # how often the kernel would not watch a folder, as far as ``_watch_anew`` knows
        self._retry_at = 0.0

    def __enter__(self) -> Self:
        self._start_observer()
        for watch, root in self._roots.items():
            root.identity = _identity(watch)
            self._begin(watch, root)
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer:
            self._observer.stop()
            self._observer.join()
        if self._reader:
            self._reader.stop()
            self._reader.join()
        self._observer = self._reader = None

    def activity(self) -> dict[str, tuple[bool, int]]:
        """Of the parts that handle events: whether there are any to handle, and how many were."""
        if self._observer is None:
            return {}
        handled = sum(root.handler.handled for root in self._roots.values())
        parts = {"observer": (self._observer.event_queue.unfinished_tasks > 0, handled)}
        return parts | ({"inotify": self._reader.activity()} if self._reader else {})

    def check(self) -> None:
        """Notice folders that were removed, renamed, unmounted or mounted over, and watch again what can be watched."""
        for watch, root in self._roots.items():
            identity = _identity(watch)
            if identity == root.identity and not self._has_ended(root):
                continue
            if root.identity:
                self._unschedule(root)
                self._listener.folder_gone(watch)
            root.identity = identity
            if identity:
                self._begin(watch, root)
                self._listener.folder_back(watch)
        limited = any(root.limited for root in self._roots.values()) or self._count_refused() > self._refused
        unreadable = tuple(self._reader.unreadable) if self._reader else ()
        if time.monotonic() >= self._retry_at and (limited or any(os.access(one, os.R_OK) for one in unreadable)):
            self._watch_anew()

    def _has_ended(self, root: _Root) -> bool:
        """Whether the watch ended with its folder, where another folder has got the same inode."""
        emitters = self._observer.emitters if self._observer else ()
        return any(emitter.watch == root.scheduled and not emitter.is_alive() for emitter in emitters)

    def _start_observer(self) -> None:
        """Leave ``_observer`` None where the limit of inotify instances is reached."""
        try:
            self._reader, self._observer = _observer(self._listener)
        except OSError:
            return
        if self._reader:
            self._reader.start()
        self._observer.name = "observer"
        self._observer.start()

    def _begin(self, watch: Watch, root: _Root) -> None:
        """Choose how to watch a folder, and do."""
        kind = file_system(str(watch.path))
        root.by_events = by_events(watch, kind)
        if watch.observer != "auto":
            root.reason = f'observer = "{watch.observer}"'
        else:
            root.reason = f"{kind} {'reports every change' if root.by_events else 'does not report what others write'}"
        root.limited = False
        self._say_chosen(watch, root)
        if root.by_events and root.identity:
            self._schedule(watch, root)

    def _say_chosen(self, watch: Watch, root: _Root) -> None:
        loses_events = self._observer is not None and self._reader is None
        self._listener.observer_chosen(watch, polled=loses_events or not root.by_events, reason=root.reason)

    def _schedule(self, watch: Watch, root: _Root) -> None:
        """Watch a folder by events; say where that begins or ceases to be possible for all of it."""
        before, root.limited = root.limited, not self._try_to_schedule(watch, root)
        if root.limited and not before:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._listener.watch_limit_reached(watch)
        elif before and not root.limited:
            self._say_chosen(watch, root)

    def _try_to_schedule(self, watch: Watch, root: _Root) -> bool:
        """False where a limit of the kernel's is reached."""
        if self._observer is None:
            return False
        before = self._count_refused()
        try:
            root.scheduled = self._observer.schedule(
                root.handler, str(watch.path), recursive=watch.recursive, event_filter=EVENTS
            )
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return False
            root.identity = None  # it went just now; the next check sees
        return self._count_refused() == before

    def _count_refused(self) -> int:
        return self._reader.refused if self._reader else 0

    def _unschedule(self, root: _Root) -> None:
        if root.scheduled and self._observer:
            self._observer.unschedule(root.scheduled)
        root.scheduled = None

    def _watch_anew(self) -> None:
        """Try again to watch everything, since a limit may have been raised, or watches given back."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if self._observer is None:
            self._start_observer()
        if self._reader:
            self._reader.unreadable.clear()
        for watch, root in self._roots.items():
            if root.by_events and root.identity:
                self._unschedule(root)
                self._schedule(watch, root)
                if not root.limited:  # else it is polled
                    self._listener.request_scan(watch)  # for what came meanwhile
        self._refused = self._count_refused()


def _observer(listener: Listener) -> tuple[watchdog_internals.InotifyReader | None, BaseObserver]:
    """An observer, and the reader that tells what it misses; None where this version of watchdog has no place for it.

    Raises OSError where the limit of inotify instances is reached.
    """
    if watchdog_internals:
        with suppress(AttributeError, TypeError):
            reader = watchdog_internals.InotifyReader(listener.events_lost)
            return reader, reader.observer()
    observer = Observer()
    structlog.get_logger().warning(
        "watchdog_version", installed=VERSION_STRING, doing="also scans every folder every poll_seconds",
        hint="This watchdog does not tell larkdrop of lost events. Install the version that larkdrop asks for.",
    )  # fmt: skip
    return None, observer


def _identity(watch: Watch) -> tuple[int, int] | None:
    try:
        status = os.stat(watch.path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
