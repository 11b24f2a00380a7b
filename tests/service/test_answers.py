"""Every outcome stays findable, and every question gets an answer: of folders, links, and what can't be read."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from larkdrop.records.index import Index
from larkdrop.records.key_cache import KeyCache
from larkdrop.sandbox.server import Sandbox
from tests.commands.test_commands import ask, explained, key, say
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]
NOBODY = 65534
POWERLESS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")
needs_setpriv = pytest.mark.needs("root", "setpriv")


@pytest.fixture
def moved(make_daemon: MakeDaemon, tmp_path: Path) -> tuple[Daemon, list[str]]:
    """Three different pictures dropped as ``snapshot.png``, one after the other, and moved; their keys in order."""
    watch = {"path": tmp_path / "inbox", "after_upload": "move", "move_to": tmp_path / "done"}
    daemon = make_daemon(watch=[watch])
    for number in range(3):
        daemon.drop("snapshot.png", picture(number))
        assert daemon.once().returncode == 0
    return daemon, [key(tmp_path / "done" / name) for name in ("snapshot.png", "snapshot.1.png", "snapshot.2.png")]


def test_pictures_moved_under_one_name_stay_findable(moved: tuple[Daemon, list[str]], tmp_path: Path) -> None:
    """Each at its place, by name, pattern, folder, and in the gallery; the name itself has the newest key."""
    daemon, known = moved
    done = tmp_path / "done"
    assert len(set(known)) == 3
    for words in ((), (str(done),), (str(daemon.inbox),), ("snapshot*",), ("snapshot.png",)):
        assert [row["image_key"] for row in ask(daemon, "keys", *words)] == known, words
    rows = ask(daemon, "keys", f"{done}/")
    assert [row["moved_to"] for row in rows] == [f"{done}/snapshot{n}.png" for n in ("", ".1", ".2")]
    assert {row["path"] for row in rows} == {f"{daemon.inbox}/snapshot.png"}
    assert f"{daemon.inbox}/snapshot.png → {done}/snapshot.1.png\n" in say(daemon, "keys")
    assert say(daemon, "keys", "--key-only", str(daemon.inbox / "snapshot.png")) == f"{known[2]}\n"
    assert say(daemon, "keys", "--key-only", "--all", str(daemon.inbox / "snapshot.png")).split() == known
    assert ask(daemon, "status")["folders"][0]["uploaded"] == 3
    assert "3 pictures" in say(daemon, "gallery", "--output", str(tmp_path / "gallery.html"))
    (done / "snapshot.1.png").unlink()
    answer = explained(daemon, done / "snapshot.1.png")
    assert (answer["state"], answer["image_key"]) == ("uploaded", known[1])
    assert "is gone" in answer["says"]
    (done / "snapshot.2.png.lark.json").unlink()
    assert f"uploaded from {daemon.inbox}/snapshot.png" in explained(daemon, done / "snapshot.2.png")["says"]
    assert "3 pictures were" in explained(daemon, done)["says"]


def test_the_result_log_says_where_a_picture_went(moved: tuple[Daemon, list[str]], tmp_path: Path) -> None:
    """In the outcome's own line, which stays the only one."""
    daemon, known = moved
    lines = daemon.results()
    assert [(line["event"], line["image_key"]) for line in lines] == [("uploaded", its) for its in known]
    assert [line["moved_to"] for line in lines] == [f"{tmp_path}/done/snapshot{n}.png" for n in ("", ".1", ".2")]


