"""What people are told of the hosts that share an app, and of the keys that these have got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Keys that are told at once; who wants more names a time.
MOST_KEYS = 10_000


@dataclass(frozen=True)
class Host:
    """One of the hosts that share the app; moments are RFC 3339, UTC, by the database's clock."""

    host: str
    state: Literal["here", "gone", "stopped"]  # gone: without a heartbeat of late
    version: str
    since: str
    last_seen: str
    waiting: int  # files
    held: str  # why; empty where it is not
    calls_second: int  # of the last second
    calls_minute: int


@dataclass(frozen=True)
class KeyQuery:
    """Which keys are meant: those got from ``since`` and before ``until`` (RFC 3339; empty for any).

    Of a content, or of files whose names match a pattern with ``*`` and ``?``, in whatever case; the newest ones.
    """

    since: str = ""
    until: str = ""
    sha256: str = ""
    name: str = ""
    limit: int = MOST_KEYS


@dataclass(frozen=True)
class FleetKey:
    """A key that some host has got."""

    image_key: str
    uploaded_at: str  # RFC 3339, UTC
    host: str
    file: str  # its name there
    size: int  # bytes
    image_type: str
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        """Where it was uploaded, as a person reads it."""
        return (f"{self.host}: {self.file}",)
