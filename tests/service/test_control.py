"""Commands ask through the control socket: whoever answers, however long the path, and whatever goes wrong."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from larkdrop.errors import NotAvailable
from larkdrop.service import control
from larkdrop.service.control import answering


def repeat(question: str, paths: Sequence[str]) -> object:
    """Answer with what was asked; one question is too much."""
    if question == "impossible":
        raise ValueError("no idea")
    return [question, *paths]


def test_a_question_and_its_answer(tmp_path: Path) -> None:
    """Also of 10,000 paths, and by a path that is too long for a socket; nobody answers before and after."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    paths = [f"/inbox/caf\udce9-{number}.png" for number in range(10_000)]
    assert control.ask(folder, "explain", paths) is None
    with answering(folder, repeat):
        assert control.ask(folder, "explain", paths) == ["explain", *paths]
        assert control.ask(folder, "status") == ["status"]
    assert control.ask(folder, "status") is None
    assert not list(folder.iterdir())


def test_a_question_that_fails_ends_nothing(tmp_path: Path) -> None:
    """The command says why, and so does the log; the next question is answered."""
    with answering(tmp_path, repeat), capture_logs() as logged:
        with pytest.raises(NotAvailable, match="could not answer: ValueError"):
            control.ask(tmp_path, "impossible")
        assert control.ask(tmp_path, "status") == ["status"]
    assert [line["reason"] for line in logged] == ["ValueError('no idea')"]


def test_a_machine_that_is_short_of_files_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question that came meanwhile is answered once there are some again."""
    accept, shortage = socket.socket.accept, [errno.EMFILE, errno.ENFILE]

    def accept_later(listener: socket.socket) -> object:
        if shortage:
            raise OSError(shortage.pop(), "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accept_later)
    with answering(tmp_path, repeat):
        assert control.ask(tmp_path, "status") == ["status"]


def test_the_socket_of_another_larkdrop_stays(tmp_path: Path) -> None:
    """Where a state folder was made anew, the one that leaves takes nothing from the one that came."""
    with answering(tmp_path, repeat):
        (tmp_path / control.NAME).unlink()
        (tmp_path / control.NAME).touch()
    assert (tmp_path / control.NAME).exists()
