"""The database can't be used: one clear sentence for each reason, without a secret, and work goes on locally."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from larkdrop.fleet import schema
from larkdrop.fleet.database import Database
from larkdrop.sandbox.server import Sandbox
from tests.fleet.conftest import PASSWORD
from tests.fleet.postgres import SERVER, Postgres
from tests.helpers import Daemon, free_port, picture, wait_for_sidecar, wait_until

MakeHost = Callable[..., Daemon]
pytestmark = pytest.mark.needs(SERVER)


def assert_goes_on_alone(host: Daemon, *words: str) -> None:
    """It starts, uploads, and says once why it is alone: in the log, in status and in check."""
    host.start()
    wait_for_sidecar(host.drop("one.png", picture(1)))
    (away,) = host.events("fleet_away")
    told = f"{away['reason']} {away['hint']}"
    for word in words:
        assert word in told
    done = subprocess.run(host.command("status", "--json"), capture_output=True, text=True, timeout=60, check=False)
    status = json.loads(done.stdout)
    assert done.returncode == 1
    assert status["fleet"]["away"]["reason"] == away["reason"]
    assert away["reason"] in status["needs"][0]
    done = subprocess.run(host.command("check"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "✗ fleet" in done.stdout
    assert host.stop() == 0
    assert PASSWORD not in host.stderr.read_text() + json.dumps(status) + done.stdout
    assert "Traceback" not in host.stderr.read_text()


def test_it_is_not_running(make_host: MakeHost) -> None:
    """Nobody listens."""
    url = f"postgresql://larkdrop:{PASSWORD}@127.0.0.1:{free_port()}/larkdrop"
    assert_goes_on_alone(
        make_host(fleet={"url": url}),
        "the connection failed: connection to",
        "Connection refused",
        "Check whether PostgreSQL is",
    )


def test_no_such_host(make_host: MakeHost) -> None:
    """The name means nothing."""
    url = f"postgresql://larkdrop:{PASSWORD}@nowhere.invalid/larkdrop"
    assert_goes_on_alone(make_host(fleet={"url": url}), "nowhere.invalid", "Check the name of the host")


def test_wrong_password(make_host: MakeHost, url: str) -> None:
    """Where the password comes from is named."""
    wrong = url.replace(PASSWORD, "wrong")
    assert_goes_on_alone(make_host(fleet={"url": wrong}), "password authentication failed", "LARKDROP_FLEET__URL")


def test_no_database(make_host: MakeHost, url: str) -> None:
    """There is no such database."""
    assert_goes_on_alone(make_host(fleet={"url": f"{url}x"}), "does not exist", "docs/fleet.md")


def test_no_rights(make_host: MakeHost, url: str, postgres: Postgres, database: str) -> None:
    """It may not make its tables."""
    postgres.ask("DROP SCHEMA larkdrop", database)
    assert_goes_on_alone(make_host(), "permission denied", "docs/fleet.md")


def test_no_rights_to_the_tables(make_host: MakeHost, url: str, postgres: Postgres, database: str) -> None:
    """Somebody else made them."""
    postgres.ask("ALTER SCHEMA larkdrop OWNER TO admin", database)
    with Database(postgres.url("admin", database=database), "test") as admin:
        schema.prepare(admin)
    postgres.ask("GRANT USAGE ON SCHEMA larkdrop TO larkdrop", database)
    assert_goes_on_alone(make_host(), "permission denied", "The user lacks a right")


def old_schema(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables, as the first version has them."""
    with monkeypatch.context() as patch, Database(url, "test") as owner:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        patch.setattr(schema, "VERSION", 1)
        patch.setattr(schema, "OLDEST", 1)
        schema.prepare(owner)


