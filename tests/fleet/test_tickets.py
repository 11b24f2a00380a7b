"""How the database gives tickets: asked as hosts ask it, without larkdrop around."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from larkdrop.fleet import schema
from larkdrop.fleet.database import Database
from larkdrop.fleet.member import ENTER, LEAVE, TAKE
from tests.fleet.postgres import SERVER, Postgres

pytestmark = pytest.mark.needs(SERVER)


class Fleet:
    """Hosts that only ask for tickets."""

    def __init__(self, database: Database, *, per_second: int = 50, per_minute: int = 1000) -> None:
        self.database = database
        self.limits = per_second, per_minute
        self.instances: dict[str, UUID] = {}

    def enter(self, *hosts: str, ages: tuple[float, ...] = ()) -> None:
        """Hosts come, each with calls of so many seconds ago."""
        for host in hosts:
            self.instances[host] = uuid4()
            self.database.ask(ENTER, ("app", host, self.instances[host], "1", 0.0, *self.limits, list(ages), False))

    def take(self, host: str, fresh: int = 0, backlog: int = 0, **others: Any) -> dict[str, Any]:
        """The answer to a host that wants so many."""
        given: dict[str, Any] = {"wants": fresh + backlog, "returned": [], "late": {}, "pause": 0.0} | others
        ((answer,),) = self.database.ask(TAKE, (
            "app", host, self.instances[host], fresh, backlog, given["wants"], given["wants"], "", given["returned"],
            list(given["late"]), list(given["late"].values()), given["pause"], None, False, False, 60.0,
        ))  # fmt: skip
        made: dict[str, Any] = answer
        return made

    def number(self, host: str, fresh: int = 0, backlog: int = 0, **others: Any) -> int:
        """How many tickets it gets at once."""
        return len(self.take(host, fresh, backlog, **others)["ids"])


@pytest.fixture
def connection(url: str) -> Iterator[Database]:
    """A connection to tables that are there."""
    with Database(url, "test") as made:
        schema.prepare(made)
        yield made


def spread(calls: int) -> tuple[float, ...]:
    """Calls of the last minute, at an even rate."""
    return tuple(59.0 * number / calls for number in range(calls))


def test_a_second_and_its_reserve(connection: Database) -> None:
    """The backlog leaves places for fresh drops, on whichever host; and all hosts together keep the limit."""
    fleet = Fleet(connection)
    fleet.enter("a", "b")
    assert fleet.number("a", backlog=40) == 40
    assert fleet.number("b", backlog=40) == 8
    assert fleet.number("b", fresh=40) == 2


def test_a_minute_that_is_used_up(connection: Database) -> None:
    """Nothing is given, and when asking is worth it is told; what is returned can be given again."""
    fleet = Fleet(connection, per_minute=100)
    fleet.enter("a", ages=tuple(30 + number / 10 for number in range(98)))
    first = fleet.take("a", backlog=1)
    assert len(first["ids"]) == 1
    refused = fleet.take("a", backlog=1)
    assert not refused["ids"]
    assert 0 < refused["again"][1] <= 1
    assert fleet.number("a", backlog=1, returned=first["ids"]) == 1


def test_a_late_call_counts_later(connection: Database) -> None:
    """By as many seconds as the host tells."""
    fleet = Fleet(connection)
    fleet.enter("a")
    (ticket,) = fleet.take("a", backlog=1)["ids"]
    before = connection.ask("SELECT at FROM larkdrop.calls")[0][0]
    fleet.take("a", late={ticket: 0.25})
    assert connection.ask("SELECT at FROM larkdrop.calls")[0][0] == pytest.approx(before + 0.25)


def test_who_has_had_its_part_waits(connection: Database) -> None:
    """A host that had more leaves what becomes free to one that had less, but for a few fresh drops."""
    fleet = Fleet(connection, per_minute=200)
    fleet.enter("greedy", ages=spread(140))
    fleet.enter("modest", ages=spread(20))
    fleet.take("modest", wants=1000)
    assert fleet.number("greedy", backlog=10) == 0
    assert fleet.number("modest", backlog=1) == 1
    assert fleet.number("greedy", fresh=1) == 1


def test_who_waits_for_its_part_does_not_ask_all_the_time(connection: Database) -> None:
    """Also while its calls have expired, and were not forgotten yet."""
    fleet = Fleet(connection, per_minute=200)
    fleet.enter("greedy", ages=spread(140))
    fleet.enter("modest")
    fleet.take("modest", wants=1000)
    for _ in range(2):
        answer = fleet.take("greedy", backlog=10)
        assert answer["ids"] or answer["again"][1] >= 0.25
        connection.ask("UPDATE larkdrop.calls SET at = at - 30")


def test_what_one_does_not_want_others_have(connection: Database) -> None:
    """Alone with work, a host may have all."""
    fleet = Fleet(connection, per_minute=200)
    fleet.enter("busy", ages=spread(140))
    fleet.enter("idle")
    assert fleet.number("busy", backlog=1) == 1


def test_a_host_that_is_gone_keeps_its_part_for_a_minute(connection: Database) -> None:
    """It may go on alone. One that stopped as it should keeps nothing."""
    fleet = Fleet(connection, per_minute=200)
    fleet.enter("here", ages=spread(99))
    fleet.enter("gone")
    connection.ask("UPDATE larkdrop.hosts SET seen = seen - 20 WHERE host = 'gone'")
    assert fleet.take("here", backlog=1)["level"] == 99
    assert fleet.number("here", backlog=1) == 0
    connection.ask("UPDATE larkdrop.hosts SET seen = seen - 60 WHERE host = 'gone'")
    assert fleet.number("here", backlog=1) == 1
    fleet.enter("gone")
    connection.ask(LEAVE, ("app", "gone", fleet.instances["gone"]))
    assert fleet.take("here")["hosts"] == 1


def test_the_lowest_limit_counts(connection: Database) -> None:
    """Where hosts are configured differently."""
    fleet = Fleet(connection)
    fleet.enter("a")
    fleet.limits = 10, 100
    fleet.enter("b")
    assert fleet.number("a", fresh=50) == 10


@pytest.mark.parametrize("per_minute", [1, 2, 3])
def test_tiny_limits(connection: Database, per_minute: int) -> None:
    """Even one call a minute is given."""
    fleet = Fleet(connection, per_second=1, per_minute=per_minute)
    fleet.enter("a", "b")
    assert fleet.number("a", backlog=5) == 1
    assert fleet.number("b", backlog=5) == 0


def test_the_servers_clock_is_set_back(connection: Database) -> None:
    """Calls of the future are forgotten, and block nobody."""
    fleet = Fleet(connection)
    fleet.enter("a", ages=spread(900))
    connection.ask("UPDATE larkdrop.calls SET at = at + 3600")
    assert fleet.number("a", backlog=1) == 1
    assert fleet.take("a")["used_minute"] == 1


def test_a_host_that_was_seen_in_the_future(connection: Database) -> None:
    """Before the clock was set back: it is dead as soon as any other."""
    fleet = Fleet(connection)
    fleet.enter("a", "b")
    connection.ask("UPDATE larkdrop.hosts SET seen = seen + 3600 WHERE host = 'b'")
    connection.ask("UPDATE larkdrop.apps SET tidied_at = tidied_at + 3600")
    assert fleet.take("a")["hosts"] == 2
    connection.ask("UPDATE larkdrop.hosts SET seen = seen - 60 WHERE host = 'b'")
    assert fleet.take("a")["hosts"] == 1


def test_the_counts_stay_true(connection: Database) -> None:
    """Whatever was given, returned and forgotten: they are those of the calls."""
    fleet = Fleet(connection, per_minute=60)
    fleet.enter("a", "b", "c", ages=spread(10))
    given = [ticket for host in "abc" for ticket in fleet.take(host, fresh=2, backlog=5)["ids"]]
    connection.ask("UPDATE larkdrop.calls SET at = at - 61 WHERE id % 3 = 0")
    for host in "abc":
        fleet.take(host, backlog=3, returned=given)
    counted = dict(connection.ask("SELECT host, count(*) FROM larkdrop.calls GROUP BY host"))
    assert dict(connection.ask("SELECT host, had FROM larkdrop.hosts")) == {
        host: counted.get(host, 0) for host in "abc"
    }


def test_calls_that_a_crash_lost_are_counted_no_more(connection: Database) -> None:
    """Each host tells of its own again when it is back."""
    fleet = Fleet(connection, per_minute=60)
    fleet.enter("a", "b", ages=spread(25))
    connection.ask("TRUNCATE larkdrop.calls")
    assert fleet.number("a", backlog=8) == 8
    assert dict(connection.ask("SELECT host, had FROM larkdrop.hosts")) == {"a": 8, "b": 0}


def test_many_hosts_come_to_an_empty_database_at_once(url: str) -> None:
    """One makes the tables, the others find them."""

    def come(_number: int) -> str:
        with Database(url, "test") as database:
            return schema.prepare(database)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(come, range(8)))) == 1


def test_the_role_can_do_nothing_else(postgres: Postgres, url: str) -> None:
    """No table outside its schema, no database, no role."""
    with Database(url, "test") as database:
        schema.prepare(database)
    for forbidden in ("CREATE TABLE public.x ()", "CREATE SCHEMA x", "CREATE DATABASE x", "CREATE ROLE x"):
        with Database(url, "test") as database, pytest.raises(Exception, match="permission denied"):
            database.ask(forbidden)
    assert postgres.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'larkdrop'") == [(False,)]
