"""Fixtures: a local Lark, and daemons that end with the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, lacking, picture


def pytest_xdist_auto_num_workers() -> int:
    """With ``-n auto``, three workers on two cores: for a third of their time, tests wait."""
    return (os.cpu_count() or 2) * 3 // 2


@pytest.fixture
def lark() -> Iterator[Sandbox]:
    """A local Lark over real HTTP, in the edition that takes every format."""
    with Sandbox(edition="feishu") as sandbox:
        yield sandbox


@pytest.fixture
def make_daemon(tmp_path: Path, lark: Sandbox) -> Iterator[Callable[..., Daemon]]:
    """Make daemons that talk to ``lark``, not yet started; they are killed after the test."""
    made: list[Daemon] = []

    def make(**sections: object) -> Daemon:
        daemon = Daemon(tmp_path, lark, **sections)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.kill()


@pytest.fixture
def done(make_daemon: Callable[..., Daemon]) -> Daemon:
    """Three uploaded pictures, one of them in a sub-folder, a copy of one, and a rejected file; nothing runs."""
    daemon = make_daemon()
    (daemon.inbox / "sub").mkdir()
    for number, name in enumerate(("one.png", "two.png", "sub/three.png")):
        daemon.drop(name, picture(number))
    daemon.drop("twin.png", picture(0))
    daemon.drop("note.txt", b"no picture")
    assert daemon.once().returncode == 1
    return daemon


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's reaches larkdrop."""
    for name in ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "LARKDROP_CONFIG", "INVOCATION_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``needs`` where this machine lacks something of it, and say what."""
    if missing := lacking(*(need for mark in item.iter_markers("needs") for need in mark.args)):
        pytest.skip(f"needs {', '.join(missing)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where TESTS_MUST_NOT_SKIP is set, as in CI, a test that was skipped is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TESTS_MUST_NOT_SKIP") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
