"""Does Lark answer at all? The one rule for all that shows it; what holds calls is `gate.py`."""

from __future__ import annotations

from collections.abc import Callable

# Seconds for which no call was answered, while pictures wait, that count as an outage.
OUTAGE_SECONDS = 300.0


class Contact:
    """Remembers since when no call was answered; a refusal with a code is an answer. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None

    def called(self) -> None:
        """A call is about to be sent."""
        if self._since is None:
            self._since = self._clock()

    def answered(self) -> None:
        """Lark answered a call, whatever it said."""
        self._since = None

    def lost_since(self, *, waiting: bool) -> float | None:
        """Since when Lark has not answered, in monotonic seconds; None where that is no outage.

        ``waiting``: whether a picture waits. While none does, silence means nothing and is forgotten.
        """
        since = self._since
        if not waiting:
            self._since = None
        elif since is not None and self._clock() - since >= OUTAGE_SECONDS:
            return since
        return None
