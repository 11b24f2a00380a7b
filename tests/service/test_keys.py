"""``keys`` finds the key of every picture: by name, pattern, folder and date, also after it was moved or rewritten."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from larkdrop.fleet.facts import KeyQuery
from larkdrop.sandbox.server import Sandbox
from larkdrop.service.keys import fleet_query
from tests.asking import ask, key, say
from tests.helpers import Daemon, picture

MakeDaemon = Callable[..., Daemon]


def test_a_file_that_has_no_key_is_looked_for_in_a_fleet_by_its_name(tmp_path: Path) -> None:
    """Also one that can't be read, such as a name that is too long."""
    for name in ("gone.png", "x" * 300):
        assert fleet_query(name, str(tmp_path / name), "", "", 10) == KeyQuery(name=name, limit=10)


def test_a_key_outside_the_range_is_not_waited_for(done: Daemon) -> None:
    """It has come already, so the command ends long before it had to."""
    say(done, "keys", "--wait", "300", "--until", "2020-01-01", str(done.inbox / "one.png"), code=1)


def test_keys(done: Daemon) -> None:
    """By name, pattern, folder and date; as a table, JSON, CSV, and bare for scripts."""
    one = done.inbox / "one.png"
    assert say(done, "keys", "--key-only", "one.png") == f"{key(one)}\n"
    assert say(done, "keys", "--key-only", str(one)) == f"{key(one)}\n"
    assert {row["path"] for row in ask(done, "keys", "t*.png")} == {
        f"{done.inbox}/{name}" for name in ("two.png", "twin.png", "sub/three.png")
    }
    assert [row["path"] for row in ask(done, "keys", str(done.inbox / "sub"))] == [f"{done.inbox}/sub/three.png"]
    rows = list(csv.DictReader(io.StringIO(say(done, "keys", "--csv"))))
    assert {row["image_key"] for row in rows} == {key(path) for path in done.inbox.rglob("*.png")}
    assert len(ask(done, "keys", "--since", "1h")) == len(ask(done, "keys", "--since", "2020-01-01")) == 4
    assert "no key is known" in say(done, "keys", "--until", "2020-01-01", code=1)
    assert len(ask(done, "keys", "--limit", "1")) == 1
    assert re.search(rf"^{key(one)}  .*Z  {one}$", say(done, "keys"), re.MULTILINE)
    assert "no key is known of nothing.png" in say(done, "keys", "nothing.png", code=1)
    for nonsense in ("yesterday", "9999999d", "99999999999999d"):
        assert "is not a moment" in say(done, "keys", "--since", nonsense, code=2)


def test_keys_says_which_is_not_known(done: Daemon) -> None:
    """Those that are known are printed all the same; sidecars that a shell's pattern brings are passed over."""
    one, note = done.inbox / "one.png", done.inbox / "note.txt"
    said = say(done, "keys", "--key-only", str(one), str(note), f"{one}.lark.json", code=1)
    assert said == f"{key(one)}\nlarkdrop: no key is known of {note}; `larkdrop explain PATH` says why.\n"


def test_keys_of_a_file_that_changed(done: Daemon) -> None:
    """The key of other content would be wrong; after a mere touch it is right."""
    one = done.inbox / "one.png"
    before = key(one)
    os.utime(one)
    assert say(done, "keys", "--key-only", str(one)) == f"{before}\n"
    one.write_bytes(picture(77))
    assert "no key is known" in say(done, "keys", str(one), code=1)


def test_keys_waits_for_what_was_just_dropped(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """A script drops a picture and has its key; what is rejected ends the wait."""
    lark.faults.delay = 0.5
    with make_daemon() as daemon:
        path = daemon.drop("a.png", picture())
        assert say(daemon, "keys", "--key-only", "--wait", "30", str(path)).strip() == key(path)
        bad = daemon.drop("b.txt", b"text")
        assert "no key is known" in say(daemon, "keys", "--wait", "1000", str(bad), code=1)


def test_keys_from_the_sidecar_when_the_state_is_lost(done: Daemon) -> None:
    """The folder is the truth: a named file's key is found without a key cache."""
    for file in done.state.glob("keys.*"):
        file.unlink()
    one = done.inbox / "one.png"
    assert say(done, "keys", "--key-only", str(one)) == f"{key(one)}\n"


def test_keys_of_names_that_are_not_utf8(make_daemon: MakeDaemon) -> None:
    """Bytes go out as they are, and JSON has the surrogate escapes."""
    daemon = make_daemon()
    name = b"caf\xe9.png"
    Path(os.fsdecode(os.fsencode(daemon.inbox) + b"/" + name)).write_bytes(picture())
    daemon.once()
    (row,) = ask(daemon, "keys")
    assert os.fsencode(row["path"]).endswith(name)
    printed = subprocess.run(daemon.command("keys"), capture_output=True, check=True).stdout
    assert name in printed


def test_a_file_rewritten_in_its_place(make_daemon: MakeDaemon) -> None:
    """``keys`` prints the key of what is there now; ``--all`` those of what was there before as well."""
    daemon = make_daemon()
    known = []
    for number in range(3):
        path = daemon.drop("latest.png", picture(number))
        assert daemon.once().returncode == 0
        known.append(key(path))
    for words in ((), (str(path),), (str(daemon.inbox),), ("latest*",)):
        assert say(daemon, "keys", "--key-only", *words) == f"{known[2]}\n"
        assert say(daemon, "keys", "--key-only", "--all", *words).split() == known
    assert [line["event"] for line in daemon.results()] == ["uploaded"] * 3
