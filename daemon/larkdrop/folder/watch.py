"""watchdog's observer becomes candidate paths, and watched folders are watched again when they come back."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import time
import warnings
from array import array
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
from watchdog.observers.api import BaseObserver, EventQueue, ObservedWatch
from watchdog.observers.inotify import InotifyFullEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    DEFAULT_EVENT_BUFFER_SIZE,
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from larkdrop.config.settings import Watch
from larkdrop.folder import sidecar
from larkdrop.folder.drop import Drop, belongs, in_ignored
from larkdrop.folder.mounts import file_system, reports_changes
from larkdrop.folder.picture import Stamp

# A folder renamed within the tree keeps its watch; watchdog warns that it is set again.
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)

# Seconds after which folders that the kernel would not watch are tried again.
SHORTAGE_SECONDS = 60.0
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

    def chosen(self, watch: Watch, *, polled: bool, reason: str) -> None:
        """A folder is watched by events, or has to be looked through every ``poll_seconds``."""

    def short_of_watches(self, watch: Watch) -> None:
        """The kernel's limit of watches is reached: the folder is polled meanwhile."""

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
        self._handled = 0
        self.handlers: dict[bytes, _Handler] = {}  # by watched folder
        self.short = False

    def look(self) -> tuple[bool, int]:
        """Whether the kernel holds events that were not read, and how many were."""
        held = array("i", [0])
        fcntl.ioctl(self._inotify_fd, termios.FIONREAD, held)
        return held[0] > 0, self._handled

    def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
        """Without those of larkdrop's own files, which are most."""
        return [
            event
            for event in super().read_events(event_buffer_size=event_buffer_size)
            if not sidecar.is_ours(os.fsdecode(event.name))
        ]

    def handle_event(self, event: InotifyEvent) -> None:
        self._handled += 1
        super().handle_event(event)
        if event.is_queue_overflow:
            self._finder.lost()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            # watchdog passes over a sub-folder that it can't watch.
            self.short = self.short or error.errno in {errno.ENOSPC, errno.EMFILE}
            raise


class _Group(InotifyWatchGroup):
    """Hands what happens to files over at once: watchdog would pass each event through two more threads."""

    def on_event(self, event: InotifyEvent) -> None:
        if event.is_directory or not event.name:
            super().on_event(event)
            return
        with self._lock:
            path = self._build_event_source_path(event) if self.is_active else None
        if path and event.name.startswith(b"#") and not os.path.lexists(path):
            return  # a file without a name was closed, which the kernel calls by its inode: a sidecar, as a rule
        if path and isinstance(self._inotify_fd, _Descriptor):
            self._inotify_fd.handlers[self.path].file(os.fsdecode(path), begun=event.is_create)


class _Emitter(InotifyFullEmitter):
    """Without IN_MOVED_FROM: watchdog would hold every later event back for 0.5 s to look for the other half."""

    def on_thread_start(self) -> None:
        self._inotify = _Group(
            self._inotify_fd,
            os.fsencode(self.watch.path),
            is_recursive=self.watch.is_recursive,
            event_mask=self.get_event_mask_from_filter(),
        )

    def get_event_mask_from_filter(self) -> Mask:
        return Mask(super().get_event_mask_from_filter() & ~InotifyConstants.IN_MOVED_FROM)


class _Observer(BaseObserver):
    def __init__(self, finder: Finder) -> None:
        self.descriptor = _Descriptor(finder)
        super().__init__(_Emitter, inotify_fd=self.descriptor)
        self.name = "observer"
        self._dispatched = 0

    def look(self) -> tuple[bool, int]:
        """Whether events wait to be looked at, and how many were."""
        return not self.event_queue.empty(), self._dispatched

    def dispatch_events(self, event_queue: EventQueue) -> None:
        self._dispatched += 1
        super().dispatch_events(event_queue)

    def on_thread_start(self) -> None:
        self.descriptor.start()
        super().on_thread_start()

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self.descriptor.stop()
        self.descriptor.join()


