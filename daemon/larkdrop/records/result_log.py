"""The result log: one JSON object a line, one line an outcome, safe to tail through rotation.

The log never shrinks, since a reader that had read further would begin anew. What a power cut or a full disk left of
a line is overwritten with spaces, which no JSON reader minds.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from operator import ne
from pathlib import Path
from typing import Self

import structlog

from larkdrop.records.durable import make_folder, still_named, sync_folder, write_whole
from larkdrop.records.sidecar_fields import Record, now

# Bytes written before they are synced: no more of the log's end can be damaged by a power cut.
MOST_UNSYNCED = 256 * 1024
# Bytes of the log's end that are checked: those, and the whole lines before them.
CHECKED = 2 * MOST_UNSYNCED
BLOCK = 4096
# How every line begins.
OPENING = '{"event": '


class ResultLog:
    """Appends lines; a context manager. Thread-safe. Follows its own name when the file is rotated away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._file = -1
        self._sound: int | None = None  # where lines end that failed to be added, and are to be removed

    def __enter__(self) -> Self:
        make_folder(self.path.parent)
        self._file = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._file = -1

    def append(self, outcomes: Sequence[tuple[str, str, Record]]) -> int:
        """Add the first of the outcomes, as many as fit into ``MOST_UNSYNCED`` bytes and at least one, durably.

        Each is an image's absolute path, where it is moved to next or an empty string, and its record. Returns how many
        were added. Raises OSError; none of them is then in the log once ``append`` succeeds again.
        """
        data, added = b"", 0
        for path, place, record in outcomes:
            where = {"path": path, "moved_to": place} if place else {"path": path}
            line = json.dumps({"event": record.event, "timestamp": now(), **where, **record.fields()}) + "\n"
            if added and len(data) + len(line) > MOST_UNSYNCED:
                break
            data += line.encode("ascii")
            added += 1
        with self._lock:
            self._follow()
            if self._sound is not None:
                self._repair(self._file, self._sound)
            self._sound = os.fstat(self._file).st_size
            write_whole(self._file, data)
            os.fdatasync(self._file)
            self._sound = None
        return added

    def _open(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            sync_folder(self.path.parent)
            self._repair(file)
        except BaseException:
            os.close(file)
            raise
        return file

    def _follow(self) -> None:
        """Open the file anew where a rotation has put another, or none, in its place."""
        if not still_named(self.path, os.fstat(self._file)):
            if self._sound is not None:
                with suppress(OSError):
                    self._repair(self._file, self._sound)
            fresh = self._open()
            os.close(self._file)
            self._file, self._sound = fresh, None

    def _repair(self, file: int, sound: int | None = None) -> None:
        """Leave nothing but whole lines at the log's end, and none that begins at ``sound`` or later."""
        size = os.fstat(file).st_size
        sound = size if sound is None else min(sound, size)  # somebody may have emptied the log meanwhile
        start = max(0, sound - CHECKED)
        found = os.pread(file, size - start, start)
        right = whole_lines(found, start, sound - start)
        if right == found:
            return
        # Whole blocks are compared, since that is fast; those before the damage are not written again.
        same = next(at for at in count(0, BLOCK) if found[at : at + BLOCK] != right[at : at + BLOCK])
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        fcntl.fcntl(file, fcntl.F_SETFL, flags & ~os.O_APPEND)  # else writes go to the end, wherever the position is
        try:
            if right:
                os.lseek(file, start + same, os.SEEK_SET)
                write_whole(file, right[same:])
            else:
                os.ftruncate(file, 0)
        finally:
            fcntl.fcntl(file, fcntl.F_SETFL, flags)
        os.fdatasync(file)
        self._log.warning(
            "result_log_repaired", path=str(self.path), bytes=sum(map(ne, found, right)) if right else size,
            hint="The power failed or the disk was full while outcomes were added; they are added again.",
        )  # fmt: skip


def whole_lines(text: bytes, start: int = 0, sound: int | None = None) -> bytes:
    """The end of a log, which begins at its byte ``start``, with spaces in place of all that is no whole line.

    It is as long as before, or a newline longer; empty where nothing of a whole log is left. Lines from ``sound`` on
    count as damaged. Spaces stand before a line or after one, so that each line is one JSON object.
    """
    made = bytearray(b" " * len(text))
    end = None
    for begin, end in _whole(text.decode("latin-1"), start, len(text) if sound is None else sound):
        made[begin : end + 1] = text[begin:end] + b"\n"
    if end is None:
        return bytes(made) if start else b""
    if len(made) > end + 1:
        # A reader that has seen a part of a line sees it end here.
        made[end] = ord(" ")
        made[len(made) - text.endswith(b"\n") :] = b"\n"
    return bytes(made)


def _whole(text: str, start: int, sound: int) -> Iterator[tuple[int, int]]:
    """Where whole lines begin and end, newlines not counted; what can't be seen of the first is taken for whole."""
    begin = 0
    if start and (first := text.find("\n")) >= 0:
        yield 0, first
        begin = first + 1
    while begin < sound:
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        yield from _objects(text, begin, end)
        begin = end + 1


def _objects(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the JSON objects stand that a line holds: one, or between damages none or several."""
    line = text[begin:end]
    behind_nuls = line.lstrip("\0")
    if _is_object(behind_nuls):
        yield end - len(behind_nuls), end
        return
    at = text.find(OPENING, begin, end)
    while at >= 0:
        try:
            _, stop = json.JSONDecoder().raw_decode(text[:end], at)
        except (ValueError, RecursionError):
            stop = at + 1
        else:
            yield at, stop
        at = text.find(OPENING, stop, end)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
