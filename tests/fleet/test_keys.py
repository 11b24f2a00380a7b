"""One key a content: hosts upload the same bytes once, and record a shared folder's file once, in one of their logs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.fleet.conftest import PASSWORD
from tests.fleet.postgres import SERVER, Postgres
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeHost = Callable[..., Daemon]
pytestmark = pytest.mark.needs(SERVER)


def events(hosts: list[Daemon]) -> Counter[str]:
    """How many outcomes of each kind are in all result logs."""
    return Counter(line["event"] for host in hosts for line in host.results())


def asked(host: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(host.command(*words), capture_output=True, text=True, timeout=60, check=False)


def printed(host: Daemon, *words: str) -> str:
    done = asked(host, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def drop_on_all(hosts: list[Daemon], pictures: int) -> None:
    """The same pictures on every host, at once."""
    contents = [picture(number) for number in range(pictures)]
    for number, content in enumerate(contents):
        for host in hosts:
            host.drop(f"{number}.png", content)


def same_on_all(lark: Sandbox, make_host: MakeHost, hosts: int, pictures: int) -> None:
    made = [make_host().start() for _ in range(hosts)]
    drop_on_all(made, pictures)
    wait_until(lambda: events(made).total() >= hosts * pictures, 150, lambda: str(events(made)))
    assert len(lark.uploads) == pictures
    assert events(made) == {"uploaded": pictures, "reused": (hosts - 1) * pictures}
    for number in range(pictures):
        sidecars = [wait_for_sidecar(host.inbox / f"{number}.png") for host in made]
        assert len({(one["image_key"], one["host"]) for one in sidecars}) == 1
    assert all(host.stop() == 0 for host in made)


def test_the_same_pictures_on_all_hosts(lark: Sandbox, make_host: MakeHost) -> None:
    """Each is uploaded by one of them, and the others take its key."""
    same_on_all(lark, make_host, hosts=3, pictures=20)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_500_pictures_on_8_hosts(lark: Sandbox, make_host: MakeHost) -> None:
    """500 calls, 3,500 reused."""
    same_on_all(lark, make_host, hosts=8, pictures=500)


def shared_folder(lark: Sandbox, make_host: MakeHost, home: Path, hosts: int, pictures: int, **watch: object) -> None:
    inbox = home / "shared"
    inbox.mkdir()
    made = [make_host(watch=[{"path": inbox, **watch}]) for _ in range(hosts)]
    for host in made[1:]:
        host.start()
    paths = [inbox / f"{number}.png" for number in range(pictures)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(number))
    (inbox / "note.txt").write_bytes(b"no picture")
    made[0].start()  # finds them by a scan, while the others are at it
    places = [home / "done" / path.name for path in paths] if watch else paths
    wait_until(lambda: all(map(sidecar_of, [*places, inbox / "note.txt"])), 100, lambda: str(events(made)))
    assert all(host.stop() == 0 for host in made)
    assert len(lark.uploads) == pictures
    lines = [(line["path"], line["event"]) for host in made for line in host.results()]
    assert sorted(lines) == sorted(
        [(str(path), "uploaded") for path in paths] + [(str(inbox / "note.txt"), "rejected")]
    )


def test_a_shared_folder(lark: Sandbox, make_host: MakeHost, tmp_path: Path) -> None:
    """Each file has one sidecar, and one outcome in one result log; a rejected one, too."""
    shared_folder(lark, make_host, tmp_path, hosts=3, pictures=30)


def test_a_shared_folder_from_which_pictures_are_moved(lark: Sandbox, make_host: MakeHost, tmp_path: Path) -> None:
    """The same; each is moved once."""
    moved = {"after_upload": "move", "move_to": tmp_path / "done"}
    shared_folder(lark, make_host, tmp_path, hosts=3, pictures=30, **moved)
    assert len(list((tmp_path / "done").glob("*.png"))) == 30


def test_a_shared_folder_while_the_database_is_away(
    lark: Sandbox, make_host: MakeHost, tmp_path: Path, postgres: Postgres
) -> None:
    """The same, by locks in the folder, of which nothing is left there."""
    postgres.stop()
    try:
        shared_folder(lark, make_host, tmp_path, hosts=3, pictures=30)
    finally:
        postgres.start()
    assert not list((tmp_path / "shared").glob(".larkdrop*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_shared_folder_while_the_database_comes_and_goes(
    lark: Sandbox, make_host: MakeHost, tmp_path: Path, postgres: Postgres
) -> None:
    """Hosts that see each other, and hosts that don't, and all that is between."""
    lark.faults.set({"delay": 0.2})
    with ThreadPoolExecutor(1) as pool:
        played = pool.submit(shared_folder, lark, make_host, tmp_path, hosts=4, pictures=500)
        while not played.done():
            postgres.kill()
            wait([played], 1)
            postgres.start()
            wait([played], 3)
    played.result()


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("is_away", [False, True], ids=["", "away"])
def test_a_host_that_is_frozen_in_a_shared_folder(
    lark: Sandbox, make_host: MakeHost, tmp_path: Path, postgres: Postgres, *, is_away: bool
) -> None:
    """Another takes over, and the frozen one finds that when it wakes up."""
    inbox = tmp_path / "shared"
    inbox.mkdir()
    watch = [{"path": inbox}]
    first, second = make_host(watch=watch), make_host(watch=watch)
    if is_away:
        postgres.stop()
    try:
        first.start()
        lark.faults.set({"delay": 2})
        path = inbox / "a.png"
        path.write_bytes(picture(1))
        wait_until(lambda: lark.calls["upload"], what="the upload to begin")
        first.signal(signal.SIGSTOP)
        second.start()
        assert wait_for_sidecar(path, 90)["host"] == "host-1"
        first.signal(signal.SIGCONT)
        assert first.stop() == 0
        assert [len(host.results()) for host in (first, second)] == [0, 1]
    finally:
        if is_away:
            postgres.start()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_500_pictures_in_a_folder_of_4_hosts(lark: Sandbox, make_host: MakeHost, tmp_path: Path) -> None:
    """500 calls, 500 sidecars, each once in some result log."""
    shared_folder(lark, make_host, tmp_path, hosts=4, pictures=500)


