"""PgBouncer in transaction mode stands between: each question may go by another connection."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from larkdrop.sandbox.server import Sandbox
from tests.fleet.conftest import PASSWORD
from tests.fleet.postgres import SERVER, Postgres
from tests.helpers import Daemon, free_port, picture, sidecar_of, wait_until

pytestmark = pytest.mark.needs(SERVER, "pgbouncer")


@pytest.fixture
def bouncer(postgres: Postgres, database: str) -> Iterator[str]:
    """The database's URL through a PgBouncer that has two connections for all."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="larkdrop-pgbouncer-") as home:
        config = Path(home, "pgbouncer.ini")
        server = f"host=127.0.0.1 port={postgres.port} user=larkdrop password={PASSWORD}"
        config.write_text(f"""
[databases]
{database} = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
""")
        config.chmod(0o644)
        Path(home).chmod(0o755)
        user = postgres.user if os.geteuid() == 0 else None
        process = subprocess.Popen(["pgbouncer", "-q", config], user=user, cwd="/")
        url = f"postgresql://larkdrop@127.0.0.1:{port}/{database}"

        def answers() -> bool:
            try:
                psycopg.connect(url, connect_timeout=2).close()
            except psycopg.Error:
                return False
            return True

        try:
            wait_until(answers, what="PgBouncer")
            yield url
        finally:
            process.kill()
            process.wait()


def test_hosts_share_through_it(lark: Sandbox, make_host: Callable[..., Daemon], bouncer: str) -> None:
    """Tickets, claims and keys, as without it."""
    hosts = [make_host(fleet={"url": bouncer}).start() for _ in range(4)]
    for number in range(10):
        for host in hosts:
            host.drop(f"{number}.png", picture(number))
    wait_until(lambda: all(sidecar_of(host.inbox / f"{number}.png") for host in hosts for number in range(10)))
    assert len(lark.uploads) == 10
    assert not any(host.events("fleet_away") for host in hosts)
