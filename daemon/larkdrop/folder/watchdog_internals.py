"""The one place that uses watchdog's inside: what inotify tells and watchdog's public classes keep to themselves.

Needed, and not to be had publicly in watchdog 7.1 (the range is pinned in pyproject.toml):

- An overflow of the kernel's queue is not told to handlers. A sub-folder beyond the limit of watches is passed over,
  and so is a folder that can't be listed.
- After IN_MOVED_FROM, which is part of the mask of every filter that has IN_MOVED_TO, all later events wait for 0.5 s.
- Each of larkdrop's own files, and each close of a file without a name, would pass through three threads before a
  handler could ignore it.
- Each file that is moved in is looked for among all events that wait, to see where it came from: in a crowd, that
  takes a time that grows with its square.
- A folder that was moved away keeps its watch under its old path. Where another one has that path by then and both
  go, watchdog raises KeyError, in the thread that reads or in the one that stops.
- Nobody says whether the kernel holds events that were not read.

Where something of it is missing, this can't be imported or made, and ``watch`` works without it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import warnings
from array import array
from collections.abc import Callable

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from larkdrop.folder import sidecar

# Without one of these, a watchdog is not the one that this was written for: an AttributeError on import.
REPLACED = InotifyFD.handle_event, InotifyFD.add_callback, InotifyWatchGroup._remove_watch_internally

CLOSED = InotifyConstants.IN_CLOSE_WRITE
UNWANTED = InotifyConstants.IN_MOVED_FROM
# No events of files that have no name, such as a sidecar while it is written.
WITHOUT_NAMELESS = InotifyConstants.IN_EXCL_UNLINK

# A folder renamed within the tree keeps its watch; watchdog warns that it is set again.
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)


class InotifyReader(InotifyFD):
    """The thread that reads inotify's events. Raises OSError where the limit of inotify instances is reached.

    ``refused`` counts how often the kernel would not watch a folder, since its limit was reached; ``unreadable`` are
    those that it would not watch, since larkdrop's user may not list them.
    """

    def __init__(self, overflowed: Callable[[], None]) -> None:
        super().__init__()
        self.name = "inotify"
        self.refused = 0
        self.unreadable: set[bytes] = set()
        self._overflowed = overflowed
        self._handled = 0
        self._file = self._inotify_fd  # here, so that a watchdog without it is noticed at once

    def observer(self) -> BaseObserver:
        """An observer of what is read here; to be stopped before this is."""
        return BaseObserver(InotifyFullEmitter, inotify_fd=self)

    def activity(self) -> tuple[bool, int]:
        """Whether the kernel holds events that were not read, and how many were handled."""
        held = array("i", [0])
        fcntl.ioctl(self._file, termios.FIONREAD, held)
        return held[0] > 0, self._handled

    def handle_event(self, event: InotifyEvent) -> None:
        self._handled += 1
        if sidecar.is_ours(os.fsdecode(event.name)) and not event.is_directory:
            return
        if event.is_moved_to and not event.is_directory:
            event = InotifyEvent(event.wd, CLOSED, 0, event.name)  # no less finished than one that was closed
        super().handle_event(event)
        if event.is_queue_overflow:
            self._overflowed()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        try:
            descriptor = super().add_callback(path, Mask(mask & ~UNWANTED | WITHOUT_NAMELESS), callback, id_)
        except OSError as error:
            self.refused += error.errno == errno.ENOSPC
            raise
        if descriptor < 0:
            self.unreadable.add(path)
        return descriptor


def _forget(group: InotifyWatchGroup, descriptor: WatchDescriptor) -> None:
    """Forget a watch; its path may belong to another one by now, or be forgotten already."""
    path = group._active_callbacks_by_watch.pop(descriptor, b"")
    if group._active_callbacks_by_path.get(path) == descriptor:
        del group._active_callbacks_by_path[path]


InotifyWatchGroup._remove_watch_internally = _forget  # type: ignore[method-assign, assignment]
