"""The state folder belongs to one larkdrop at a time, and has to stay where it is while that runs."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from larkdrop.errors import ConfigError, StateInUse
from larkdrop.records.durable import make_folder, writable


class StateFolder:
    """Holds the lock; a context manager. The kernel gives the lock back however the process ends.

    Raises StateInUse where another larkdrop holds it, ConfigError where the folder can't be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            make_folder(self._path, 0o700)
            self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            problem = f"state.dir = {str(self._path)!r}: {error.strerror}"
            cure = writable(str(self._path)) if error.errno == errno.EROFS else "Let larkdrop's user write there"
            hint = f"{cure}, or set state.dir to another folder."
            raise ConfigError("the state folder can't be used", problems=(problem,), hint=hint) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            message = f"another larkdrop{f' (process {holder})' if holder else ''} uses the state folder {self._path}"
            raise StateInUse(message, hint="Stop it, or give this one its own state.dir.") from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    @property
    def in_place(self) -> bool:
        """Whether the folder that was locked is still the one of this name; another larkdrop may use a new one."""
        try:
            named = os.stat(self._path / "lock")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # a file system that does not answer has lost nothing yet
        return os.path.samestat(named, os.fstat(self._lock))
