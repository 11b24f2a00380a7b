"""Who this host is to the others: the app that they share, the host's name, and which process of it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Identity(NamedTuple):
    """As every question to the database begins."""

    scope: str
    host: str
    instance: UUID  # of the process


def scope(base_url: str, app: str, api: str) -> str:
    """What the database calls an app on an api of a Lark: hosts with the same scope share."""
    return f"{base_url} {app} {api}"
