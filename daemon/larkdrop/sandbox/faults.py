"""What can go wrong on purpose: every fault, its default and what it does."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _option(text: str, *, default: Any, least: int = 0, most: int = 10**9) -> Any:
    return field(default=default, metadata={"help": text, "least": least, "most": most})


def _rate(text: str) -> Any:
    return _option(f"rate of {text}", default=0.0, most=1)


@dataclass
class Faults:
    """Rates are probabilities from 0 to 1; everything may be changed while the sandbox runs."""

    server_error: float = _rate("HTTP 500 answers")
    html: float = _rate("the edge's HTML pages, with HTTP 400 and 502 in turn")
    bad_json: float = _rate("answers that are not JSON")
    internal: float = _rate("code 5000")
    unknown: float = _rate("code 424242, which no page lists")
    refused: float = _rate("code 234001, by which the call itself is wrong")
    throttle: float = _rate("throttled calls, as HTTP 429 or, as older APIs do, 400")
    reset_before: float = _rate("connections reset before the upload is read")
    reset_after: float = _rate("connections reset after the picture was stored")
    cut: float = _rate("answers that break off")
    hang: float = _rate("calls that are never answered")
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
    per_second: int = _option("uploads a second before calls are throttled", default=50, least=1)
    per_minute: int = _option("uploads a minute before calls are throttled", default=1000, least=1)

    def set(self, changes: dict[str, Any]) -> None:
        """Change some by name, or none. Raises ValueError for an unknown name or a value that can't be."""
        known, made = {option.name: option.metadata for option in fields(self)}, {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{name} is not a fault; the faults are {', '.join(known)}")
            kind, least, most = type(getattr(self, name)), known[name]["least"], known[name]["most"]
            if kind is bool:
                if not isinstance(value, bool):
                    raise ValueError(f"{name} must be true or false")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"{name} must be a number from {least:,} to {most:,}")
            elif kind(value) != value:
                raise ValueError(f"{name} must be a whole number")
            made[name] = kind(value)
        vars(self).update(made)
