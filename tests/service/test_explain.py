"""``explain`` says of every file and folder why it is or isn't uploaded, also of what can't be read."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.asking import ask, explained, key, say
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]


NOBODY = 65534


POWERLESS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")


needs_setpriv = pytest.mark.needs("root", "setpriv")


def test_explain_what_is_done(done: Daemon, tmp_path: Path) -> None:
    """Uploaded with which key, the same content as which other path, rejected why, ignored by what, not watched."""
    one, twin = done.inbox / "one.png", done.inbox / "twin.png"
    answer = explained(done, twin)
    assert (answer["state"], answer["image_key"], answer["same_as"]) == ("uploaded", key(one), [str(one)])
    answer = explained(done, done.inbox / "note.txt")
    assert (answer["state"], "not a supported image format" in answer["says"], "Save it as" in answer["hint"]) == (
        "rejected",
        True,
        True,
    )
    assert "'.*'" in explained(done, done.inbox / ".hidden.png")["says"]
    assert "It is a sidecar" in explained(done, done.inbox / "one.png.lark.json")["says"]
    assert "'*.part'" in explained(done, done.inbox / "x.part")["says"]
    assert explained(done, tmp_path / "elsewhere.png")["state"] == "outside"
    assert explained(done, done.inbox / "nothing.png")["state"] == "missing"
    one.unlink()
    assert explained(done, one)["state"] == "uploaded"
    twin.write_bytes(picture(9))
    assert "It changed" in explained(done, twin)["says"]
    text = say(done, "explain", "two.png", "note.txt", cwd=done.inbox)
    assert text.startswith(f"{done.inbox}/two.png: It was uploaded at ")
    assert "\n  → Save it as" in text


def test_explain_a_sidecar_that_is_gone_or_has_no_place(done: Daemon) -> None:
    """Uploaded all the same."""
    one, two = done.inbox / "one.png", done.inbox / "two.png"
    known = key(one)
    one.with_name("one.png.lark.json").unlink()
    two.with_name("two.png.lark.json").write_text("mine")
    answer = explained(done, one)
    assert (answer["state"], answer["image_key"]) == ("uploaded", known)
    assert "Its sidecar is missing" in answer["says"]
    assert "Another file has its sidecar's name" in explained(done, two)["says"]


def test_explain_what_is_under_way(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Being written, waiting behind others, in backoff after which error, held by the gate."""
    poisoned = picture(1)
    lark.poison.add(hashlib.sha256(poisoned).hexdigest())
    upload = {"backoff_initial": 3000, "backoff_max": 3000, "settle_seconds": 0.3}
    with make_daemon(lark={"requests_per_minute": 3}, upload=upload) as daemon:
        path = daemon.drop("poison.png", poisoned)
        answer = wait_until(lambda: (a := explained(daemon, path))["state"] == "backoff" and a, what="backoff")
        assert re.search(r"It failed (once|2 times in a row): Lark says: internal error \(code 5000", answer["says"])
        cut = daemon.drop("cut.png", picture(2)[:-12])
        answer = wait_until(lambda: (a := explained(daemon, cut))["state"] == "settling" and a, what="settling")
        assert "checks it again at" in answer["says"]
        paths = [daemon.drop(f"{n}.png", picture(10 + n)) for n in range(6)]
        answer = wait_until(
            lambda: next((a for path in paths if "waits behind" in (a := explained(daemon, path))["says"]), None)
        )
        assert answer["state"] == "waiting"
        assert re.search(
            r"for about \d+ (s|min): (3 calls a minute are used up|Lark takes 3 calls a minute)", answer["says"]
        )
        (remark,) = ask(daemon, "status")["remarks"]
        assert re.search(r"\d pictures wait for the rate limit, for about \d+ (s|min): ", remark)
        daemon.stop()
    lark.faults.bot_off = True
    with make_daemon() as daemon:
        answer = wait_until(
            lambda: next((a for path in paths if (a := explained(daemon, path))["state"] == "held"), None), what="held"
        )
        assert "Bot" in answer["hint"]


def test_explain_says_what_will_be_rejected(make_daemon: MakeDaemon) -> None:
    """Before any run, the same rules tell what will become of a file."""
    daemon = make_daemon()
    bad = daemon.drop("big.png", picture(1, size=(13_000, 10)))
    answer = explained(daemon, bad)
    assert (answer["state"], "will be rejected" in answer["says"]) == ("waiting", True)
    good = daemon.drop("good.png", picture(2))
    os.utime(good, (1, 1))
    assert explained(daemon, good)["state"] in {"waiting", "settling"}


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
def test_the_folder_to_be_opened_is_named_as_it_is_written(make_daemon: MakeDaemon) -> None:
    """Where larkdrop may not enter a folder, the hint names it with its capital letters."""
    daemon = make_daemon()
    album = daemon.inbox / "Album"
    album.mkdir(mode=0o700)
    os.chown(album, NOBODY, NOBODY)
    daemon.prefix = POWERLESS
    with daemon:
        daemon.prefix = ()
        (answer,) = ask(daemon, "explain", str(album / "a.png"))
        assert answer["hint"] == f"Let root enter {album}; every rescan tries again."
        inbox, inside = wait_until(lambda: (a := ask(daemon, "explain", str(daemon.inbox))) and len(a) == 2 and a)
        assert (inbox["path"], inbox["state"]) == (str(daemon.inbox), "folder")
        assert (inside["path"], inside["state"]) == (str(album), "unreadable")
        assert inside["says"] == "larkdrop, as the user root, can't list it: Permission denied."
    daemon.prefix = POWERLESS
    (answer,) = ask(daemon, "explain", str(daemon.inbox))
    assert (answer["path"], answer["state"]) == (str(album), "unreadable"), "without a daemon, who asks counts"


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


def test_a_folder_from_which_pictures_are_moved(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """What was rejected stays in it, and is counted once."""
    moving = {"path": tmp_path / "inbox", "after_upload": "move", "move_to": tmp_path / "done"}
    daemon = make_daemon(watch=[moving])
    daemon.drop("a.png", picture())
    daemon.drop("note.txt", b"words")
    daemon.once()
    folder, _ = ask(daemon, "explain", str(daemon.inbox))
    assert folder["says"] == "It is a watched folder: 1 uploaded, 1 rejected, 0 without an outcome yet."


def test_a_watched_folder_that_is_gone(make_daemon: MakeDaemon) -> None:
    """It is named as such, whatever is asked of it."""
    daemon = make_daemon()
    with daemon:
        daemon.inbox.rename(daemon.home / "away")
        for command in ("explain", "retry"):
            (answer,) = ask(daemon, command, str(daemon.inbox), code=None)
            assert (answer["state"], answer["says"]) == ("missing", "There is no such folder.")


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
