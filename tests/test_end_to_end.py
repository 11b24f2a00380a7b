"""From drop to key: the real process, real inotify and real HTTP to the sandbox."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from PIL import Image

from larkdrop.folder.sidecar import name_for
from larkdrop.sandbox.server import Sandbox
from tests.helpers import FORMATS, Daemon, file_name, picture, sidecar_of, wait_for_sidecar, wait_until

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def download(lark: Sandbox, key: str) -> bytes:
    """The bytes that Lark gives for a key."""
    credentials = {"app_id": lark.app_id, "app_secret": lark.app_secret}
    token = requests.post(f"{lark.url}/open-apis/auth/v3/tenant_access_token/internal", json=credentials, timeout=5)
    headers = {"Authorization": f"Bearer {token.json()['tenant_access_token']}"}
    return requests.get(f"{lark.url}/open-apis/im/v1/images/{key}", headers=headers, timeout=5).content


@pytest.mark.parametrize("api", ["image/v4", "im/v1"])
@pytest.mark.parametrize("image_type", ["message", "avatar"])
def test_every_format_gets_its_key_its_sidecar_and_its_line(
    tmp_path: Path, lark: Sandbox, make_daemon: Callable[..., Daemon], api: str, image_type: str
) -> None:
    """Each format is uploaded as it is; sidecar and log hold the contract's fields."""
    watch = [{"path": tmp_path / "inbox", "image_type": image_type}]
    with make_daemon(lark={"base_url": lark.url, "app_id": lark.app_id, "app_secret": lark.app_secret, "api": api},
                     watch=watch) as daemon:  # fmt: skip
        for number, form in enumerate(FORMATS):
            content = picture(number, form)
            path = daemon.drop(file_name(form), content)
            beside = wait_for_sidecar(path)
            upload = next(made for made in lark.uploads if made.image_key == beside["image_key"])
            assert (upload.sha256, upload.image_type, upload.api) == (beside["sha256"], image_type, api)
            if image_type == "message":
                assert download(lark, beside["image_key"]) == content
            side = (32, 24) if form == "ICO" else (64, 48)
            assert RFC3339.fullmatch(beside.pop("uploaded_at"))
            assert re.fullmatch(r"\d{14}[0-9A-F]{20}", beside.pop("log_id"))
            assert beside == {
                "schema": 1, "status": "uploaded", "file": path.name, "image_key": upload.image_key,
                "image_type": image_type, "api": api, "app_id": lark.app_id,
                "sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
                "mtime_ns": path.stat().st_mtime_ns, "format": form, "width": side[0], "height": side[1],
                "attempts": 1, "reused": False,
            }  # fmt: skip
            line = daemon.results()[-1]
            assert (line["event"], line["path"]) == ("uploaded", str(path))
            assert RFC3339.fullmatch(line["timestamp"])
            assert {name: line[name] for name in beside} == beside
        assert lark.calls["upload"] == len(FORMATS)


def test_its_own_sidecars_are_no_work(make_daemon: Callable[..., Daemon]) -> None:
    """Each picture is taken once; the kernel tells of a sidecar by a name that no file has."""
    with make_daemon() as daemon:
        for number in range(3):
            wait_for_sidecar(daemon.drop(f"{number}.png", picture(number)))
        assert len(daemon.events("uploaded")) == 3
        assert not daemon.events("gone")
        named = daemon.drop("#1234", picture(4))
        assert wait_for_sidecar(named)["status"] == "uploaded"


def test_what_was_there_before_the_start_is_found(make_daemon: Callable[..., Daemon]) -> None:
    """The folder is the queue: files and sub-folders from before the start are work."""
    daemon = make_daemon()
    (daemon.inbox / "a" / "b").mkdir(parents=True)
    before = [daemon.drop("one.png", picture(1)), daemon.drop("a/b/two.png", picture(2))]
    with daemon:
        for path in before:
            assert wait_for_sidecar(path)["status"] == "uploaded"


def test_non_recursive_leaves_subfolders_alone(tmp_path: Path, make_daemon: Callable[..., Daemon]) -> None:
    """With recursive = false only the folder itself is watched and scanned."""
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "recursive": False}])
    (daemon.inbox / "sub").mkdir()
    inner = daemon.drop("sub/inner.png", picture(1))
    with daemon:
        daemon.drop("sub/later.png", picture(2))
        assert wait_for_sidecar(daemon.drop("outer.png", picture(3)))
        assert daemon.stop() == 0
    assert sidecar_of(inner) is None
    assert [Path(line["path"]).name for line in daemon.results()] == ["outer.png"]


