"""What people ask, on states made by real runs: status, explain, keys, retry."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]


def say(daemon: Daemon, *words: str, code: int | None = 0, cwd: Path | None = None) -> str:
    """What a command prints; it ends with ``code``, and never with a traceback."""
    done = subprocess.run(daemon.command(*words), capture_output=True, text=True, timeout=60, check=False, cwd=cwd)
    assert "Traceback" not in done.stderr
    assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def ask(daemon: Daemon, *words: str, code: int | None = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads(say(daemon, *words, "--json", code=code))


def explained(daemon: Daemon, path: Path) -> dict[str, Any]:
    """What ``explain`` says of one path."""
    (answer,) = ask(daemon, "explain", str(path))
    return dict(answer)


def on_terminal(*words: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    keeper, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    seen = b""
    while True:
        try:
            piece = os.read(keeper, 65_536)
        except OSError:  # the other side is closed
            break
        seen += piece
    os.close(keeper)
    process.wait()
    return seen.decode()


@pytest.fixture
def done(make_daemon: MakeDaemon) -> Daemon:
    """Three uploaded pictures, one of them in a sub-folder, a twin of one, and a rejected file; nothing runs."""
    daemon = make_daemon()
    (daemon.inbox / "sub").mkdir()
    for number, name in enumerate(("one.png", "two.png", "sub/three.png")):
        daemon.drop(name, picture(number))
    daemon.drop("twin.png", picture(0))
    daemon.drop("note.txt", b"no picture")
    assert daemon.once().returncode == 1
    return daemon


def key(path: Path) -> str:
    """The key that stands beside a picture."""
    record = sidecar_of(path)
    assert record
    return str(record["image_key"])


def test_status_of_a_daemon_that_does_not_run(done: Daemon) -> None:
    """What was done, from the key cache; what waits, by looking; exit 1 while something waits."""
    status = ask(done, "status")
    (folder,) = status["folders"]
    assert (folder["uploaded"], folder["rejected"], folder["waiting"], status["running"]) == (4, 1, 0, False)
    assert status["calls"] == {"today": 3, "month": 3, "quota": None}
    assert status["last_rejected"]["path"].endswith("note.txt")
    (done.inbox / "note.txt").unlink()
    assert ask(done, "status")["well"]
    done.drop("later.png", picture(7))
    assert ask(done, "status", code=1)["folders"][0]["waiting"] == 1
    text = say(done, "status", code=1)
    assert "larkdrop is not running\n✗ Start larkdrop: 1 picture waits." in text
    assert "3 today, 3 this month" in text


def test_status_says_what_a_person_has_to_do(done: Daemon) -> None:
    """A sentence each, such as of a folder that is gone; rejected files are remarks, and exit 1 only with --strict."""
    status = ask(done, "status")
    assert (status["well"], status["needs"]) == (True, [])
    assert status["remarks"] == ["1 file was rejected; `larkdrop status --rejected` says why."]
    assert not ask(done, "status", "--strict", code=1)["needs"]
    assert "! 1 file was rejected" in say(done, "status")
    done.inbox.rename(done.home / "elsewhere")
    status = ask(done, "status", code=1)
    assert status["folders"][0]["gone"]
    assert status["needs"] == [f"There is no folder {done.inbox}: create it, or correct its path in the config."]
    assert status["remarks"] == []


def test_status_of_a_running_daemon(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Since when it runs; held by what, since when, and what to do; exit 1 as long as somebody has to act."""
    with make_daemon(lark={"probe_seconds": 0.2}) as daemon:
        wait_for_sidecar(daemon.drop("a.png", picture()))
        status = ask(daemon, "status")
        assert daemon.process
        assert (status["running"], status["pid"], status["held"]) == (True, daemon.process.pid, None)
        assert status["finished"]["1_min"] == 1
        lark.faults.bot_off = True
        daemon.drop("b.png", picture(1))
        held = wait_until(lambda: ask(daemon, "status", code=None)["held"], what="the gate")
        assert (held["code"], held["person"]) == (234007, True)
        assert "Bot" in held["hint"]
        text = say(daemon, "status", code=1)
        assert text.startswith("✓ larkdrop is running, since ")
        assert "✗ larkdrop is held: " in text
        assert "held      since" in text
        assert "234007" in text
        lark.faults.bot_off = False
        wait_for_sidecar(daemon.inbox / "b.png")
        status = ask(daemon, "status")
        assert status["well"]
        assert status["last_error"]["code"] == 234007