def test_a_key_is_known_on_hosts_that_come_later(lark: Sandbox, make_host: MakeHost, tmp_path: Path) -> None:
    """Also one that was got before there was a fleet; and what a host learned, it knows without the database."""
    alone = Daemon(tmp_path, lark)
    with alone:
        wait_for_sidecar(alone.drop("early.png", picture(1)))
        assert alone.stop() == 0
    first, second = make_host(state={"dir": alone.state}), make_host()
    first.start()
    wait_until(lambda: "early.png" in asked(first, "keys", "--fleet").stdout)
    second.start()
    assert wait_for_sidecar(second.drop("later.png", picture(1)))["host"] == "host-0"
    assert len(lark.uploads) == 1


def test_what_was_learned_from_others_is_kept(lark: Sandbox, make_host: MakeHost, postgres: Postgres) -> None:
    """A content once reused is reused again while the database is away."""
    first, second = make_host().start(), make_host().start()
    wait_for_sidecar(first.drop("one.png", picture(1)))
    wait_for_sidecar(second.drop("same.png", picture(1)))
    postgres.stop()
    try:
        again = wait_for_sidecar(second.drop("again.png", picture(1)))
        assert (again["reused"], again["host"]) == (True, "host-0")
        assert len(lark.uploads) == 1
    finally:
        postgres.start()


@pytest.mark.slow
def test_a_host_that_dies_leaves_its_claims(lark: Sandbox, make_host: MakeHost) -> None:
    """What it had begun to upload is taken over by another host once its heartbeat is missed."""
    first, second = make_host().start(), make_host().start()
    lark.faults.set({"delay": 60})
    first.drop("one.png", picture(1))
    wait_until(lambda: lark.calls["upload"], what="the upload to begin")
    waiting = second.drop("same.png", picture(1))
    first.kill()
    lark.faults.set({"delay": 0})
    assert wait_for_sidecar(waiting)["host"] == "host-1"


def test_a_run_that_ends(lark: Sandbox, make_host: MakeHost, postgres: Postgres, database: str, tmp_path: Path) -> None:
    """``run --once`` shares as well, and leaves no claim; the password may stand in PostgreSQL's own file."""
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{postgres.port}:{database}:larkdrop:{PASSWORD}\n")
    passwords.chmod(0o600)
    first, second = (make_host(fleet={"url": postgres.url("larkdrop", database=database)}) for _ in range(2))
    drop_on_all([first, second], 10)
    for host in (first, second):
        assert host.once(PGPASSFILE=str(passwords)).returncode == 0
    assert events([first, second]) == {"uploaded": 10, "reused": 10}
    assert len(lark.uploads) == 10
    assert postgres.ask("SELECT stopped FROM larkdrop.hosts", database) == [(True,), (True,)]
    assert postgres.ask("SELECT name FROM larkdrop.claims", database) == []


def test_check(lark: Sandbox, make_host: MakeHost) -> None:
    """All is well before a first start, and after it."""
    host = make_host()
    assert "✓ fleet tables: are made when larkdrop starts" in printed(host, "check")
    host.start()
    for line in ("✓ fleet tables: version", "✓ fleet rights: may read and write them"):
        assert line in printed(host, "check")


def test_commands_name_the_host(lark: Sandbox, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who uploaded a picture: ``explain`` and ``keys --fleet``; who is there: ``status --fleet``."""
    monkeypatch.setenv("PGDATESTYLE", "German")  # the database may write moments in any style
    first, second = make_host().start(), make_host().start()
    one = first.drop("one.png", picture(1))
    key = wait_for_sidecar(one)["image_key"]
    same = second.drop("same.png", picture(1))
    wait_for_sidecar(same)
    assert "The host host-0 uploaded it." in printed(second, "explain", str(same))
    for host, path in ((first, one), (second, same)):
        path.unlink()
        assert "The host host-0 uploaded it." in printed(host, "explain", str(path))
    (known,) = json.loads(printed(second, "keys", "--fleet", "--json"))
    assert (known["image_key"], known["host"], known["file"]) == (key, "host-0", "one.png")
    same.write_bytes(picture(1))
    for asked in ("ONE.*", str(same)):
        assert printed(second, "keys", "--fleet", "--key-only", asked).split() == [key]
    done = subprocess.run(second.command("keys", "--fleet", "caf\udce9*"), capture_output=True, text=True, check=False)
    assert "no key is known of caf" in done.stderr
    hosts: list[dict[str, Any]] = json.loads(printed(second, "status", "--fleet", "--json"))
    assert [(host["host"], host["state"], host["calls_minute"]) for host in hosts] == [
        ("host-0", "here", 1),
        ("host-1", "here", 0),
    ]
    assert first.stop() == 0
    table = printed(second, "status", "--fleet")
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["host-0", "stopped"], ["host-1", "here"]]
    status = json.loads(printed(second, "status", "--json"))
    assert wait_until(lambda: json.loads(printed(second, "status", "--json"))["fleet"]["hosts"] == 1)
    assert status["fleet"]["away"] is None
