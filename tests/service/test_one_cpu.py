"""All threads keep to one CPU, of those that larkdrop was given; where it may not choose one, it works all the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers import Daemon, picture, wait_for_sidecar

MakeDaemon = Callable[..., Daemon]


def cpus_of(daemon: Daemon) -> set[frozenset[int]]:
    """Those that its threads may use."""
    assert daemon.process
    found = set()
    for thread in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            found.add(frozenset(os.sched_getaffinity(int(thread.name))))
    return found


def test_all_threads_keep_to_one(make_daemon: MakeDaemon) -> None:
    """The main thread, and those that a call brings."""
    with make_daemon() as daemon:
        wait_for_sidecar(daemon.drop("a.png", picture()))
        (cpus,) = cpus_of(daemon)
    assert len(cpus) == 1


@pytest.mark.parametrize("first", [True, False])
def test_whoever_starts_it_may_choose_the_cpu(make_daemon: MakeDaemon, first: bool) -> None:  # noqa: FBT001
    """With ``taskset``, or ``CPUAffinity=`` in a unit."""
    cpu = sorted(os.sched_getaffinity(0))[0 if first else -1]
    daemon = make_daemon()
    daemon.prefix = ("taskset", "-c", str(cpu))
    with daemon:
        assert cpus_of(daemon) == {frozenset({cpu})}


@pytest.mark.needs("strace")
def test_where_it_may_not_choose(make_daemon: MakeDaemon) -> None:
    """As below a filter of system calls that forbids it."""
    daemon = make_daemon()
    refused = "--inject=sched_setaffinity:error=EPERM"
    daemon.prefix = ("strace", "-f", "-qq", "-o", str(daemon.home / "calls"), refused)
    place = daemon.drop("a.png", picture())
    assert daemon.once().returncode == 0
    assert wait_for_sidecar(place)["image_key"]
    assert "EPERM (Operation not permitted) (INJECTED)" in (daemon.home / "calls").read_text()
