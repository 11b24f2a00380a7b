"""This host's part in the fleet: joins, keeps up its heartbeat, asks for tickets and tells of keys; or goes on alone.

The database is shared memory, not a dependency: while it is away, this host keeps its part of the limit, records as
ever, and tells what it learned when it is back.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from larkdrop import __version__
from larkdrop.config.settings import Lark
from larkdrop.fleet import schema
from larkdrop.fleet.database import AGAIN, Away
from larkdrop.fleet.gate import FleetGate
from larkdrop.fleet.sharing import Sharing
from larkdrop.lark.pace import Pace
from larkdrop.records.outbox import Outbox

ENTER = """
SELECT larkdrop.enter(
    %s::text, %s::text, %s::uuid, %s::text, %s::float8, %s::integer, %s::integer, %s::float8[], %s::boolean
)
"""
TAKE = """
SELECT larkdrop.take(
    %s::text, %s::text, %s::uuid, %s::integer, %s::integer, %s::integer, %s::integer, %s::text, %s::bigint[],
    %s::bigint[], %s::float8[], %s::float8, %s::jsonb, %s::boolean, %s::boolean, %s::float8
)
"""
LEAVE = "SELECT larkdrop.leave(%s::text, %s::text, %s::uuid)"
# Seconds between tries to reach the database again; and where another process has this host's name.
RETRY, RETRY_REPLACED = 1.0, 60.0
# Seconds between looks for the end of others' claims, and at least between two times that keys and claims are told of.
LOOK, TELL = 0.25, 0.1
# Seconds between commits that note what was sent.
CLEAR = 5.0
# Calls that a host says at most that it wants: what it could make soon counts, however much waits.
MOST_WANTED = 64
# Keys sent together.
MOST_KEYS = 500


class Member:
    """``run`` is meant for a thread of its own."""

    def __init__(
        self, sharing: Sharing, lark: Lark, *, pace: Pace, outbox: Outbox,
        calls: Callable[[], tuple[int, int, int]], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """``calls`` says how many calls fresh drops and the backlog need, and how many files wait in all.

        ``wake`` is called when calls may go that could not before.
        """
        self._identity = sharing.identity
        self._lark = lark
        self._database = sharing.database
        self._windows = sharing.windows
        self._keys = sharing.keys
        self._pace = pace
        self._gate = FleetGate(pace, sharing.identity.host)
        self._outbox = outbox
        self._asked = sharing.asked
        self._calls = calls
        self._wake = wake
        self._log = structlog.get_logger()
        self._began = time.monotonic()
        self._stopped = False
        self._joined = False
        self._beat_at = self._retry_at = 0.0  # monotonic seconds
        self._told_at = self._cleared_at = -math.inf
        self.host = sharing.identity.host  # its name among the hosts
        self.database = sharing.database.place  # which one, without secrets
        self.hosts = 1  # that share the app, as last seen
        self.away: Away | None = None  # why this host is alone
        self.away_since = self._began  # monotonic seconds
        self.tried = threading.Event()  # once the database was reached, or could not be

    def run(self) -> None:
        """Take part until stopped."""
        with suppress(sqlite3.Error):
            self.hosts = int(self._outbox.recall("hosts") or 1)
        while True:
            self._asked.clear()
            if self._stopped:  # looked at after the clearing, which would hide it else
                break
            try:
                due = self._take_part()
            except (Away, sqlite3.Error) as error:
                due = self._go_alone(error)
            except Exception as error:  # noqa: BLE001 - a bug may cost the sharing, but not the uploads
                hint = "This is a bug of larkdrop; please report it."
                due = self._go_alone(Away(f"unexpected: {error!r}", hint=hint))
            self.tried.set()
            self._asked.wait(max(0.0, due - time.monotonic()))
        self._leave()

    def stop(self) -> None:
        """End ``run``."""
        self._stopped = True
        self._asked.set()

    def _take_part(self) -> float:
        """Ask and tell what is due. Returns when the next is, in monotonic seconds. Raises Away, sqlite3.Error."""
        now = time.monotonic()
        if not self._joined:
            if now < self._retry_at:
                return self._retry_at
            self._join()
        self._database.check()
        if not self._keys.takes_part:  # somebody waited for the database in vain
            raise Away("the database does not answer", hint=AGAIN)
        due = self._tell(now) if now >= self._told_at + TELL else self._told_at + TELL
        if time.monotonic() >= min(self._beat_at, self._ask_at()):
            self._take()
        return min(due, self._beat_at, self._ask_at())

    def _wanted(self) -> tuple[int, int, int]:
        """How many calls fresh drops and the backlog need that may go now, and how many files wait."""
        fresh, backlog, waiting = self._calls()
        return (0, 0, waiting) if self._pace.is_closed else (fresh, backlog, waiting)

    def _ask_at(self) -> float:
        """When asking for tickets is worth it, in monotonic seconds."""
        fresh, backlog, _ = self._wanted()
        return self._windows.ask_at(fresh=fresh, backlog=backlog)

    def _join(self) -> None:
        self._database.connect()
        self._outbox.refill(schema.prepare(self._database))
        now = time.monotonic()
        limits = self._lark.requests_per_second, self._lark.requests_per_minute
        ages = self._windows.ages(now)
        running, was_replaced = now - self._began, isinstance(self.away, Replaced)
        entry = (*self._identity, __version__, running, *limits, ages, was_replaced)
        ((takes_part,),) = self._database.ask(ENTER, entry)
        if not takes_part:
            raise Replaced(self.host)
        self._windows.join()
        self._take()
        self._tell(now)
        self._keys.join()
        self._log.info("fleet_joined", database=self.database, host=self.host, hosts=self.hosts)
        self._joined, self.away = True, None

    def _take(self) -> None:
        """A heartbeat, and tickets for calls. Raises Away."""
        fresh, backlog, waiting = self._wanted()
        now = time.monotonic()
        wanted = self._windows.wanted(now, fresh=fresh, backlog=backlog)
        report, news = self._windows.report(now), self._gate.news(now)
        held = hold.reason.message if (hold := self._pace.hold) else ""  # for those who ask about all hosts
        ((answer,),) = self._database.ask(TAKE, (
            *self._identity, *wanted, min(fresh + backlog, MOST_WANTED), waiting, held,
            report.returned, list(report.late), list(report.late.values()), report.pause,
            json.dumps(news.hold) if news.hold else None, news.opened, news.fixed, self._lark.probe_seconds,
        ))  # fmt: skip
        now = time.monotonic()
        if "replaced" in answer:
            if not answer["replaced"]:
                raise Away("the database was made anew", hint=AGAIN)
            raise Replaced(self.host)
        if answer["hosts"] != self.hosts:
            self.hosts = answer["hosts"]
            with suppress(sqlite3.Error):
                self._outbox.remember("hosts", str(self.hosts))
        self._keys.seen(now, answer["beat"], answer["silence"])
        self._beat_at = now + answer["beat"]
        opened = self._gate.heard(answer["hold"], now, probe=answer["probe"])
        if self._windows.given(answer, wanted, now) or opened:
            self._wake()

    def _tell(self, now: float) -> float:
        """Send keys, release claims, look for the end of others'. Returns when that is due again. Raises Away."""
        self._told_at = now
        ended = self._keys.ended  # before the keys, which others look for then
        keys = self._outbox.unsent(MOST_KEYS)
        if keys:
            self._keys.share(keys)
            self._outbox.sent(keys[-1])
        all_sent = len(keys) < MOST_KEYS
        if all_sent and ended:
            self._keys.release_ended(ended)
        if now >= self._cleared_at + CLEAR:
            self._outbox.clear()
            self._cleared_at = now
        wait = LOOK if self._keys.look() else math.inf
        return now + (wait if all_sent else TELL)

    def _go_alone(self, why: Exception) -> float:
        """The database is away. Returns when it is tried again, in monotonic seconds."""
        away = why if isinstance(why, Away) else Away(f"the key cache can't be used: {why}", hint="Check the disk.")
        was_part = self._joined or self.away is None
        self._joined, self.away = False, away
        self._database.close()
        self._windows.go_alone(self.hosts)
        self._gate.alone(self._lark.probe_seconds)
        self._keys.go_alone()
        if was_part:
            self.away_since = time.monotonic()
            part = "all" if self.hosts == 1 else f"1/{self.hosts}"
            self._log.error("fleet_away", **away.fields(), doing=f"goes on alone, with {part} of the limit")
            self._wake()
        self._retry_at = time.monotonic() + (RETRY_REPLACED if isinstance(away, Replaced) else RETRY)
        return self._retry_at

    def _leave(self) -> None:
        if self._joined:
            with suppress(Away, sqlite3.Error):
                self._tell(time.monotonic())
                self._outbox.clear()
                self._database.ask(LEAVE, self._identity)
        self._database.close()


class Replaced(Away):
    """Another process took part by this host's name."""

    def __init__(self, host: str) -> None:
        super().__init__(f"another larkdrop calls itself {host}", hint="Give each host a name of its own: fleet.host.")
