"""Keys and claims that hosts share: the same content is uploaded once by all, and a shared folder's file recorded once.

A claim says which host works on a file or uploads a content. It ends when the host is done with it, or with the host's
heartbeat. A host that is alone claims nothing in the database and goes on by itself; but a file in a shared folder is
locked there, too (`folder/locks.py`), which the hosts see also while the database is away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from larkdrop.fleet.database import Away, Database
from larkdrop.fleet.identity import Identity, scope
from larkdrop.folder.locks import FileLocks
from larkdrop.records.key_cache import Content, Known
from larkdrop.records.outbox import Unsent
from larkdrop.records.shared_keys import Elsewhere, SharedKeys

CLAIM = "SELECT larkdrop.claim(%s::text, %s::text, %s::uuid, %s::text, %s::bigint)"
FIND_OR_CLAIM = """
SELECT claimed, image_key, log_id, host
    FROM larkdrop.find_or_claim(%s::text, %s::text, %s::uuid, %s::text, %s::text, %s::text, %s::bigint)
"""
ENDED = "SELECT larkdrop.ended(%s::text, %s::text, %s::text[])"
RELEASE = "SELECT larkdrop.release(%s::text, %s::text, %s::uuid, %s::text[], %s::bigint[])"
ADD_KEYS = """
SELECT larkdrop.add_keys(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text, %s::text[], %s::bigint[])
"""

# Seconds after a heartbeat was due at which this host relies on its claims no more: before others may take them over.
OVERDUE = 8.0
# Seconds for which another process's lock is waited for, which may be frozen: after that it is left to the database to
# say so; and where this host is alone, nobody is waited for any longer.
LOCK_PATIENCE, LOCK_PATIENCE_ALONE = 10.0, 60.0


@dataclass(eq=False)
class _Claims:
    """What is claimed for a path: names with the numbers of the claims."""

    term: int = 0  # of this host, in which the file was claimed; 0 where it was not
    numbers: dict[str, int] = field(default_factory=dict)


class FleetKeys(SharedKeys):
    """Asks the database while this host takes part. Thread-safe."""

    def __init__(self, database: Database, identity: Identity, *, notify: Callable[[], None]) -> None:
        """``notify`` is called when something is to be told to the database."""
        self._database = database
        self._identity = identity
        self._notify = notify
        self._locks = FileLocks()
        self._lock = threading.Lock()
        self._sure_until = 0.0  # monotonic seconds until which nobody can have taken over a claim
        self._term = 0  # others may take over what was claimed in an earlier one
        self.takes_part = False  # whether claims are made: not after a question that failed
        self._claims: dict[str, _Claims] = {}  # by path
        self._numbers = count(1)
        self._ended: list[tuple[str, int]] = []  # claims to be released, the oldest first
        self._waiting: dict[str, list[Callable[[], None]]] = {}  # for the end of another host's claim

    @property
    def host(self) -> str:
        return self._identity.host

    @property
    def lock_patience(self) -> float:
        return LOCK_PATIENCE if self.takes_part else LOCK_PATIENCE_ALONE

    def lock_file(self, path: str, folder: int) -> bool:
        return self._locks.acquire(path, folder)

    def claim_file(self, path: str, state: str) -> Elsewhere | None:
        name = f"file {state}"
        if not self.takes_part:
            return None
        try:
            ((claimed,),) = self._database.ask(CLAIM, (*self._identity, name, self._note(path, name, is_file=True)))
        except Away:
            self._break_off()
            return None
        return None if claimed else self._elsewhere(path, name)

    def find_or_claim(self, path: str, content: Content, *, upload: bool) -> Known | Elsewhere | None:
        name = f"{content.image_type} {content.sha256}"
        if not self.takes_part:
            return None
        claim = (name, self._note(path, name)) if upload else (None, None)
        asked = (*self._identity, content.image_type, content.sha256, *claim)
        try:
            ((claimed, image_key, log_id, host),) = self._database.ask(FIND_OR_CLAIM, asked)
        except Away:
            self._break_off()
            return None
        if image_key:
            return Known(image_key, log_id, host, is_new_here=True)
        return None if claimed else self._elsewhere(path, name)

    def still_held(self, path: str) -> bool:
        with self._lock:
            claims = self._claims.get(path)
            is_sure = claims is not None and claims.term == self._term and time.monotonic() < self._sure_until
            return is_sure or not self.takes_part

    def wait_for(self, elsewhere: Elsewhere, then: Callable[[], None]) -> None:
        with self._lock:
            if self.takes_part:
                self._waiting.setdefault(elsewhere.claim, []).append(then)
                then = self._notify
        then()

    def release(self, path: str) -> None:
        self._locks.release(path)
        with self._lock:
            claims = self._claims.pop(path, _Claims())
            self._ended += claims.numbers.items()
        if claims.numbers:
            self._notify()

    def _note(self, path: str, name: str, *, is_file: bool = False) -> int:
        """Note a claim before it is made, so that it is released whatever comes of the question. Returns its number."""
        with self._lock:
            claims = self._claims.setdefault(path, _Claims())
            if is_file:
                claims.term = self._term
            claims.numbers[name] = number = next(self._numbers)
            return number

    def _elsewhere(self, path: str, name: str) -> Elsewhere:
        """It was not claimed: another host has it."""
        with self._lock:
            self._claims[path].numbers.pop(name, None)
        return Elsewhere(name)

    def _break_off(self) -> None:
        """The database can't be asked: claim nothing any more, and have it noticed."""
        with self._lock:
            self.takes_part = False
        self._notify()

    # What follows is for the one who keeps up the connection.

    def join(self) -> None:
        """Take part from now on."""
        with self._lock:
            self._term += 1
            self.takes_part = True

    def seen(self, now: float, beat: float, silence: float) -> None:
        """The database has this host's heartbeat, ``silence`` seconds after the last; the next is due in ``beat``."""
        with self._lock:
            if now > self._sure_until or silence > beat + OVERDUE:
                self._term += 1
            self._sure_until = now + beat + OVERDUE

    def go_alone(self) -> None:
        """Claim nothing any more, and wait for nobody."""
        with self._lock:
            self.takes_part = False
            waiting, self._waiting = self._waiting, {}
        for then in (one for some in waiting.values() for one in some):
            then()

    def share(self, keys: list[Unsent]) -> None:
        """Tell the others of keys. Raises Away."""
        scopes = [scope(key.content.host, key.content.app_id, key.content.api) for key in keys]
        columns = ([key.content.image_type for key in keys], [key.content.sha256 for key in keys])
        answers = ([key.image_key for key in keys], [key.log_id for key in keys])
        files = ([storable(key.file) for key in keys], [key.size for key in keys])
        self._database.ask(ADD_KEYS, (scopes, *columns, *answers, self._identity.host, *files))

    @property
    def ended(self) -> list[tuple[str, int]]:
        """Claims that are to be released once their keys are shared."""
        with self._lock:
            return list(self._ended)

    def release_ended(self, claims: list[tuple[str, int]]) -> None:
        """Release the first of ``ended``, at least one. Raises Away; they are then still to be released."""
        names, numbers = zip(*claims, strict=True)
        self._database.ask(RELEASE, (*self._identity, list(names), list(numbers)))
        with self._lock:
            del self._ended[: len(claims)]

    def look(self) -> bool:
        """See which of the claims that are waited for have ended; whether there are others. Raises Away."""
        with self._lock:
            names = list(self._waiting)
        if not names:
            return False
        rows = self._database.ask(ENDED, (self._identity.scope, self._identity.host, names))
        with self._lock:
            ended = [then for (name,) in rows for then in self._waiting.pop(name, ())]
        for then in ended:
            then()
        return bool(self._waiting)


def storable(name: str) -> str:
    """A file's name as text that every database takes."""
    return name.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