def test_pictures_of_one_name_that_are_moved_together(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """From several folders into one: each is where its line says, with a sidecar that speaks of it."""
    inboxes = [tmp_path / f"inbox-{number}" for number in range(4)]
    for number, inbox in enumerate(inboxes):
        inbox.mkdir()
        for n in range(25):
            (inbox / f"{n}.png").write_bytes(picture(100 * number + n))
    moving = {"after_upload": "move", "move_to": tmp_path / "done"}
    daemon = make_daemon(watch=[{"path": inbox, **moving} for inbox in inboxes])
    for number in range(4):
        (inboxes[number] / "taken.png").write_bytes(picture(1000 + number))
    assert daemon.once().returncode == 0
    lines = daemon.results()
    assert len({line["moved_to"] for line in lines}) == len(lines) == 104
    for line in lines:
        assert hashlib.sha256(Path(line["moved_to"]).read_bytes()).hexdigest() == line["sha256"]
        assert json.loads(Path(f"{line['moved_to']}.lark.json").read_text())["image_key"] == line["image_key"]


def test_the_same_picture_moved_again_is_one_outcome(moved: tuple[Daemon, list[str]]) -> None:
    """No row is added for what is the same at the same place."""
    daemon, known = moved
    daemon.drop("snapshot.png", picture(2))
    assert daemon.once().returncode == 0
    daemon.drop("snapshot.png", picture(2))
    assert daemon.once().returncode == 0
    keys = [row["image_key"] for row in ask(daemon, "keys")]
    assert set(keys) == set(known)
    assert len(keys) <= 4


def test_a_link_as_move_to(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Both its names list what was moved there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "done").symlink_to(tmp_path / "real")
    watch = {"path": tmp_path / "inbox", "after_upload": "move", "move_to": tmp_path / "done"}
    daemon = make_daemon(watch=[watch])
    daemon.drop("a.png", picture(1))
    assert daemon.once().returncode == 0
    for folder in ("real", "done"):
        assert say(daemon, "keys", "--key-only", str(tmp_path / folder)) == f"{key(tmp_path / 'real' / 'a.png')}\n"


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


OLD = """
CREATE TABLE keys (
    host TEXT, app_id TEXT, api TEXT, image_type TEXT, sha256 TEXT,
    image_key TEXT NOT NULL, log_id TEXT NOT NULL, uploaded_at TEXT NOT NULL,
    PRIMARY KEY (host, app_id, api, image_type, sha256)
) WITHOUT ROWID;
CREATE TABLE files (
    path BLOB PRIMARY KEY, watch BLOB NOT NULL, status TEXT NOT NULL, at TEXT NOT NULL, image_key TEXT NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, reused INTEGER NOT NULL, error TEXT, place BLOB
) WITHOUT ROWID;
CREATE TABLE uploads (day TEXT PRIMARY KEY, made INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO files VALUES
    (x'2f612f6f6e652e706e67', x'2f61', 'uploaded', '2026-11-01T00:00:00.000Z', 'k1', 's1', 1, 0, NULL, NULL),
    (x'2f612f74776f2e706e67', x'2f61', 'uploaded', '2026-11-02T00:00:00.000Z', 'k2', 's2', 1, 0, NULL,
     x'2f622f74776f2e706e67'),
    (x'2f612f62616428', x'2f61', 'rejected', '2026-11-03T00:00:00.000Z', '', 's3', 1, 0, 'no picture', NULL);
INSERT INTO keys VALUES ('h', 'a', 'image/v4', 'message', 's1', 'k1', '', '2026-11-01T00:00:00.000Z');
INSERT INTO uploads VALUES ('2026-11-01', 2);
"""


def found(place: Path) -> list[tuple[str, str | None, str | None]]:
    """What the commands find in a key cache's file."""
    with Index(place) as index:
        assert index.uploaded() == {"/a": 2}
        assert index.uploads_since("2026-11") == 2
        two = index.file("/b/two.png")
        assert two
        assert two.path == "/a/two.png"
        return [(file.path, file.place, file.error) for file in index.files()]


def test_a_file_of_the_first_schema(tmp_path: Path) -> None:
    """Read as it is while an older larkdrop still writes it; migrated whole, once, when a new one opens it."""
    place = tmp_path / "keys.sqlite3"
    with closing(sqlite3.connect(place)) as db:
        db.executescript(OLD)
    before = found(place)
    assert [path for path, _, _ in before] == ["/a/one.png", "/a/two.png", "/a/bad("]
    for _ in range(2):
        with KeyCache(place):
            assert found(place) == before
    assert not list(tmp_path.glob("*.damaged-*"))
    with closing(sqlite3.connect(place)) as db:  # an older larkdrop was put back for a while
        db.executescript(OLD[OLD.index("CREATE TABLE files") : OLD.index("CREATE TABLE uploads")])
        db.execute("INSERT INTO files SELECT x'2f612f6e6577', watch, status, '2026-12', 'k9', 's9', 1, 0, NULL, NULL "
                   "FROM outcomes LIMIT 1")  # fmt: skip
        db.commit()
    with KeyCache(place), Index(place) as index:
        assert [file.path for file in index.files()] == ["/a/one.png", "/a/two.png", "/a/bad(", "/a/new"]


def test_rejected_files_are_listed(make_daemon: MakeDaemon) -> None:
    """With their reasons; JSON too; exit 1 only where asked for."""
    daemon = make_daemon()
    assert "No file was rejected." in say(daemon, "status", "--rejected", "--strict")
    note, big = daemon.drop("note.txt", b"words"), daemon.drop("big.png", picture(1, size=(13_000, 10)))
    daemon.once()
    rows = {row["path"]: row["reason"] for row in ask(daemon, "status", "--rejected")}
    assert set(rows) == {str(note), str(big)}
    text = say(daemon, "status", "--rejected", "--strict", code=1)
    assert all(f"{path}: {reason}\n" in text for path, reason in rows.items())
    note.unlink()
    assert [row["path"] for row in ask(daemon, "status", "--rejected")] == [str(big)]


@needs_setpriv
def test_explain_without_a_path(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """What needs attention: what holds everything, what can't be read, waits for its next try, or was rejected."""
    daemon = make_daemon(upload={"backoff_initial": 60, "backoff_max": 60, "settle_seconds": 0.1})
    assert say(daemon, "explain") == "Nothing needs attention.\n"
    daemon.prefix = POWERLESS
    with daemon:
        wait_for_sidecar(daemon.drop("good.png", picture(1)))
        wait_for_sidecar(note := daemon.drop("note.txt", b"words"))
        private = daemon.inbox / "private.png"
        hidden = daemon.home / "private.png"
        hidden.write_bytes(picture(2))
        hidden.chmod(0o600)
        os.chown(hidden, NOBODY, NOBODY)
        hidden.rename(private)
        lark.faults.internal = 1.0
        failing = daemon.drop("failing.png", picture(3))
        wanted = {str(note): "rejected", str(private): "unreadable", str(failing): "backoff"}
        daemon.prefix = ()
        answers = wait_until(lambda: (a := ask(daemon, "explain")) and len(a) == 4 and a, what="all four")
        assert {answer["path"]: answer["state"] for answer in answers if answer["path"]} == wanted
        assert next(answer for answer in answers if not answer["path"])["says"].startswith("larkdrop can't read ")
        unreadable = next(answer for answer in answers if answer["path"] == str(private))
        assert unreadable["says"] == "larkdrop, as the user root, can't read it: Permission denied."
        assert unreadable["hint"] == "Let root read it; every rescan tries again."
        (answer,) = ask(daemon, "retry", str(private), code=1)
        assert (answer["state"], "can't read it" in answer["says"]) == ("unreadable", True)
        lark.faults.internal, lark.faults.bot_off = 0.0, True
        daemon.drop("held.png", picture(4))
        wait_until(lambda: ask(daemon, "status", code=None)["held"], what="the gate")
        first = ask(daemon, "explain")[0]
        assert (first["path"], first["says"].startswith("larkdrop is held: ")) == ("", True)


@needs_setpriv
def test_who_asks_can_not_read(make_daemon: MakeDaemon) -> None:
    """Without a running larkdrop it is the asker who can't; the folder to be opened is named, also above the inbox."""
    daemon = make_daemon()
    path = daemon.drop("a.png", picture())
    daemon.prefix = POWERLESS
    for closed, barrier in ((path, "let root read it"), (daemon.inbox, f"let root enter {daemon.inbox}")):
        mode = closed.stat().st_mode
        closed.chmod(0o600 if closed == path else 0o700)
        os.chown(closed, NOBODY, NOBODY)
        answer = explained(daemon, path)
        assert (answer["state"], barrier in answer["hint"]) == ("unreadable", True)
        assert "This command, as the user root, can't read it" in answer["says"]
        os.chown(closed, 0, 0)
        closed.chmod(mode)


def test_folders(lark: Sandbox, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Explain counts what is in a folder and explains what needs attention there; retry takes that again."""
    daemon = make_daemon(upload={"backoff_initial": 60, "backoff_max": 60, "settle_seconds": 0.1})
    for name in ("sub", "other", ".hidden"):
        (daemon.inbox / name).mkdir()
    with daemon:
        for name in ("sub/a.png", "other/b.png"):
            wait_for_sidecar(daemon.drop(name, picture(len(name))))
        notes = [daemon.drop(f"{name}/note.txt", name.encode()) for name in ("sub", "other")]
        before = [wait_for_sidecar(note) for note in notes]
        folder, rejected = ask(daemon, "explain", str(daemon.inbox / "sub"))
        assert folder["says"] == "It is in a watched folder: 1 uploaded, 1 rejected, 0 without an outcome yet."
        assert (rejected["path"], rejected["state"]) == (str(notes[0]), "rejected")
        assert len(ask(daemon, "explain", str(daemon.inbox))) == 3
        assert "pattern '.*'" in explained(daemon, daemon.inbox / ".hidden")["says"]
        assert explained(daemon, daemon.home / "state")["state"] == "outside"
        (answer,) = ask(daemon, "retry", str(daemon.inbox / "sub"))
        assert answer["says"] == "It was rejected; it is tried again now."
        wait_until(lambda: sidecar_of(notes[0]) not in (None, before[0]), what="a second rejection")
        assert sidecar_of(notes[1]) == before[1]
        lark.faults.internal = 1.0
        failing = daemon.drop("sub/failing.png", picture(3))
        wait_until(lambda: explained(daemon, failing)["state"] == "backoff", what="a failure")
        lark.faults.internal = 0.0
        says = {one["path"]: one["says"] for one in ask(daemon, "retry", str(daemon.inbox / "sub"))}
        assert says[str(failing)] == "It is tried again now."
        wait_for_sidecar(failing)
        (daemon.inbox / "empty").mkdir()
        (answer,) = ask(daemon, "retry", str(daemon.inbox / "empty"))
        assert answer["says"] == "Nothing in it was rejected or waits for its next try."
        daemon.signal(signal.SIGTERM)


def test_links_to_a_watched_folder(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Every command takes the link for the folder, and what lies behind it for what lies in the folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    daemon = make_daemon(watch=[{"path": tmp_path / "link"}])
    (tmp_path / "real" / "a.png").write_bytes(picture())
    (tmp_path / "real" / "note.txt").write_bytes(b"words")
    daemon.once()
    known = key(tmp_path / "real" / "a.png")
    for name in ("link", "real"):
        for what in (tmp_path / name, tmp_path / name / "a.png"):
            assert say(daemon, "keys", "--key-only", str(what)) == f"{known}\n"
        assert "1 uploaded, 1 rejected" in ask(daemon, "explain", str(tmp_path / name))[0]["says"]
        assert explained(daemon, tmp_path / name / "a.png")["state"] == "uploaded"
    assert ask(daemon, "retry", str(tmp_path / "link"))[0]["path"] == str(tmp_path / "real" / "note.txt")


def test_questions_that_exclude_themselves(make_daemon: MakeDaemon) -> None:
    """Said at once, as wrong usage."""
    daemon = make_daemon()
    for words in (("--csv", "--json"), ("--csv", "--key-only"), ("--json", "--key-only")):
        assert "exclude each other" in say(daemon, "keys", *words, code=2)
    assert "nothing can lie between them" in say(daemon, "keys", "--since", "1h", "--until", "2h", code=2)
    assert "is not after --since" in say(daemon, "keys", "--since", "2026-02-02", "--until", "2026-02-01", code=2)
    assert "no key is known" in say(daemon, "keys", "--since", "2h", "--until", "1h", code=1)


def test_a_mistyped_command(make_daemon: MakeDaemon) -> None:
    """The nearest one is named."""
    daemon = make_daemon()
    assert "Did you mean status?" in say(daemon, "statsu", code=2)
    assert "Did you mean" not in say(daemon, "frobnicate", code=2)


def test_a_pipe_is_not_wrapped(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """However long a path is, it stands in one line, and no line ends in blanks."""
    inbox = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 5)
    inbox.mkdir(parents=True)
    daemon = make_daemon(watch=[{"path": inbox}])
    (inbox / "note.txt").write_bytes(b"words")
    daemon.once()
    text = say(daemon, "status")
    lines = text.splitlines()
    assert any(line.startswith(f"{inbox} ") for line in lines)
    assert any(line.startswith(f"rejected  {inbox}/note.txt: ") for line in lines)
    assert all(line == line.rstrip() for line in lines)
