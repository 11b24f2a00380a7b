"""How much of large pictures is in memory at the same time, however many workers there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from larkdrop.lark.accepted_images import MAX_BYTES

# Bytes of large pictures; one of 10 MB takes as long as a hundred of 100 KB, so few are enough. Others don't count.
MOST_BYTES = 4 * MAX_BYTES
LARGE = 256 * 1024
# Seconds that a picture waits here, in a worker's hands.
PATIENCE = 0.2


class Memory:
    """Room for large pictures. Thread-safe."""

    def __init__(self) -> None:
        self._free = MOST_BYTES
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[bool]:
        """Room for a file of ``size`` bytes, meanwhile; False where others have it and none becomes free soon."""
        needed = min(size, MAX_BYTES) if size > LARGE else 0
        if needed == 0:
            yield True
            return
        with self._changed:
            has_room = self._changed.wait_for(lambda: self._free >= needed, PATIENCE)
            self._free -= needed if has_room else 0
        try:
            yield has_room
        finally:
            if has_room:
                with self._changed:
                    self._free += needed
                    self._changed.notify_all()