def test_patterns_and_ignore(tmp_path: Path, make_daemon: Callable[..., Daemon]) -> None:
    """Names that the set-up leaves alone get no answer, whatever their case."""
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "patterns": ["*.PNG"], "ignore": ["draft-*", ".*"]}])
    for name in ("draft-1.png", "note.jpg", ".hidden.png", ".git/x.png", "draft-2/x.png", "Good.png"):
        (daemon.inbox / name).parent.mkdir(exist_ok=True)
        daemon.drop(name, picture(4))
    assert daemon.once().returncode == 0
    assert [Path(line["path"]).name for line in daemon.results()] == ["Good.png"]


def avif() -> bytes:
    """A picture as AVIF."""
    out = io.BytesIO()
    Image.effect_noise((40, 33), 60).save(out, "AVIF")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("empty.png", b"", 234010, "empty"),
        ("large.jpg", picture(1, "JPEG") + b"\0" * (10 * 1024 * 1024), 234006, "at most 10,485,760"),
        ("notes.png", b"just words", 234011, "not a supported image format"),
        ("wide.png", picture(1, "PNG", (12001, 1)), 234039, "12001 × 1"),
        ("wide.gif", picture(1, "GIF", (2001, 1)), 234039, "2000 × 2000"),
        ("photo.avif", avif(), 234011, "not a supported image format (AVIF)"),
        ("logo.svg", b"<?xml version='1.0'?>\n<svg/>", 234011, "not a supported image format (SVG)"),
        ("DSC_1.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(99), 234011, "not a supported image format (camera raw)"),
    ],
)
def test_what_lark_would_refuse_is_rejected_without_a_call(
    lark: Sandbox, make_daemon: Callable[..., Daemon], name: str, content: bytes, code: int, words: str
) -> None:
    """The platform's own code, a sentence, and no call."""
    with make_daemon() as daemon:
        path = daemon.drop(name, content)
        beside = wait_for_sidecar(path)
        assert beside["status"] == "rejected"
        assert beside["error"]["code"] == code
        assert words in beside["error"]["message"]
        assert beside["error"]["hint"]
        assert beside["sha256"] == hashlib.sha256(content).hexdigest()
        assert RFC3339.fullmatch(beside["rejected_at"])
        assert "image_key" not in beside
        assert daemon.results()[-1]["event"] == "rejected"
        assert lark.calls["upload"] == 0


