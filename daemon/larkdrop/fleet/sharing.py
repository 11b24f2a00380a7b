"""The parts by which a host shares its app: what asks the database, and who asks it."""

from __future__ import annotations

import threading
from uuid import uuid4

from larkdrop.config.settings import Fleet, Lark
from larkdrop.fleet.database import Database
from larkdrop.fleet.identity import Identity, scope
from larkdrop.fleet.keys import FleetKeys
from larkdrop.fleet.windows import FleetWindows


class Sharing:
    """``asked`` is set where the database should be asked or told something."""

    def __init__(self, lark: Lark, fleet: Fleet) -> None:
        """Nothing is opened yet."""
        self.asked = threading.Event()
        self.identity = Identity(scope(lark.base_url, lark.scope, lark.api), fleet.host, uuid4())
        self.database = Database(fleet.url.get_secret_value(), f"larkdrop {fleet.host}")
        self.windows = FleetWindows(lark.requests_per_second, lark.requests_per_minute, notify=self.asked.set)
        self.keys = FleetKeys(self.database, self.identity, notify=self.asked.set)
