"""What the database tells those who look from outside: which hosts there are, which keys are known, is it fit?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from larkdrop.config.settings import Settings
from larkdrop.errors import NotAvailable
from larkdrop.fleet import schema
from larkdrop.fleet.database import SET_UP, Away, Database
from larkdrop.fleet.facts import FleetKey, Host, KeyQuery
from larkdrop.fleet.identity import scope
from larkdrop.fleet.keys import storable
from larkdrop.records.sidecar_fields import rfc3339

HOSTS = """
SELECT h.host, CASE WHEN h.stopped THEN 'stopped'
        WHEN h.seen > larkdrop.moment() - 3 * larkdrop.beat(count(*) OVER ()) THEN 'here' ELSE 'gone' END,
    h.version, h.since, h.seen, h.waiting, h.held,
    count(c.at) FILTER (WHERE c.at > larkdrop.moment() - 1), count(c.at)
FROM larkdrop.hosts h LEFT JOIN larkdrop.calls c
    ON c.scope = h.scope AND c.host = h.host AND c.at > larkdrop.moment() - 60 AND c.at <= larkdrop.moment()
WHERE h.scope = %s::text GROUP BY h.scope, h.host ORDER BY h.host
"""
KEYS = """
SELECT image_key, extract(epoch FROM at)::float8, host, file, size, image_type, sha256 FROM larkdrop.keys
WHERE scope = %s::text AND at >= coalesce(nullif(%s::text, ''), '-infinity')::timestamptz
    AND at < coalesce(nullif(%s::text, ''), 'infinity')::timestamptz
    AND (%s::text = '' OR sha256 = %s::text) AND (%s::text = '' OR file ILIKE %s::text)
ORDER BY at DESC LIMIT %s::integer
"""
MAY_MAKE = """
SELECT coalesce(
    has_schema_privilege(to_regnamespace('larkdrop')::oid, 'CREATE'),
    has_database_privilege(current_database(), 'CREATE')
)
"""
RIGHTS = """
SELECT coalesce(bool_and(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
    AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')), false)
FROM pg_class WHERE relnamespace = to_regnamespace('larkdrop') AND relkind = 'r'
"""
# A pattern of a name as SQL has it: ``*`` and ``?`` stand for any characters, and for one.
LIKE = str.maketrans({"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"})


@contextmanager
def overview(settings: Settings) -> Iterator[Overview]:
    """The database, for as long as this lasts. Raises NotAvailable."""
    if not settings.fleet.url.get_secret_value():
        hint = "Set url in [fleet]; where the service has it as a credential, start the service. See docs/fleet.md."
        raise NotAvailable("no fleet.url is known here", hint=hint)
    database = Database(settings.fleet.url.get_secret_value(), "larkdrop")
    try:
        with database:
            yield Overview(database, scope(settings.lark.base_url, settings.lark.scope, settings.lark.api))
    except Away as away:
        raise NotAvailable(f"the fleet's database {database.place}: {away.message}", hint=away.hint) from None


class Overview:
    """Asks; everything here raises Away."""

    def __init__(self, database: Database, scope: str) -> None:
        self._database = database
        self._scope = scope

    def hosts(self) -> list[Host]:
        """Every host that ever took part, by name."""
        return [
            Host(host, state, version, _moment(since), _moment(seen), *rest)
            for host, state, version, since, seen, *rest in self._database.ask(HOSTS, (self._scope,))
        ]

    def keys(self, query: KeyQuery) -> list[FleetKey]:
        """Those that are meant, the oldest first."""
        sha256, name = query.sha256, storable(query.name).translate(LIKE)
        values = (self._scope, query.since, query.until, sha256, sha256, name, name, query.limit)
        rows = self._database.ask(KEYS, values)
        return [FleetKey(image_key, _moment(at), *rest) for image_key, at, *rest in reversed(rows)]

    def fitness(self) -> list[tuple[str, bool, str, str]]:
        """What was checked of the database: what, whether it is fine, what was found, and what to do."""
        began = time.monotonic()
        ((server,),) = self._database.ask("SELECT current_setting('server_version')")
        seconds = time.monotonic() - began
        found = [("reachable", True, f"PostgreSQL {server} answers, {seconds * 1000:.0f} ms", "")]
        version, _ = schema.look(self._database)
        if version == 0:
            ((may,),) = self._database.ask(MAY_MAKE)
            says = "are made when larkdrop starts" if may else "are not there, and may not be made"
            return [*found, ("tables", may, says, "" if may else SET_UP)]
        ((may_use,),) = self._database.ask(RIGHTS)
        newer = f", of which this larkdrop knows {schema.VERSION}" if version > schema.VERSION else ""
        older = f"; brought to {schema.VERSION} when larkdrop starts" if version < schema.VERSION else ""
        found.append(("tables", True, f"version {version}{newer}{older}", ""))
        rights = "may read and write them" if may_use else "may not read and write them"
        return [*found, ("rights", may_use, rights, "" if may_use else SET_UP)]


def _moment(seconds: float) -> str:
    """As RFC 3339. Moments come in Unix seconds, since psycopg reads a timestamp in the style ISO only."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
