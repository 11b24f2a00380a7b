"""What happens where something can't be written: a full disk, a missing permission, a file system that is read-only.

It is said once, with what to do about it, counted while it lasts, and said when it is over. What could not be written
stays in memory, and the step that failed is taken again after a pause (``recorder.py``, ``backoff.py``). While the key
cache can't be written, no keys are asked for: the worker asks ``keeps_keys`` before each call.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog

from larkdrop.errors import ConfigError, LarkdropError
from larkdrop.records.durable import writable

CURES = {
    errno.ENOSPC: "Make room on the disk",
    errno.EDQUOT: "Raise the disk quota",
    errno.EACCES: "Let larkdrop's user write there",
    errno.EPERM: "Let larkdrop's user write there",
}
ANY_CURE = "Check that the disk works and has room, and that larkdrop's user may write there"
SQLITE_ERRORS = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EACCES}
# What a person has to change, in the set-up or in a folder's rights. Anything else may pass.
LASTING = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP,
    errno.ENAMETOOLONG,
})  # fmt: skip
KEY_CACHE = "key cache"


@dataclass
class _Trouble:
    """``what`` can't be written; ``shown`` is what a person reads; ``failures`` counts since it began."""

    what: str
    shown: str = ""
    failures: int = 0


class DiskTrouble:
    """Knows what can't be written now. Thread-safe."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._troubles: dict[str, _Trouble] = {}  # by what and where it is

    @property
    def shown(self) -> tuple[str, ...]:
        """What can't be written now, as a person reads it."""
        with self._lock:
            return tuple(trouble.shown for trouble in self._troubles.values())

    def kinds(self) -> Counter[str]:
        """In how many places each kind of thing can't be written now."""
        with self._lock:
            return Counter(trouble.what for trouble in self._troubles.values())

    @property
    def keeps_keys(self) -> bool:
        """Whether the last key could be written to the key cache."""
        return KEY_CACHE not in self._troubles

    def failed(self, what: str, place: str, error: OSError | sqlite3.Error) -> None:
        """``what`` could not be written at ``place``, or where the error names another folder, there."""
        at = _place_of(error) or place
        with self._lock:
            trouble = self._troubles.setdefault(_name(what, place), _Trouble(what))
            trouble.shown = f"{verb(what)} {_name(what, at)}"
            trouble.failures += 1
            begins = trouble.failures == 1
        if begins:
            self._log.error(
                "recording_failed", what=what, place=at, reason=_reason(error),
                hint=f"{_cure(error, at)}; it is tried again by itself.",
            )  # fmt: skip

    def worked(self, what: str, place: str) -> None:
        """``what`` was written at ``place``."""
        with self._lock:
            ended = self._troubles.pop(_name(what, place), None)
        if ended:
            self._log.warning("recording_works_again", what=what, place=place, failures=ended.failures)


def cannot_begin(what: str, setting: str, place: Path, error: OSError | sqlite3.Error) -> LarkdropError:
    """Why larkdrop does not start: ``what`` can't be used at ``place``, which ``setting`` says.

    A ConfigError, after which systemd does not try again, where a person has to change something.
    """
    cure = _cure(error, str(place))
    if _number(error) in LASTING:
        problem = f"{setting} = {str(place)!r}: {_reason(error)}"
        return ConfigError(
            f"{what} can't be used", problems=(problem,), hint=f"{cure}, or set {setting} to another place."
        )
    return LarkdropError(f"{what} can't be used at {place}: {_reason(error)}", hint=f"{cure}.")


def verb(what: str) -> str:
    """What is done with such a thing, as a person reads it."""
    return "move or delete" if what == "picture" else "write"


def _name(what: str, place: str) -> str:
    return what if what == KEY_CACHE else f"{what} {place}"


def _place_of(error: OSError | sqlite3.Error) -> str:
    """The folder or file that the error names, which may be another than the one at hand: move_to."""
    name = error.filename if isinstance(error, OSError) else ""
    return name if isinstance(name, str) and os.path.isabs(name) else ""


def _reason(error: OSError | sqlite3.Error) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _cure(error: OSError | sqlite3.Error, place: str) -> str:
    number = _number(error)
    return writable(place) if number == errno.EROFS else CURES.get(number, ANY_CURE)


def _number(error: OSError | sqlite3.Error) -> int:
    """The errno, 0 where SQLite did not say enough."""
    if isinstance(error, OSError):
        return error.errno or 0
    return SQLITE_ERRORS.get(getattr(error, "sqlite_errorname", ""), 0)