def test_an_old_schema(make_host: MakeHost, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is brought forward."""
    old_schema(url, monkeypatch)
    host = make_host().start()
    assert host.events("fleet_joined")
    with Database(url, "test") as owner:
        assert schema.look(owner)[0] == schema.VERSION


def test_an_old_schema_that_may_not_be_changed(
    make_host: MakeHost, postgres: Postgres, database: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of an older larkdrop belong to somebody else."""
    old_schema(url, monkeypatch)
    postgres.ask("REASSIGN OWNED BY larkdrop TO admin; GRANT USAGE ON SCHEMA larkdrop TO larkdrop;"
                 "GRANT SELECT ON ALL TABLES IN SCHEMA larkdrop TO larkdrop", database)  # fmt: skip
    assert_goes_on_alone(
        make_host(), "have version 1", "can't be brought to version 2", "permission denied", "docs/fleet.md"
    )


def test_a_newer_schema(make_host: MakeHost, postgres: Postgres, database: str, url: str) -> None:
    """A newer larkdrop has brought the tables forward so far that this one can't take part."""
    with Database(url, "test") as owner:
        schema.prepare(owner)
    postgres.ask("UPDATE larkdrop.meta SET version = 9, oldest = 9", database)
    assert_goes_on_alone(make_host(), "version 9", "Update larkdrop on this host")


def test_a_read_only_standby(make_host: MakeHost, url: str, postgres: Postgres) -> None:
    """A copy that follows another server."""
    with Database(url, "test") as owner:
        schema.prepare(owner)
    postgres.stop()
    standby = postgres.data / "standby.signal"
    try:
        standby.touch()
        postgres.own()
        postgres.start()
        assert_goes_on_alone(make_host(), "read-only standby", "Name the primary")
    finally:
        postgres.stop()
        standby.unlink()
        postgres.start()


def test_it_is_set_up_by_one_who_may_make_roles_and_databases(make_host: MakeHost) -> None:
    """And is no superuser, whom a hosted PostgreSQL does not give away; also a second time."""
    with Postgres() as postgres:
        postgres.ask("CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'maker'")
        for _ in range(2):
            postgres.make_role(PASSWORD, "larkdrop", by="maker:maker")
        with make_host(fleet={"url": postgres.url("larkdrop", PASSWORD, "larkdrop")}) as host:
            wait_until(lambda: host.events("fleet_joined"))


@pytest.mark.needs("openssl")
def test_tls(make_host: MakeHost) -> None:
    """With ``verify-full`` a host comes in where it knows the server's certificate, and nowhere else."""
    with Postgres(tls=True) as postgres:
        postgres.make_role(PASSWORD, "larkdrop")
        url = f"{postgres.url('larkdrop', PASSWORD, 'larkdrop')}?sslmode=verify-full"
        query = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'larkdrop'"
        with make_host(fleet={"url": f"{url}&sslrootcert={postgres.certificate}"}) as host:
            assert host.events("fleet_joined")
            assert postgres.ask(query) == [(True,)]
        stranger = make_host(fleet={"url": f"{url}&sslrootcert=system"})
        assert_goes_on_alone(stranger, "certificate", "Check sslrootcert")


@pytest.mark.needs("root", "mount")
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_its_disk_is_full(lark: Sandbox, make_host: MakeHost) -> None:
    """Keys can't be shared: each absence is said once. What was learned is shared once there is room.

    It may join again in between: a table may still have room where another has none.
    """
    with Postgres(size="150m") as postgres:
        postgres.make_role(PASSWORD, "larkdrop")
        url = postgres.url("larkdrop", PASSWORD, "larkdrop")
        first, second = make_host(fleet={"url": url}).start(), make_host(fleet={"url": url}).start()
        wait_for_sidecar(first.drop("before.png", picture(0)))
        with postgres.full():
            for number in range(1, 300):  # so many that the table has to grow
                first.drop(f"{number}.png", picture(number))
            away, *_ = wait_until(lambda: first.events("fleet_away"))
            assert "No space left on device" in away["reason"]
            assert "Its disk is full" in away["hint"]
            wait_until(lambda: len(first.results()) == 300)
        wait_until(lambda: len(postgres.ask("SELECT 1 FROM larkdrop.keys", "larkdrop")) == 300)
        said = [event["event"] for event in first.events() if event["event"] in ("fleet_joined", "fleet_away")]
        assert said == (["fleet_joined", "fleet_away"] * len(said))[: len(said)]
        assert wait_for_sidecar(second.drop("same.png", picture(299)))["reused"]
        assert len(lark.uploads) == 300
