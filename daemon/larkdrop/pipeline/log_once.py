"""What would be logged again and again is logged once at its level, and at the level debug after that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import structlog

# Things remembered as logged; past it the oldest may be logged once more.
MOST = 10_000


class LogOnce:
    """Logs an event once for each ``about``. Thread-safe."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._logged: OrderedDict[object, None] = OrderedDict()

    def __call__(self, about: object, level: str, event: str, **fields: Any) -> None:
        """Log an event with its fields."""
        with self._lock:
            again = about in self._logged
            self._logged[about] = None
            if len(self._logged) > MOST:
                self._logged.popitem(last=False)
        getattr(self._log, "debug" if again else level)(event, **fields)