@dataclass
class _Handler(FileSystemEventHandler):
    """One watched folder's events, as candidates."""

    watch: Watch
    finder: Finder

    def dispatch(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        if event.is_directory:
            if self.watch.recursive and not in_ignored(self.watch, path):
                self.finder.look(self.watch, path)
        else:
            self.file(path, begun=isinstance(event, FileCreatedEvent))

    def file(self, path: str, *, begun: bool) -> None:
        """A file appeared, or was closed or renamed in."""
        if not belongs(self.watch, path):
            return
        if begun:
            try:
                stamp = Stamp.of(os.lstat(path))
            except OSError:
                return
            self.finder.begun(Drop(path, self.watch, stamp=stamp))
        else:
            self.finder.finished(Drop(path, self.watch, closed=True))

    def __hash__(self) -> int:
        return id(self)


@dataclass
class _Root:
    """A watched folder as it was last seen: ``identity`` is device and inode, None while it isn't there."""

    identity: tuple[int, int] | None = None
    watched: ObservedWatch | None = None


class Watcher:
    """Watches every folder; a context manager."""

    def __init__(self, watches: Sequence[Watch], finder: Finder) -> None:
        self._finder = finder
        self._observer: _Observer | None = None
        self._roots = {watch: _Root() for watch in watches}
        self._try_again = 0.0

    def __enter__(self) -> Self:
        try:
            self._observer = _Observer(self._finder)
        except OSError:
            self._observer = None  # the limit of inotify instances
        else:
            self._observer.start()
        for watch, root in self._roots.items():
            root.identity = _identity(watch)
            self._begin(watch, root)
        self._notice_shortage()
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer:
            self._observer.stop()
            self._observer.join()

    def activity(self) -> dict[str, tuple[bool, int]]:
        """The parts to be watched over."""
        return (
            {"inotify": self._observer.descriptor.look(), "observer": self._observer.look()} if self._observer else {}
        )

    def check(self) -> None:
        """Notice folders that were removed, renamed, unmounted or mounted over, and watch them again."""
        for watch, root in self._roots.items():
            identity = _identity(watch)
            if identity == root.identity:
                continue
            if root.identity:
                self._end(root)
                self._finder.root_gone(watch)
            root.identity = identity
            if identity:
                self._begin(watch, root)
                self._finder.root_back(watch)
        self._notice_shortage()

    def _begin(self, watch: Watch, root: _Root) -> None:
        """Choose how to watch a folder, and do."""
        kind = file_system(str(watch.path))
        polled = watch.observer == "polling" or (watch.observer == "auto" and not reports_changes(kind))
        if watch.observer != "auto":
            reason = f'observer = "{watch.observer}"'
        else:
            reason = f"{kind} {'does not report what others write' if polled else 'reports every change'}"
        self._finder.chosen(watch, polled=polled, reason=reason)
        if not polled and root.identity:
            self._schedule(watch, root)

    def _schedule(self, watch: Watch, root: _Root) -> None:
        if self._observer is None:
            self._finder.short_of_watches(watch)
            return
        handler = _Handler(watch, self._finder)
        self._observer.descriptor.handlers[os.fsencode(watch.path)] = handler
        try:
            root.watched = self._observer.schedule(
                handler, str(watch.path), recursive=watch.recursive, event_filter=EVENTS
            )
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EMFILE}:
                self._finder.short_of_watches(watch)
            else:
                root.identity = None  # it went just now; the next check sees

    def _end(self, root: _Root) -> None:
        if root.watched and self._observer:
            self._observer.unschedule(root.watched)
        root.watched = None

    def _notice_shortage(self) -> None:
        """Poll while sub-folders can't be watched; the limit may have been raised, so try again now and then."""
        observer = self._observer
        if observer is None or not observer.descriptor.short or time.monotonic() < self._try_again:
            return
        self._try_again = time.monotonic() + SHORTAGE_SECONDS
        observer.descriptor.short = False
        for watch, root in self._roots.items():
            if root.identity and (root.watched or watch.observer != "polling"):
                self._end(root)
                self._begin(watch, root)
        if observer.descriptor.short:
            for watch, root in self._roots.items():
                if root.watched:
                    self._finder.short_of_watches(watch)


def _identity(watch: Watch) -> tuple[int, int] | None:
    try:
        status = os.stat(watch.path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