def test_an_avatar_has_a_limit_of_its_own(lark: Sandbox, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """4096 pixels a side, known before a call; the same picture goes as a message image."""
    (tmp_path / "faces").mkdir()
    watch = [{"path": tmp_path / "inbox"}, {"path": tmp_path / "faces", "image_type": "avatar"}]
    content = picture(1, "PNG", (4097, 1))
    with make_daemon(watch=watch) as daemon:
        face = daemon.home / "faces" / "me.png"
        face.write_bytes(content)
        error = wait_for_sidecar(face)["error"]
        assert (error["code"], "avatars up to 4096 × 4096" in error["message"]) == (234039, True)
        face.with_name("me.gif").write_bytes(picture(1, "GIF", (2001, 1)))
        assert "Lark takes GIF up to 2000 × 2000" in wait_for_sidecar(face.with_name("me.gif"))["error"]["message"]
        assert lark.calls["upload"] == 0
        assert wait_for_sidecar(daemon.drop("me.png", content))["status"] == "uploaded"


def test_a_heic_goes_at_once_and_a_cut_one_waits(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Like a JPEG: settling would take an hour here. What is cut is not sent before it is whole."""
    content = picture(1, "HEIC", noise=30_000)
    with make_daemon(upload={"settle_seconds": 3600}) as daemon:
        beside = wait_for_sidecar(daemon.drop("IMG_1.HEIC", content))
        assert (beside["status"], beside["format"]) == ("uploaded", "HEIC")
        assert download(lark, beside["image_key"]) == content
        cut = daemon.drop("IMG_2.HEIC", picture(2, "HEIC", noise=30_000)[:-100])
        wait_until(lambda: [event for event in daemon.events("settling") if event["path"] == str(cut)])
        assert lark.calls["upload"] == 1
        cut.write_bytes(picture(2, "HEIC", noise=30_000))
        assert wait_for_sidecar(cut)["status"] == "uploaded"


def test_a_heic_on_a_platform_that_takes_none(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Asked once; the reason is the platform's, and says what to do."""
    lark.edition = "lark"
    with make_daemon() as daemon:
        path = daemon.drop("IMG_1.HEIC", picture(1, "HEIC"))
        beside = wait_for_sidecar(path)
        assert (beside["status"], beside["format"], beside["attempts"]) == ("rejected", "HEIC", 1)
        assert beside["error"] == {
            "code": 234011,
            "message": "this platform does not take HEIC",
            "hint": "Save it as JPEG and drop it again.",
        }
        assert beside["log_id"]
        assert wait_for_sidecar(daemon.drop("a.png", picture(2)))["status"] == "uploaded"


def test_a_rejected_file_is_taken_once_it_changes(make_daemon: Callable[..., Daemon]) -> None:
    """A rejection lasts until the file changes."""
    with make_daemon() as daemon:
        path = daemon.drop("slow.png", b"not yet")
        assert wait_for_sidecar(path)["status"] == "rejected"
        path.write_bytes(picture(5))
        wait_until(lambda: (sidecar_of(path) or {})["status"] == "uploaded")


def test_known_content_needs_no_call(tmp_path: Path, lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Another name, another folder, another day: the key is reused."""
    (tmp_path / "other").mkdir()
    watches = [{"path": tmp_path / "inbox"}, {"path": tmp_path / "other"}]
    with make_daemon(watch=watches) as daemon:
        first = wait_for_sidecar(daemon.drop("first.png", picture(6)))
        again = daemon.drop("again.png", picture(6))
        assert wait_for_sidecar(again)["image_key"] == first["image_key"]
        assert daemon.stop() == 0
        daemon.start()
        other = tmp_path / "other" / "later.png"
        other.write_bytes(picture(6))
        beside = wait_for_sidecar(other)
        assert (beside["image_key"], beside["reused"], beside["attempts"]) == (first["image_key"], True, 0)
        assert daemon.results()[-1]["event"] == "reused"
        assert lark.calls["upload"] == 1


def test_the_same_content_dropped_twice_at_once_goes_once(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Two workers never upload the same bytes at the same time."""
    lark.faults.delay = 0.3
    with make_daemon() as daemon:
        paths = [daemon.drop(f"twin-{n}.png", picture(7)) for n in range(6)]
        keys = {wait_for_sidecar(path)["image_key"] for path in paths}
        assert len(keys) == 1
        assert lark.calls["upload"] == 1


def test_many_files_of_one_content_do_not_wait_for_each_other(
    lark: Sandbox, make_daemon: Callable[..., Daemon]
) -> None:
    """Once the key is known it serves them all; a picture a round of the recorder would take many minutes."""
    daemon = make_daemon(upload={"settle_seconds": 0})
    content = picture(7)
    paths = [daemon.drop(f"copy-{n}.png", content) for n in range(3_000)]
    assert daemon.once("--quiet").returncode == 0
    assert len({wait_for_sidecar(path)["image_key"] for path in paths}) == 1
    assert lark.calls["upload"] == 1


def test_dedupe_can_be_switched_off(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """With dedupe = false every file gets a key of its own."""
    with make_daemon(upload={"dedupe": False}) as daemon:
        keys = {wait_for_sidecar(daemon.drop(f"{n}.png", picture(8)))["image_key"] for n in range(3)}
        assert len(keys) == 3


NAMES = [
    "截图 2026-11-23.png", "🦜🌊.png", "it's \"quoted\".png", "two\nlines.png", " .png ", "-rf.png", "ａ" * 83 + ".png",
    "x" * 251 + ".png", "é" * 125 + ".webp", os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"\xff" * 251 + b".png"),
]  # fmt: skip


def test_names_as_people_have_them(make_daemon: Callable[..., Daemon]) -> None:
    """Each gets its upload, its sidecar and its line; the name comes back from both, whatever its bytes."""
    with make_daemon() as daemon:
        for number, name in enumerate(NAMES):
            path = daemon.drop(name, picture(100 + number))
            beside = wait_for_sidecar(path)
            assert os.fsencode(beside["file"]) == os.fsencode(name)
            assert len(os.fsencode(name_for(name))) <= 255
            line = daemon.results()[-1]
            assert os.fsencode(line["path"]) == os.fsencode(path)
    assert all(byte < 128 for byte in (daemon.state / "results.jsonl").read_bytes())


def test_once_drains_and_exits(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """--once does what is there; 0, or 1 where something was rejected."""
    daemon = make_daemon()
    for number in range(20):
        daemon.drop(f"{number}.png", picture(200 + number))
    assert daemon.once().returncode == 0
    assert len(daemon.results()) == 20
    daemon.drop("bad.png", b"no picture")
    assert daemon.once().returncode == 1
    assert daemon.once().returncode == 0
    assert lark.calls["upload"] == 20


def test_a_fixed_token_needs_no_app(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """tenant_access_token alone is enough; no token is asked for."""
    credentials = {"app_id": lark.app_id, "app_secret": lark.app_secret}
    url = f"{lark.url}/open-apis/auth/v3/tenant_access_token/internal"
    token = requests.post(url, json=credentials, timeout=5).json()["tenant_access_token"]
    daemon = make_daemon()
    text = daemon.config.read_text().splitlines()
    lines = [f'lark = {{base_url = "{lark.url}", tenant_access_token = "{token}"}}', *text[1:]]
    daemon.config.write_text("\n".join(lines))
    daemon.drop("a.png", picture(1))
    assert daemon.once().returncode == 0
    assert lark.calls["token"] == 1


def test_stop_with_work_in_flight_leaves_nothing_half_written(
    lark: Sandbox, make_daemon: Callable[..., Daemon]
) -> None:
    """SIGTERM: what is in flight is finished, the rest stays work, exit 0."""
    lark.faults.delay = 0.5
    with make_daemon(lark={"base_url": lark.url, "requests_per_second": 1000}) as daemon:
        paths = [daemon.drop(f"{number}.png", picture(300 + number)) for number in range(60)]
        wait_until(lambda: lark.calls["upload"] >= 8)
        assert daemon.stop() == 0
        finished = [path for path in paths if sidecar_of(path)]
        assert len(finished) == len(lark.uploads) == len(daemon.results()) < 60
        assert not [name for name in os.listdir(daemon.inbox) if name.endswith(".tmp")]
        lark.faults.delay = 0.0
        daemon.start()
        for path in paths:
            wait_for_sidecar(path)
        assert len(lark.uploads) == 60


def test_a_stop_is_seen_while_everything_waits(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Lark is down, pictures are in backoff: SIGTERM and SIGINT still end it at once."""
    lark.faults.down = True
    for number in (signal.SIGTERM, signal.SIGINT):
        with make_daemon() as daemon:
            daemon.drop(f"{number}.png", picture(number))
            wait_until(lambda: lark.calls["upload"] + lark.calls["token"] > 1)
            daemon.signal(number)
            assert daemon.process
            assert daemon.process.wait(5) == 0


def test_it_goes_on_after_it_was_suspended(make_daemon: Callable[..., Daemon]) -> None:
    """Ctrl-Z and fg, a laptop's sleep, a debugger: longer than any wait of the main thread's."""
    with make_daemon() as daemon:
        wait_for_sidecar(daemon.drop("before.png", picture(1)))
        daemon.signal(signal.SIGSTOP)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 3)
        daemon.signal(signal.SIGCONT)
        wait_for_sidecar(daemon.drop("after.png", picture(2)))
        began = time.monotonic()
        wait_until(lambda: daemon.process_ended() or time.monotonic() - began > 3)
        assert not daemon.events("reload"), "no signal is made up"
        assert daemon.stop() == 0


def test_a_second_daemon_on_the_same_state_exits_75(make_daemon: Callable[..., Daemon]) -> None:
    """One larkdrop a state folder, and the message names the holder."""
    with make_daemon() as daemon:
        second = daemon.once()
        assert second.returncode == 75
        assert daemon.process
        assert str(daemon.process.pid) in second.stderr
        assert "Traceback" not in second.stderr


def test_a_file_that_cannot_be_read_is_said_once(make_daemon: Callable[..., Daemon]) -> None:
    """A dangling name, a folder with a picture's name and a link: no answer, no trouble."""
    with make_daemon() as daemon:
        (daemon.inbox / "folder.png").mkdir()
        (daemon.inbox / "link.png").symlink_to("/etc/passwd")
        gone = daemon.drop("gone.png", picture(9))
        gone.unlink()
        assert wait_for_sidecar(daemon.drop("good.png", picture(10)))
        assert sidecar_of(daemon.inbox / "link.png") is None
        assert [event for event in daemon.events() if event["level"] in {"warning", "error"}] == []


def test_the_daemons_log_is_json_lines(make_daemon: Callable[..., Daemon]) -> None:
    """Everything the daemon says on a pipe is JSON."""
    with make_daemon() as daemon:
        wait_for_sidecar(daemon.drop("a.png", picture(11)))
        assert daemon.stop() == 0
    for line in daemon.stderr.read_text().splitlines():
        assert json.loads(line)["event"]


def test_nobody_reads_what_it_logs(lark: Sandbox, make_daemon: Callable[..., Daemon]) -> None:
    """Standard error is a pipe whose reader ended: every picture is uploaded and recorded, and it stops in peace."""
    daemon = make_daemon()
    reader, writer = os.pipe()
    with subprocess.Popen(daemon.command("run"), stderr=writer) as process:
        os.close(writer)
        os.close(reader)
        try:
            for number in range(8):
                assert wait_for_sidecar(daemon.drop(f"{number}.png", picture(number)))["image_key"]
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert len(lark.uploads) == 8
