"""Keys and claims that hosts share: the same content is uploaded once by all, and a shared folder's file recorded once.

A claim says which host works on a file or uploads a content. It ends when the host is done with it, or with the host's
heartbeat. A host that is alone claims nothing and goes on by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from larkdrop.fleet.database import Away, Database
from larkdrop.fleet.identity import Identity, scope_of
from larkdrop.records.key_cache import Content, Known
from larkdrop.records.outbox import Unsent
from larkdrop.records.shared_keys import Elsewhere, SharedKeys

CLAIM = "SELECT larkdrop.claim(%s::text, %s::text, %s::uuid, %s::text)"
FIND_OR_CLAIM = """
SELECT claimed, image_key, log_id, host
    FROM larkdrop.find_or_claim(%s::text, %s::text, %s::uuid, %s::text, %s::text, %s::text)
"""
ENDED = "SELECT larkdrop.ended(%s::text, %s::text, %s::text[])"
RELEASE = "SELECT larkdrop.release(%s::text, %s::text, %s::text[])"
ADD_KEYS = """
SELECT larkdrop.add_keys(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text, %s::text[], %s::bigint[])
"""

# Seconds after a heartbeat was due at which this host relies on its claims no more: before others may take them over.
OVERDUE = 8.0


@dataclass(eq=False)
class _Claim:
    """What is claimed for a path: names, and in which term of this host."""

    term: int
    names: set[str] = field(default_factory=set)


class FleetKeys(SharedKeys):
    """Asks the database while this host takes part. Thread-safe."""

    def __init__(self, database: Database, identity: Identity, *, notify: Callable[[], None]) -> None:
        """``notify`` is called when something is to be told to the database."""
        self._database = database
        self._identity = identity
        self._notify = notify
        self._lock = threading.Lock()
        self._sure_until = 0.0  # monotonic seconds until which nobody can have taken over a claim
        self._term = 0  # others may take over what was claimed in an earlier one
        self._takes_part = False
        self._claims: dict[str, _Claim] = {}  # by path
        self._ended: list[str] = []  # claims whose keys are perhaps still to be shared
        self._ending: list[str] = []  # claims to be released
        self._waiting: dict[str, list[Callable[[], None]]] = {}  # for the end of another host's claim

    @property
    def host(self) -> str:
        return self._identity.host

    def claim_file(self, path: str, state: str) -> Elsewhere | None:
        name = f"file {state}"
        if not self._takes_part:
            return None
        try:
            ((claimed,),) = self._database.ask(CLAIM, (*self._identity, name))
        except Away:
            return None
        if not claimed:
            return Elsewhere(name)
        self._keep(path, name)
        return None

    def find_or_claim(self, path: str, content: Content, *, upload: bool) -> Known | Elsewhere | None:
        name = f"{content.image_type} {content.sha256}"
        if not self._takes_part:
            return None
        asked = (*self._identity, content.image_type, content.sha256, name if upload else None)
        try:
            ((claimed, image_key, log_id, host),) = self._database.ask(FIND_OR_CLAIM, asked)
        except Away:
            return None
        if upload and claimed:
            self._keep(path, name)
        if image_key:
            return Known(image_key, log_id, host)
        return None if claimed else Elsewhere(name)

    def still_held(self, path: str) -> bool:
        with self._lock:
            claim = self._claims.get(path)
            is_sure = claim is not None and claim.term == self._term and time.monotonic() < self._sure_until
            return is_sure or not self._takes_part

    def wait_for(self, elsewhere: Elsewhere, then: Callable[[], None]) -> None:
        with self._lock:
            if self._takes_part:
                self._waiting.setdefault(elsewhere.claim, []).append(then)
                then = self._notify
        then()

    def release(self, path: str) -> None:
        with self._lock:
            claim = self._claims.pop(path, None)
            if claim is None:
                return
            self._ended += claim.names
        self._notify()

    def _keep(self, path: str, name: str) -> None:
        with self._lock:
            claim = self._claims.get(path)
            if claim is None or claim.term != self._term:
                claim = self._claims[path] = _Claim(self._term)
            claim.names.add(name)

    # What follows is for the one who keeps up the connection.

    @property
    def waits(self) -> bool:
        """Whether the end of others' claims is waited for."""
        return bool(self._waiting)

    def join(self) -> None:
        """Take part from now on."""
        with self._lock:
            self._term += 1
            self._takes_part = True

    def seen(self, now: float, beat: float) -> None:
        """The database has this host's heartbeat, and the next is due in ``beat`` seconds."""
        with self._lock:
            if now > self._sure_until:
                self._term += 1
            self._sure_until = now + beat + OVERDUE

    def go_alone(self) -> None:
        """Claim nothing any more, and wait for nobody."""
        with self._lock:
            self._takes_part = False
            waiting, self._waiting = self._waiting, {}
        for then in (one for some in waiting.values() for one in some):
            then()

    def share(self, keys: list[Unsent]) -> None:
        """Tell the others of keys. Raises Away."""
        scopes = [scope_of(key.content) for key in keys]
        columns = ([key.content.image_type for key in keys], [key.content.sha256 for key in keys])
        answers = ([key.image_key for key in keys], [key.log_id for key in keys])
        files = ([_storable(key.file) for key in keys], [key.size for key in keys])
        self._database.ask(ADD_KEYS, (scopes, *columns, *answers, self._identity.host, *files))

    def take_ended(self) -> list[str]:
        """Claims that are to be released once their keys are shared."""
        with self._lock:
            ended, self._ended = self._ended, []
            return ended

    def put_back(self, names: list[str]) -> None:
        """What ``take_ended`` gave, where not all keys are shared."""
        with self._lock:
            self._ended += names

    def release_later(self, names: list[str]) -> None:
        """With the next ``release_all``."""
        with self._lock:
            self._ending += names

    def release_all(self) -> None:
        """Release what was to be released later. Raises Away."""
        with self._lock:
            names = self._ending
        if names:
            self._database.ask(RELEASE, (self._identity.scope, self._identity.host, names))
            with self._lock:
                self._ending = []

    def look(self) -> None:
        """Whose claims have ended that are waited for. Raises Away."""
        with self._lock:
            names = list(self._waiting)
        if not names:
            return
        rows = self._database.ask(ENDED, (self._identity.scope, self._identity.host, names))
        with self._lock:
            ended = [then for (name,) in rows for then in self._waiting.pop(name, ())]
        for then in ended:
            then()


def _storable(name: str) -> str:
    """A file's name as text that every database takes."""
    return name.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
