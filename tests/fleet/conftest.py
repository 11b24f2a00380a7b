"""A PostgreSQL for each file of tests, a database for each test, and hosts that share an app by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.fleet.postgres import Postgres
from tests.helpers import Daemon

PASSWORD = "hush-hush"
_numbers = count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """One that runs."""
    with Postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The name of an empty database, made as docs/fleet.md says."""
    name = f"fleet{next(_numbers)}"
    postgres.make_role(PASSWORD, name)
    return name


@pytest.fixture
def url(postgres: Postgres, database: str) -> str:
    """The database, as the hosts know it."""
    return postgres.url("larkdrop", PASSWORD, database)


@pytest.fixture
def make_host(tmp_path: Path, lark: Sandbox, url: str) -> Iterator[Callable[..., Daemon]]:
    """Make hosts that share an app, not yet started; they are killed after the test."""
    made: list[Daemon] = []

    def make(**sections: dict[str, object]) -> Daemon:
        name = f"host-{len(made)}"
        home = tmp_path / name
        home.mkdir()
        sections["fleet"] = {"url": url, "host": name} | sections.get("fleet", {})
        made.append(Daemon(home, lark, **sections))
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill()
