"""Moved and deleted pictures stay findable: in keys, explain, the gallery and the result log."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from larkdrop.folder import after_upload, sidecar
from larkdrop.folder.picture import Changed, Stamp
from larkdrop.records.sidecar_fields import Record
from tests.asking import ask, explained, key, say
from tests.helpers import Daemon, picture, sidecar_of

MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def moved(make_daemon: MakeDaemon, tmp_path: Path) -> tuple[Daemon, list[str]]:
    """Three different pictures dropped as ``snapshot.png``, one after the other, and moved; their keys in order."""
    watch = {"path": tmp_path / "inbox", "after_upload": "move", "move_to": tmp_path / "done"}
    daemon = make_daemon(watch=[watch])
    for number in range(3):
        daemon.drop("snapshot.png", picture(number))
        assert daemon.once().returncode == 0
    return daemon, [key(tmp_path / "done" / name) for name in ("snapshot.png", "snapshot.1.png", "snapshot.2.png")]


def test_what_became_of_moved_and_deleted_pictures(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Explain says where a picture went, keys knows it under both names, and the gallery still shows it."""
    daemon = make_daemon()
    kept, gone = (daemon.home / name for name in ("moving", "deleting"))
    kept.mkdir()
    gone.mkdir()
    watch = [
        {"path": kept, "after_upload": "move", "move_to": tmp_path / "done"},
        {"path": gone, "after_upload": "delete"},
    ]
    daemon = make_daemon(watch=watch)
    (kept / "a.png").write_bytes(picture(1))
    (gone / "b.png").write_bytes(picture(2))
    (kept / "as b.png").write_bytes(picture(2))
    assert daemon.once().returncode == 0
    assert explained(daemon, kept / "as b.png")["same_as"] == [], "a deleted picture is nowhere"
    moved = tmp_path / "done" / "a.png"
    assert f"It was moved to {moved}" in explained(daemon, kept / "a.png")["says"]
    assert "It was deleted" in explained(daemon, gone / "b.png")["says"]
    assert explained(daemon, moved)["state"] == "uploaded"
    assert say(daemon, "keys", "--key-only", str(kept / "a.png"), str(moved)) == f"{key(moved)}\n" * 2
    assert explained(daemon, gone / "b.png")["image_key"] == say(daemon, "keys", "--key-only", "b.png").strip()
    say(daemon, "gallery", "--output", str(tmp_path / "gallery.html"))
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("data:image/webp;base64,") == 2


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


def test_a_place_that_another_picture_will_have(moved: tuple[Daemon, list[str]], tmp_path: Path) -> None:
    """What arrived there is taken for the picture itself, but for as long as it is not another one's place."""
    done = tmp_path / "done"
    folder = os.open(done, os.O_RDONLY)
    try:
        record = sidecar.read(folder, "snapshot.2.png")
    finally:
        os.close(folder)
    assert record
    last = done / "snapshot.2.png"
    assert after_upload.place_for(done, "snapshot.png", record, ()) == last
    assert after_upload.place_for(done, "snapshot.png", record, {str(last)}) == done / "snapshot.3.png"


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


def test_the_same_picture_as_message_and_as_avatar(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Moved to the same folder, under the same name and with the same mtime: each key stands beside a picture."""
    done = tmp_path / "done"
    kinds = {"message": tmp_path / "inbox", "avatar": tmp_path / "faces"}
    for folder in kinds.values():
        folder.mkdir(exist_ok=True)
    moving = {"after_upload": "move", "move_to": done}
    daemon = make_daemon(watch=[{"path": folder, "image_type": kind, **moving} for kind, folder in kinds.items()])
    for folder in kinds.values():
        (folder / "photo.png").write_bytes(picture(1))
        os.utime(folder / "photo.png", (1_700_000_000, 1_700_000_000))
        assert daemon.once().returncode == 0
    beside = [sidecar_of(done / name) for name in ("photo.png", "photo.1.png")]
    assert all(beside)
    assert {one["image_type"] for one in beside if one} == set(kinds)
    assert {one["image_key"] for one in beside if one} == {line["image_key"] for line in daemon.results()}


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


def test_a_picture_that_was_edited_where_it_went_is_another_one(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """With its size kept, as some formats have it: the original, dropped again, goes beside it and is not lost."""
    done = tmp_path / "done"
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "after_upload": "move", "move_to": done}])
    daemon.drop("a.bmp", picture(1, "BMP"))
    assert daemon.once().returncode == 0
    edited = picture(2, "BMP")
    assert len(edited) == len(picture(1, "BMP"))
    (done / "a.bmp").write_bytes(edited)
    daemon.drop("a.bmp", picture(1, "BMP"))
    assert daemon.once().returncode == 0
    assert (done / "a.bmp").read_bytes() == edited
    assert (done / "a.1.bmp").read_bytes() == picture(1, "BMP")


def test_a_picture_that_is_replaced_while_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a rename, just before the move: the new one stays where it is, and nothing with the old record arrives."""
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "inbox" / "a.png"
    path.write_bytes(picture(1))
    new = picture(2, noise=50)
    size, mtime = path.stat().st_size, path.stat().st_mtime_ns
    record = Record(
        "uploaded", "a.png", "message", "im/v1", "x", "0", size, mtime, "PNG", 1, 1, "", 1, reused=False, log_id="",
    )  # fmt: skip
    link = after_upload._link_or_copy

    def replace_first(*words: Any) -> None:
        (tmp_path / "new.png").write_bytes(new)
        (tmp_path / "new.png").rename(path)
        link(*words)

    monkeypatch.setattr(after_upload, "_link_or_copy", replace_first)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with pytest.raises(Changed):
            after_upload.arrive(folder, "a.png", Stamp.of(path.stat()), tmp_path / "done" / "a.png", record)
    finally:
        os.close(folder)
    assert path.read_bytes() == new
    assert os.listdir(tmp_path / "done") == []
