"""How much of large pictures is in memory at the same time, however many workers there are."""

from __future__ import annotations

import threading


class Memory:
    """Permits for ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._changed = threading.Condition()

    def acquire(self, size: int, timeout: float) -> bool:
        """Reserve ``size`` bytes; False where they don't become free within ``timeout`` seconds."""
        with self._changed:
            free = self._changed.wait_for(lambda: self._free >= size, timeout)
            self._free -= size if free else 0
            return free

    def release(self, size: int) -> None:
        """Give back what was acquired."""
        with self._changed:
            self._free += size
            self._changed.notify_all()
