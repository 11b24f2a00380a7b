"""Who this host is to the others: the app that they share, the host's name, and which process of it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID, uuid4

from larkdrop.config.settings import Lark
from larkdrop.records.key_cache import Content


class Identity(NamedTuple):
    """As every question to the database begins."""

    scope: str
    host: str
    instance: UUID

    @classmethod
    def new(cls, lark: Lark, host: str) -> Identity:
        """Of a process that begins now."""
        return cls(scope(lark.base_url, lark.scope, lark.api), host, uuid4())


def scope(base_url: str, app: str, api: str) -> str:
    """What the database calls an app on an api of a Lark: hosts with the same scope share."""
    return f"{base_url} {app} {api}"


def scope_of(content: Content) -> str:
    """The scope of a content's key."""
    return scope(content.host, content.app_id, content.api)
