"""The result log: one JSON object a line, one line an outcome or move, safe to tail through rotation."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from larkdrop.record import Record, now


class ResultLog:
    """Appends lines; a context manager. Thread-safe. Follows its own name when the file is rotated away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._file = -1

    def append(self, outcomes: Sequence[tuple[str, Record]], *, moved_to: str = "") -> None:
        """Add outcomes, durably: one write, then fdatasync. Raises OSError; none of them is then in the log.

        Each is an image's absolute path, and its record. ``moved_to`` tells where the image of a recorded outcome went.
        """
        lines = (json.dumps(_line(path, record, moved_to)) + "\n" for path, record in outcomes)
        data = "".join(lines).encode("ascii")
        with self._lock:
            self._follow()
            end = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, data)
                if written < len(data):
                    os.write(self._file, data[written:])
                os.fdatasync(self._file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file, end)  # no torn line stays where the disk is full
                raise

    def _open(self) -> int:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the name is to outlive a power cut too
        finally:
            os.close(folder)
        return file

    def _follow(self) -> None:
        """Open the file anew where a rotation has put another, or none, in its place."""
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            named = None
        mine = os.fstat(self._file)
        if named is None or (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino):
            fresh = self._open()
            os.close(self._file)
            self._file = fresh


def _line(path: str, record: Record, moved_to: str) -> dict[str, Any]:
    if moved_to:  # without the key, which the outcome's own line has
        return {"event": "moved", "timestamp": now(), "path": path, "moved_to": moved_to, "sha256": record.sha256}
    return {"event": record.event, "timestamp": now(), "path": path, **record.fields()}
