"""``retry`` makes rejected files work again, with a daemon and without."""

from __future__ import annotations

from collections.abc import Callable

from larkdrop.sandbox.server import Sandbox
from tests.asking import ask, explained, say
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]


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
