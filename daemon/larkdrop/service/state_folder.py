"""The state folder belongs to one larkdrop at a time, and has to stay where it is while that runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from larkdrop.errors import StateInUse
from larkdrop.pipeline.disk_trouble import cannot_begin
from larkdrop.records.durable import make_folder, still_named


class StateFolder:
    """Holds the lock; a context manager. The kernel gives the lock back however the process ends.

    Raises StateInUse where another larkdrop holds it, LarkdropError where the folder can't be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            make_folder(self._path, 0o700)
            self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            message = f"another larkdrop{f' (process {holder})' if holder else ''} uses the state folder {self._path}"
            raise StateInUse(message, hint="Stop it, or give this one its own state.dir.") from error
        except OSError as error:
            raise cannot_begin("the state folder", "state.dir", self._path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    @property
    def in_place(self) -> bool:
        """Whether the folder that was locked is still the one of this name; another larkdrop may use a new one."""
        return still_named(self._path / "lock", os.fstat(self._lock))
