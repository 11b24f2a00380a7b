"""The parts by which a host shares its app: what asks the database, and who asks it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from larkdrop.config.settings import Fleet, Lark
from larkdrop.fleet.database import Database
from larkdrop.fleet.identity import Identity
from larkdrop.fleet.keys import FleetKeys
from larkdrop.fleet.windows import FleetWindows


@dataclass(frozen=True)
class Sharing:
    """``asked`` is set where the database should be asked or told something."""

    identity: Identity
    database: Database
    windows: FleetWindows
    keys: FleetKeys
    asked: threading.Event

    @classmethod
    def of(cls, lark: Lark, fleet: Fleet) -> Sharing:
        """Nothing is opened yet."""
        identity, asked = Identity.new(lark, fleet.host), threading.Event()
        database = Database(fleet.url.get_secret_value(), f"larkdrop {fleet.host}")
        windows = FleetWindows(lark.requests_per_second, lark.requests_per_minute, notify=asked.set)
        return cls(identity, database, windows, FleetKeys(database, identity, notify=asked.set), asked)
