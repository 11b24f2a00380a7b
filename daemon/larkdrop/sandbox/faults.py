"""What can go wrong on purpose: every fault, its default and what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(text: str, *, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class Faults:
    """Rates are probabilities from 0 to 1; everything may be changed while the sandbox runs."""

    server_error: float = _option("rate of HTTP 500 answers", default=0.0)
    html: float = _option("rate of the edge's HTML pages, with HTTP 400 and 502 in turn", default=0.0)
    bad_json: float = _option("rate of answers that are not JSON", default=0.0)
    internal: float = _option("rate of code 5000", default=0.0)
    unknown: float = _option("rate of code 424242, which no page lists", default=0.0)
    refused: float = _option("rate of code 234001, by which the call itself is wrong", default=0.0)
    throttle: float = _option("rate of throttled calls, as HTTP 429 or, as older APIs do, 400", default=0.0)
    reset_before: float = _option("rate of connections reset before the upload is read", default=0.0)
    reset_after: float = _option("rate of connections reset after the picture was stored", default=0.0)
    cut: float = _option("rate of answers that break off", default=0.0)
    hang: float = _option("rate of calls that are never answered", default=0.0)
    delay: float = _option("seconds that each upload takes", default=0.0)
    token_delay: float = _option("seconds that each call for a token takes", default=0.0)
    bot_off: bool = _option("the app's bot feature is off", default=False)
    scope_missing: bool = _option("the app lacks the permission to upload", default=False)
    quota_used_up: bool = _option("the month's calls are used up", default=False)
    app_disabled: bool = _option("the app is disabled", default=False)
    body_limit: int = _option("bytes of a body past which a proxy answers HTTP 413; 0 for none", default=0)
    v4_offline: bool = _option("image/v4 is switched off", default=False)
    down: bool = _option("every connection is reset", default=False)
    token_lifetime: float = _option("seconds that a token is valid", default=7200.0)
    per_second: int = _option("uploads a second before calls are throttled", default=50)
    per_minute: int = _option("uploads a minute before calls are throttled", default=1000)

    def set(self, changes: dict[str, Any]) -> None:
        """Change some by name, or none. Raises ValueError, TypeError for an unknown name or a value that can't be."""
        known, made = vars(self), {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{name} is not a fault; the faults are {', '.join(known)}")
            if isinstance(known[name], bool) != isinstance(value, bool):
                raise ValueError(f"{name} must be {'true or false' if isinstance(known[name], bool) else 'a number'}")
            made[name] = type(known[name])(value)
            if name in {"per_second", "per_minute"} and made[name] < 1:
                raise ValueError(f"{name} must be at least 1")
        known.update(made)