@pytest.mark.parametrize(("words", "last"), [(["--json"], "}\n"), ([], "rejected  ")])
def test_status_refreshes(done: Daemon, words: list[str], last: str) -> None:
    """--watch goes on until it is ended; on a pipe it prints each time."""
    with subprocess.Popen(done.command("status", "--watch", *words), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            shown = 0
            while shown < 2:
                line = process.stdout.readline()
                assert line
                shown += line.startswith(last)
        finally:
            process.kill()


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
    assert daemon.once().returncode == 0
    moved = tmp_path / "done" / "a.png"
    assert f"It was moved to {moved}" in explained(daemon, kept / "a.png")["says"]
    assert "It was deleted" in explained(daemon, gone / "b.png")["says"]
    assert explained(daemon, moved)["state"] == "uploaded"
    assert say(daemon, "keys", "--key-only", str(kept / "a.png"), str(moved)) == f"{key(moved)}\n" * 2
    assert explained(daemon, gone / "b.png")["image_key"] == say(daemon, "keys", "--key-only", "b.png").strip()
    say(daemon, "gallery", "--output", str(tmp_path / "gallery.html"))
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("data:image/webp;base64,") == 1


def test_rejected_files_wait_for_nobody(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Also where pictures are moved: nothing is left to do once larkdrop has ended."""
    daemon = make_daemon(watch=[{"path": tmp_path / "inbox", "after_upload": "move", "move_to": tmp_path / "done"}])
    daemon.drop("bad.png", b"words")
    assert daemon.once().returncode == 1
    status = ask(daemon, "status")
    assert status["well"]
    assert (status["folders"][0]["waiting"], status["folders"][0]["rejected"]) == (0, 1)


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


def test_status_says_that_more_comes_in_than_lark_takes(make_daemon: MakeDaemon) -> None:
    """A remark, with how many could not go while they were fresh."""
    with make_daemon(lark={"requests_per_minute": 10}) as daemon:
        for number in range(30):
            daemon.drop(f"{number}.png", picture(number))
        status = wait_until(lambda: (s := ask(daemon, "status"))["late"] and s, what="the first seconds to be over")
        (remark,) = status["remarks"]
        assert remark.startswith(f"More comes in than Lark takes: {status['late']} of those dropped in the last minute")
        assert "pictures will take about" in remark
        assert status["well"]


def test_explain_what_is_under_way(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Being written, waiting behind others, in backoff after which error, held by the gate."""
    poisoned = picture(1)
    lark.poison.add(hashlib.sha256(poisoned).hexdigest())
    upload = {"backoff_initial": 60, "backoff_max": 60, "settle_seconds": 0.3}
    with make_daemon(lark={"requests_per_minute": 3}, upload=upload) as daemon:
        path = daemon.drop("poison.png", poisoned)
        answer = wait_until(lambda: (a := explained(daemon, path))["state"] == "backoff" and a, what="backoff")
        assert "It failed once: Lark says: internal error (code 5000" in answer["says"]
        cut = daemon.drop("cut.png", picture(2)[:-12])
        answer = wait_until(lambda: (a := explained(daemon, cut))["state"] == "settling" and a, what="settling")
        assert "checks it again at" in answer["says"]
        paths = [daemon.drop(f"{n}.png", picture(10 + n)) for n in range(6)]
        answer = wait_until(lambda: (a := explained(daemon, paths[5]))["state"] == "waiting" and a, what="waiting")
        assert "waits behind" in answer["says"]
        assert re.search(
            r"for about \d+ (s|min): (3 calls a minute are used up|Lark takes 3 calls a minute)", answer["says"]
        )
        (remark,) = ask(daemon, "status")["remarks"]
        assert re.search(r"\d pictures wait for the rate limit, for about \d+ (s|min): ", remark)
        daemon.stop()
    lark.faults.bot_off = True
    with make_daemon() as daemon:
        answer = wait_until(lambda: (a := explained(daemon, paths[5]))["state"] == "held" and a, what="held")
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
    assert "is not a moment" in say(done, "keys", "--since", "yesterday", code=2)


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


def test_retry_without_a_daemon(done: Daemon) -> None:
    """The rejected file is work again, and a run answers it again."""
    note = done.inbox / "note.txt"
    before = sidecar_of(note)
    (answer,) = ask(done, "retry")
    assert (answer["path"], answer["state"]) == (str(note), "waiting")
    assert sidecar_of(note) is None
    done.once()
    after = sidecar_of(note)
    assert before
    assert after
    assert after["rejected_at"] > before["rejected_at"]
    (answer,) = ask(done, "retry", str(done.inbox / "one.png"))
    assert answer["state"] == "uploaded"
    assert ask(done, "retry", str(done.inbox / "nothing.png"), code=1)[0]["state"] == "missing"


def test_retry_with_a_running_daemon(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """Rejected by a rule of the platform's that changed: taken again at once."""
    with make_daemon() as daemon:
        path = daemon.drop("a.txt", b"text")
        before = wait_for_sidecar(path)
        say(daemon, "retry")
        wait_until(lambda: sidecar_of(path) not in (None, before), what="a second rejection")
        assert wait_for_sidecar(path)["status"] == "rejected"
        lark.faults.down = True
        failing = daemon.drop("b.png", picture())
        wait_until(lambda: explained(daemon, failing)["state"] in {"backoff", "held"}, what="a failure")
        lark.faults.down = False
        say(daemon, "retry", str(failing))
        assert wait_for_sidecar(failing)["image_key"]
        assert say(daemon, "retry", str(failing)).endswith("It is already uploaded.\n")


def test_a_run_once_on_a_terminal_has_a_bar(make_daemon: MakeDaemon) -> None:
    """Counts and remaining time, and a summary at the end; warnings stand above the bar."""
    daemon = make_daemon(log={"level": "info", "format": "auto"})
    for number in range(20):
        daemon.drop(f"{number}.png", picture(number))
    daemon.drop("note.txt", b"text")
    seen = on_terminal(*daemon.command("run", "--once"))
    assert "21/21" in seen
    assert "20 uploaded, 1 rejected in 0:00:0" in seen
    assert "note.txt" in seen


def test_a_run_on_a_pipe_is_plain(make_daemon: MakeDaemon) -> None:
    """Lines, no bar, and a summary; --quiet leaves what needs attention, --verbose tells every step."""
    daemon = make_daemon(log={"level": "info"})
    daemon.drop("a.png", picture())
    lines = [json.loads(line) for line in daemon.once().stderr.splitlines()]
    assert [line["event"] for line in lines] == ["watching", "uploaded", "stopped", "finished"]
    assert lines[-1]["uploaded"] == 1
    daemon.drop("b.txt", b"text")
    assert [json.loads(line)["event"] for line in daemon.once("--quiet").stderr.splitlines()] == ["rejected"]
    assert "looked" in daemon.once("--verbose").stderr
    assert "exclude each other" in say(daemon, "run", "--quiet", "--verbose", code=2)


def test_config_tells_where_each_setting_comes_from(make_daemon: MakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, environment, credential or default; secrets are masked."""
    daemon = make_daemon()
    monkeypatch.setenv("LARKDROP_UPLOAD__WORKERS", "3")
    rows = {row["key"]: row for row in ask(daemon, "config")}
    assert rows["upload.workers"] == {"key": "upload.workers", "value": 3, "from": "LARKDROP_UPLOAD__WORKERS"}
    assert rows["lark.app_secret"]["value"] == "********"
    assert rows["lark.app_id"]["from"] == str(daemon.config)
    assert rows["watch[0].path"]["from"] == str(daemon.config)
    assert rows["watch[0].recursive"]["from"] == rows["log.results"]["from"] == "default"
    text = say(daemon, "config")
    assert "sandbox-secret" not in text
    assert re.search(r"^workers = 3 +# LARKDROP_UPLOAD__WORKERS$", text, re.MULTILINE)


def test_commands_that_do_not_sign_in_need_no_secret(done: Daemon) -> None:
    """A secret that only the service has does not keep people from asking."""
    text = done.config.read_text()
    done.config.write_text(text.replace(', app_secret = "sandbox-secret"', ""))
    assert "app_secret" not in done.config.read_text()
    for words in (("status",), ("keys",), ("explain", "x"), ("config",)):
        say(done, *words, code=None)
        assert "app_secret: is missing" not in say(done, *words, code=None)


COMPLETE = {
    "bash": 'eval "$(larkdrop completion bash)"; COMP_WORDS=(larkdrop ga); COMP_CWORD=1; '
    '_larkdrop_completion larkdrop; echo "${COMPREPLY[@]}"',
    "zsh": "compdef() { :; }; _describe() { print -l -- ${(P)3}; }; words=(larkdrop ga); CURRENT=2; "
    'eval "$(larkdrop completion zsh)"; _larkdrop_completion',
    "fish": "larkdrop completion fish | source; complete -C 'larkdrop ga'",
}


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=pytest.mark.needs(shell)) for shell in COMPLETE])
def test_completion(shell: str) -> None:
    """The script works in the shell itself: it completes a command."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [shell, *(["-f"] if shell == "zsh" else []), "-c", COMPLETE[shell]]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert "gallery" in done.stdout, done.stderr


def findings(daemon: Daemon, *words: str, code: int = 1) -> dict[str, Any]:
    """What ``check`` finds, by what it looked at."""
    return {finding["what"].split(" ")[0]: finding for finding in ask(daemon, "check", *words, code=code)}


def test_check_names_what_is_wrong_and_the_cure(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """A missing permission, a bot that is off, a Lark that can't be reached: each its own line and hint."""
    daemon = make_daemon()
    lark.faults.scope_missing = True
    found = findings(daemon)
    assert found["sign-in"]["ok"]
    assert (found["permission"]["ok"], "im:resource" in found["permission"]["hint"]) == (False, True)
    lark.faults.scope_missing, lark.faults.bot_off = False, True
    assert "Bot" in findings(daemon)["permission"]["hint"]
    lark.faults.bot_off = False
    assert lark.calls["upload"] == 2
    assert not lark.uploads
    daemon.config.write_text(daemon.config.read_text().replace(lark.url, "http://127.0.0.1:1"))
    found = findings(daemon)
    assert (found["reachability"]["ok"], "base_url" in found["reachability"]["hint"]) == (False, True)
    assert "sign-in" not in found


def test_check_tries_the_other_api_where_one_is_switched_off(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """It says whether that would work, by trying."""
    lark.faults.v4_offline = True
    daemon = make_daemon()
    found = findings(daemon)["api"]
    assert (found["ok"], found["hint"]) == (False, 'Set api = "im/v1" in [lark]: it works here.')
    assert "99991201" in found["says"]
    lark.faults.bot_off = True
    hint = findings(daemon)["api"]["hint"]
    assert hint.startswith('Set api = "im/v1" in [lark]; it does not work yet: Lark says: App does not enable bot')
    lark.faults.bot_off = False
    newer = make_daemon(
        lark={"base_url": lark.url, "api": "im/v1", "app_id": lark.app_id, "app_secret": lark.app_secret}
    )
    assert findings(newer, code=0)["permission"]["ok"]


def test_check_names_the_missing_scope_and_where_to_grant_it(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """As the platform named them."""
    lark.faults.scope_missing = True
    hint = findings(make_daemon())["permission"]["hint"]
    assert "im:resource or im:resource:upload at https://open.feishu.cn/app/cli_sandbox/auth?q=" in hint


def test_check_of_a_config_that_is_wrong(make_daemon: MakeDaemon) -> None:
    """Every problem is a line; exit 78."""
    daemon = make_daemon()
    daemon.config.write_text('lark = {app_idd = "x"}\nwatch = [{path = "/nowhere"}]\n')
    said = say(daemon, "check", code=78)
    assert "✗ config: lark.app_idd: unknown key; did you mean app_id?" in said
    assert "✗ config: watch[0].path = '/nowhere': there is no such folder" in said
    assert not any(finding["ok"] for finding in ask(daemon, "check", code=78))


def test_check_uploads_a_pixel(lark: Sandbox, make_daemon: MakeDaemon) -> None:
    """A real picture that Lark takes, only when asked to."""
    found = findings(make_daemon(), "--upload", code=0)
    assert lark.uploads[0].image_key in found["upload"]["says"]


@pytest.mark.needs("faketime")
def test_check_compares_clocks(make_daemon: MakeDaemon) -> None:
    """A clock that is an hour off endangers certificates."""
    daemon = make_daemon()
    daemon.prefix = ("faketime", "-f", "+1h")
    clock = findings(daemon)["clock"]
    assert (clock["ok"], "ahead" in clock["says"], "time server" in clock["hint"]) == (False, True, True)
