"""Wrong usage is said at once, and commands that only ask need no secret."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.asking import say
from tests.helpers import Daemon

MakeDaemon = Callable[..., Daemon]


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
    assert "Did you mean 'status'?" in say(daemon, "statsu", code=2)
    assert "Did you mean" not in say(daemon, "frobnicate", code=2)


def test_a_damaged_key_cache(done: Daemon) -> None:
    """It is named, with what to do."""
    cache = done.state / "keys.sqlite3"
    whole = cache.read_bytes()
    cache.write_bytes(whole[:8192] + b"nonsense" * ((len(whole) - 8192) // 8))
    for command in ("keys", "status", "explain"):
        said = say(done, command, code=1)
        assert f"{cache} can't be read" in said
        assert "bug" not in said


def test_commands_that_do_not_sign_in_need_no_secret(done: Daemon) -> None:
    """A secret that only the service has does not keep people from asking."""
    text = done.config.read_text()
    done.config.write_text(text.replace(', app_secret = "sandbox-secret"', ""))
    assert "app_secret" not in done.config.read_text()
    for words in (("status",), ("keys",), ("explain", "x"), ("config",)):
        say(done, *words, code=None)
        assert "app_secret: is missing" not in say(done, *words, code=None)


def test_a_working_folder_that_is_gone(done: Daemon) -> None:
    """Commands that need it say so."""
    gone = done.home / "gone"
    gone.mkdir()
    words = ["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$0" "$@"', *done.command("explain", "a.png")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, "larkdrop: the working folder is gone; change to another one.\n")


@pytest.mark.parametrize("words", [("demo",), ("sandbox",)])
def test_without_the_extra(words: tuple[str, ...]) -> None:
    """What needs the extra says which one, and how it is installed."""
    start = f"import sys; sys.modules['aiohttp'] = None; sys.argv = ['larkdrop', *{words}]; import larkdrop.__main__"
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "larkdrop: the sandbox needs aiohttp.",
        "larkdrop: Install it, in a checkout: pip install '.[sandbox]'.",
    ]
