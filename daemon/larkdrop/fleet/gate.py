"""One gate where it is the app's fault: the host that finds out tells the others, all hold, and one probes.

That is for what the platform answered with a code: a quota used up, the bot switched off, a wrong secret. What keeps
one host from the platform (its network, its proxy) is its own business. Where another host's probe succeeds, the reason
was that of the host alone that told it, such as a mistyped secret: it is not told again for some time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import structlog

from larkdrop.errors import SetupFault
from larkdrop.lark.gate import Hold
from larkdrop.lark.pace import Pace

# Seconds for which a reason that another host disproved stays this host's own; and for which a probe may be sent.
OWN_SECONDS, PROBE_SECONDS = 86_400.0, 10.0


@dataclass(frozen=True)
class News:
    """What the database is told: why all should hold, that they need not any more, that a person says it is fixed."""

    hold: dict[str, Any] | None = None
    opened: bool = False
    fixed: bool = False


class FleetGate:
    """Keeps this host's gate and the fleet's the same. For one thread; times are monotonic seconds."""

    def __init__(self, pace: Pace, host: str) -> None:
        self._pace = pace
        self._host = host
        self._shared: Hold | None = None  # this host's, while it is the fleet's, as far as was heard
        self._told: tuple[int | None, str] | None = None  # code and hint of the fleet's, where this host told them
        self._own: tuple[int | None, str] | None = None  # of this host alone
        self._own_until = self._probe_until = -math.inf
        self._fixed_at = -math.inf
        self._is_alone = True
        self._log = structlog.get_logger()

    def news(self, now: float) -> News:
        """What the database should be told."""
        hold, fixed = self._pace.hold, self._pace.fixed_at > self._fixed_at
        self._fixed_at = self._pace.fixed_at
        if self._shared:
            return News(opened=hold is None, fixed=fixed)
        if hold is None or not hold.person or hold.reason.code is None:
            return News(fixed=fixed)
        reason = hold.reason
        self._told = reason.code, reason.hint
        if self._told == self._own and now < self._own_until:
            return News(fixed=fixed)
        fields = {"code": reason.code, "message": reason.message, "hint": reason.hint, "host": self._host}
        return News(hold=fields, fixed=fixed)

    def heard(self, hold: dict[str, Any] | None, now: float, *, probe: bool) -> bool:
        """Do as the fleet does; whether this opened the gate.

        ``probe``: this host has a ticket to try whether calls succeed again.
        """
        self._is_alone = False
        if hold is None:
            shared, self._shared = self._shared, None
            opens = shared is not None and shared is self._pace.hold
            if shared and opens:
                self._own, self._own_until = self._told, now + OWN_SECONDS
                self._pace.open()
                self._log.info("lark_resumed", after_seconds=round(now - shared.since, 1))
            self._told = None
            return opens
        if self._shared and self._pace.hold is None:
            return False  # this host's probe has just succeeded, which is told next
        message = hold["message"]
        if hold["host"] != self._host:
            self._told = None
            message += f" (found by {hold['host']})"
        if probe:
            self._probe_until = now + PROBE_SECONDS
        reason = SetupFault(message, hint=hold["hint"], code=hold["code"])
        if self._pace.hold is None:
            self._log.error("lark_held", **reason.fields())
        self._shared = self._pace.hold_with_others(reason, probe=now < self._probe_until)
        return False

    def alone(self, probe_seconds: float) -> None:
        """The database is away: this host probes by itself.

        What it holds with the others is still theirs: they may have ended that when it is back, or it tells its end.
        """
        if self._shared and not self._is_alone:
            self._pace.probe_in(probe_seconds)
        self._is_alone = True
