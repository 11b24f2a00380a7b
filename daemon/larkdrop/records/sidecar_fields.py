"""The fields of a sidecar, which a line of the result log shares: what became of one file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

SCHEMA = 1
_PICTURE = ("image_type", "api", "app_id", "sha256", "size", "mtime_ns", "format", "width", "height")


@dataclass(frozen=True)
class Record:
    """One outcome. ``image_key`` is set where ``status`` is ``uploaded``, the ``error_*`` where ``rejected``."""

    status: Literal["uploaded", "rejected"]
    file: str  # the name, surrogate escapes for bytes outside UTF-8
    image_type: str
    api: str
    app_id: str
    sha256: str
    size: int  # bytes
    mtime_ns: int
    format: str | None
    width: int | None  # pixels
    height: int | None  # pixels
    at: str  # RFC 3339, UTC
    attempts: int  # calls that this file took, 0 where none was needed
    reused: bool
    log_id: str
    host: str = ""  # that uploaded it, where hosts share the app
    image_key: str = ""
    error_code: int | None = None
    error_message: str = ""
    error_hint: str = ""

    @property
    def event(self) -> Literal["uploaded", "reused", "rejected"]:
        """The outcome as the result log names it."""
        return "reused" if self.reused else self.status

    def speaks_of(self, name: str, sha256: str, size: int) -> bool:
        """Whether this is about a file of that name and content, ``size`` in bytes."""
        return (self.file, self.sha256, self.size) == (name, sha256, size)

    def fields(self) -> dict[str, Any]:
        """The record as the contract's JSON object."""
        made: dict[str, Any] = {"schema": SCHEMA, "status": self.status, "file": self.file}
        if self.status == "uploaded":
            made["image_key"] = self.image_key
        made |= {name: getattr(self, name) for name in _PICTURE}
        made[f"{self.status}_at"] = self.at
        made |= {"attempts": self.attempts, "reused": self.reused, "log_id": self.log_id}
        if self.host:
            made["host"] = self.host
        if self.status == "rejected":
            made["error"] = {"code": self.error_code, "message": self.error_message, "hint": self.error_hint}
        return made

    @classmethod
    def from_fields(cls, made: Any) -> Self | None:
        """The record of a JSON object, or None where it isn't one of ours, or lacks what is read of it."""
        if not isinstance(made, dict) or made.get("schema") != SCHEMA:
            return None
        status = made.get("status")
        if status not in ("uploaded", "rejected"):
            return None
        error = made.get("error", {}) if status == "rejected" else {}
        try:
            record = cls(
                status=status,
                at=made[f"{status}_at"],
                image_key=made["image_key"] if status == "uploaded" else "",
                error_code=error.get("code"),
                error_message=error.get("message", ""),
                error_hint=error.get("hint", ""),
                host=made.get("host", ""),
                **{name: made[name] for name in ("file", *_PICTURE, "attempts", "reused", "log_id")},
            )
        except (KeyError, AttributeError):
            return None
        texts = (
            record.file, record.sha256, record.at, record.image_key, record.log_id, record.error_message,
            record.error_hint, record.host,
        )  # fmt: skip
        numbers = (record.size, record.mtime_ns, record.attempts)
        whole = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
        return record if whole else None


def now() -> str:
    """This moment, as ``rfc3339``."""
    return rfc3339(datetime.now(UTC))


def rfc3339(moment: datetime) -> str:
    """A moment as RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
