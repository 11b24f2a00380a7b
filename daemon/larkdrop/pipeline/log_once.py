"""What would be logged again and again is logged once at its level, and at the level debug after that."""

from __future__ import annotations

import threading
from typing import Any

import structlog


class LogOnce:
    """Logs an event once for each that it is ``about``. Thread-safe."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._logged: set[object] = set()

    def __call__(self, about: object, level: str, event: str, **fields: Any) -> None:
        """Log an event with its fields."""
        with self._lock:
            again = (event, about) in self._logged
            self._logged.add((event, about))
        getattr(self._log, "debug" if again else level)(event, **fields)
