"""Local first: the database goes away, hangs or was never there, and nothing but the sharing waits for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from larkdrop.config.settings import Settings
from larkdrop.fleet import database as database_module
from larkdrop.fleet import schema
from larkdrop.fleet.database import Database
from larkdrop.fleet.identity import Identity
from larkdrop.fleet.keys import FleetKeys
from larkdrop.records.key_cache import Content
from larkdrop.sandbox.server import Sandbox
from larkdrop.service.parts import build
from tests.fleet.postgres import SERVER, Postgres
from tests.helpers import Daemon, picture, wait_for_sidecar, wait_until

MakeHost = Callable[..., Daemon]
pytestmark = pytest.mark.needs(SERVER)


def test_it_is_stopped_and_started(lark: Sandbox, make_host: MakeHost, postgres: Postgres) -> None:
    """Said once each time; what was learned meanwhile is shared afterwards."""
    first, second = make_host().start(), make_host().start()
    wait_for_sidecar(first.drop("before.png", picture(0)))
    postgres.stop()
    try:
        wait_for_sidecar(first.drop("meanwhile.png", picture(1)))
        wait_until(lambda: first.events("fleet_away") and second.events("fleet_away"))
    finally:
        postgres.start()
    wait_until(lambda: len(first.events("fleet_joined")) == len(second.events("fleet_joined")) == 2)
    again = second.drop("again.png", picture(1))
    assert wait_for_sidecar(again)["host"] == "host-0"
    assert len(first.events("fleet_away")) == 1
    assert len(lark.uploads) == 2


def test_it_hangs(make_host: MakeHost, postgres: Postgres) -> None:
    """A picture waits no longer than a time-out, and a stop ends."""
    host = make_host().start()
    wait_for_sidecar(host.drop("before.png", picture(0)))
    postgres.freeze()
    try:
        wait_for_sidecar(host.drop("meanwhile.png", picture(1)), 20)
        (away,) = host.events("fleet_away")
        assert "did not answer within 2 s" in away["reason"]
        assert host.stop(20) == 0
    finally:
        postgres.thaw()


def test_a_question_that_waited_in_vain(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind others, on a connection that is slow and stands: the host says so, and takes part again."""
    monkeypatch.setattr(database_module, "CONNECT_SECONDS", 1)
    settings = Settings.model_validate({
        "lark": {"app_id": "cli_x", "app_secret": "s", "base_url": "http://127.0.0.1:9"},
        "watch": [{"path": str(tmp_path)}],
        "state": {"dir": str(tmp_path / "state")},
        "fleet": {"url": url, "host": "host-0"},
    })  # fmt: skip
    (tmp_path / "state").mkdir()
    parts = build(settings)
    member = parts.fleet
    assert member
    keys = member._keys
    with parts.cache:
        thread = threading.Thread(target=member.run)
        thread.start()
        wait_until(lambda: keys.takes_part)
        with member._database._lock:
            assert keys.claim_file("a.png", "1") is None
            assert not keys.takes_part
        wait_until(lambda: keys.takes_part)
        member.stop()
        thread.join()


def test_a_claim_of_an_earlier_term(url: str) -> None:
    """A file is not held any more after a silence in which others may have taken it over, whatever is claimed since."""
    with Database(url, "test") as connection:
        schema.prepare(connection)
        keys = FleetKeys(connection, Identity("scope", "host", uuid4()), notify=lambda: None)
        content = Content("https://open.example", "cli_x", "im/v1", "message", "0" * 64)
        keys.join()
        keys.seen(time.monotonic(), 60, silence=0)
        assert keys.claim_file("a.png", "1") is None
        assert keys.still_held("a.png")
        keys.seen(time.monotonic(), 60, silence=100)
        assert not keys.still_held("a.png")
        assert keys.find_or_claim("a.png", content, upload=True) is None
        assert not keys.still_held("a.png")
        assert keys.claim_file("a.png", "1") is None
        assert keys.still_held("a.png")


def test_it_is_down_at_the_start(make_host: MakeHost, postgres: Postgres) -> None:
    """A host keeps the part of the limit that it had, and shares what it learned when the database is there."""
    first, second = make_host().start(), make_host().start()
    wait_until(lambda: '"hosts": 2' in status(first))
    assert first.stop() == 0
    postgres.stop()
    try:
        first.start()
        (away,) = wait_until(lambda: first.events("fleet_away"))
        assert away["doing"] == "goes on alone, with 1/2 of the limit"
        wait_for_sidecar(first.drop("early.png", picture(1)))
    finally:
        postgres.start()
    wait_until(lambda: len(first.events("fleet_joined")) == len(second.events("fleet_joined")) == 2)
    assert wait_for_sidecar(second.drop("later.png", picture(1)))["reused"]


def test_the_database_is_made_anew(lark: Sandbox, make_host: MakeHost, postgres: Postgres, database: str) -> None:
    """Every host sends all its keys again."""
    first, second = make_host().start(), make_host().start()
    wait_for_sidecar(first.drop("one.png", picture(1)))
    postgres.ask("DROP SCHEMA larkdrop CASCADE", database)
    postgres.ask("CREATE SCHEMA larkdrop AUTHORIZATION larkdrop", database)
    wait_until(lambda: len(first.events("fleet_joined")) == len(second.events("fleet_joined")) == 2)
    assert wait_for_sidecar(second.drop("same.png", picture(1)))["host"] == "host-0"
    assert len(lark.uploads) == 1


def test_the_database_is_restored_from_a_backup(
    lark: Sandbox, make_host: MakeHost, postgres: Postgres, database: str
) -> None:
    """By what docs/fleet.md says, every host sends all its keys again."""
    first, second = make_host().start(), make_host().start()
    wait_for_sidecar(first.drop("one.png", picture(1)))
    wait_until(lambda: postgres.ask("SELECT 1 FROM larkdrop.keys", database))
    postgres.ask("DELETE FROM larkdrop.keys", database)
    postgres.ask("UPDATE larkdrop.meta SET born = gen_random_uuid()", database)
    postgres.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'larkdrop'", database)
    wait_until(lambda: len(first.events("fleet_joined")) == len(second.events("fleet_joined")) == 2)
    assert wait_for_sidecar(second.drop("same.png", picture(1)))["host"] == "host-0"
    assert len(lark.uploads) == 1


def test_two_hosts_of_one_name(make_host: MakeHost) -> None:
    """The earlier one says so, and goes on alone."""
    first, second = make_host(fleet={"host": "twin"}).start(), make_host(fleet={"host": "twin"}).start()
    (away,) = wait_until(lambda: first.events("fleet_away"))
    assert away["reason"] == "another larkdrop calls itself twin"
    assert "fleet.host" in away["hint"]
    for number, host in enumerate((first, second)):
        wait_for_sidecar(host.drop("one.png", picture(number)))
    assert not second.events("fleet_away")
    first.stop()
    third = make_host(fleet={"host": "twin"}).start()
    wait_until(lambda: second.events("fleet_away"))
    assert not third.events("fleet_away")


def test_without_a_fleet_nothing_of_it_is_loaded() -> None:
    """No driver, and no part of it that needs one."""
    code = """
import sys
from larkdrop.commands import check, keys, run, status
from larkdrop.service import control, daemon
assert not [name for name in sys.modules if name.startswith("psycopg")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def status(host: Daemon) -> str:
    return subprocess.run(
        host.command("status", "--json"), capture_output=True, text=True, timeout=60, check=False
    ).stdout
