"""``larkdrop status`` prints: on a pipe unwrapped, and again with --watch."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.asking import say
from tests.helpers import Daemon

MakeDaemon = Callable[..., Daemon]


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
