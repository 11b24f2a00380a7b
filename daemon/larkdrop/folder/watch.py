"""watchdog's observer becomes candidate paths, and watched folders are watched again when they come back."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify import InotifyFullEmitter
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from larkdrop.config import Watch
from larkdrop.folder.drop import Drop, belongs
from larkdrop.folder.picture import Stamp

# A folder renamed within the tree keeps its watch; watchdog warns that it is set again.
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)

EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


class Finder(Protocol):
    """Who is told what the watcher sees."""

    def finished(self, drop: Drop) -> None:
        """A file was closed by its writer, or renamed in."""

    def begun(self, drop: Drop) -> None:
        """A file appeared, and nobody closed it yet: it is being written, or is a hard link."""

    def look(self, watch: Watch, below: str = "") -> None:
        """Something may be in the folder that no event told of."""

    def lost(self) -> None:
        """The kernel dropped events."""

    def short_of_watches(self, path: str) -> None:
        """The kernel's limit of watches is reached: ``path`` can't be watched."""

    def root_gone(self, watch: Watch) -> None:
        """A watched folder was removed, renamed or unmounted."""

    def root_back(self, watch: Watch) -> None:
        """A watched folder is there again, and watched."""


class _Descriptor(InotifyFD):
    """watchdog's inotify reader, which keeps overflows and the limit of watches to itself."""

    def __init__(self, finder: Finder) -> None:
        super().__init__()
        self.name = "inotify"
        self._finder = finder

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)
        if event.is_queue_overflow:
            self._finder.lost()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EMFILE}:
                self._finder.short_of_watches(os.fsdecode(path))
            raise


class _Emitter(InotifyFullEmitter):
    """Without IN_MOVED_FROM: watchdog would hold every later event back for 0.5 s to look for the other half."""

    def get_event_mask_from_filter(self) -> Mask:
        return Mask(super().get_event_mask_from_filter() & ~InotifyConstants.IN_MOVED_FROM)


class _Observer(BaseObserver):
    def __init__(self, finder: Finder) -> None:
        self._descriptor = _Descriptor(finder)
        super().__init__(_Emitter, inotify_fd=self._descriptor)
        self.name = "observer"

    def on_thread_start(self) -> None:
        self._descriptor.start()
        super().on_thread_start()

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._descriptor.stop()
        self._descriptor.join()


@dataclass
class _Handler(FileSystemEventHandler):
    """One watched folder's events, as candidates."""

    watch: Watch
    finder: Finder

    def dispatch(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        if event.is_directory:
            if self.watch.recursive:
                self.finder.look(self.watch, path)
        elif not belongs(self.watch, path):
            pass
        elif isinstance(event, FileCreatedEvent):
            try:
                stamp = Stamp.of(os.lstat(path))
            except OSError:
                return
            self.finder.begun(Drop(path, self.watch, stamp=stamp))
        else:
            self.finder.finished(Drop(path, self.watch, closed=True))

    def __hash__(self) -> int:
        return id(self)


class Watcher:
    """Watches every folder; a context manager."""

    def __init__(self, watches: Sequence[Watch], finder: Finder) -> None:
        self._watches = watches
        self._finder = finder
        self._observer: _Observer | None = None
        self._seen: dict[Watch, tuple[tuple[int, int], ObservedWatch | None] | None] = {}

    def __enter__(self) -> Self:
        self._observer = _Observer(self._finder)
        self._observer.start()
        for watch in self._watches:
            self._seen[watch] = self._schedule(watch)
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer:
            self._observer.stop()
            self._observer.join()

    @property
    def alive(self) -> bool:
        """Whether the threads that deliver events still run."""
        return self._observer is not None and self._observer.is_alive()

    def check(self) -> None:
        """Notice watched folders that were removed, renamed, unmounted or mounted over, and watch them again."""
        for watch, seen in self._seen.items():
            identity = _identity(watch)
            if identity == (seen and seen[0]):
                continue
            if seen:
                self._unschedule(seen[1])
                self._seen[watch] = None
                self._finder.root_gone(watch)
            if identity and (fresh := self._schedule(watch)):
                self._seen[watch] = fresh
                self._finder.root_back(watch)

    def _schedule(self, watch: Watch) -> tuple[tuple[int, int], ObservedWatch | None] | None:
        """Watch a folder, and remember which one it is. None where it isn't there."""
        if (identity := _identity(watch)) is None or self._observer is None:
            return None
        try:
            watched = self._observer.schedule(
                _Handler(watch, self._finder), str(watch.path), recursive=watch.recursive, event_filter=EVENTS
            )
        except OSError:
            return (identity, None) if _identity(watch) == identity else None
        return identity, watched

    def _unschedule(self, watched: ObservedWatch | None) -> None:
        if watched and self._observer:
            self._observer.unschedule(watched)


def _identity(watch: Watch) -> tuple[int, int] | None:
    try:
        status = os.stat(watch.path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
