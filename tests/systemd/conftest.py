"""One booted systemd for all tests of this folder, with larkdrop installed in it as docs/service.md says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from larkdrop.sandbox.faults import Faults
from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture, wait_for_sidecar, wait_until
from tests.systemd.guest import CHECKOUT, Guest, documented, why_not

UNIT = "larkdrop.service"
SECRET = "sandbox-secret"


class Service:
    """A unit of larkdrop in the guest."""

    def __init__(self, guest: Guest, lark: Sandbox, unit: str = UNIT, inbox: str = "/srv/inbox") -> None:
        self.guest = guest
        self.lark = lark
        self.unit = unit
        self.inbox = inbox
        self._number = 0

    @property
    def pid(self) -> int:
        """The main process, as the guest counts."""
        return int(self.guest.show(self.unit, "MainPID"))

    @property
    def status(self) -> str:
        """The line in ``systemctl status``."""
        return self.guest.show(self.unit, "StatusText")

    @property
    def state(self) -> str:
        """``active``, ``activating``, …"""
        return self.guest.show(self.unit, "ActiveState")

    def systemctl(self, *words: str) -> None:
        """``systemctl WORDS unit``."""
        self.guest.run("systemctl", *words, self.unit)

    def drop(self, noise: int = 0) -> Path:
        """Drop a picture that no test dropped before, as root."""
        self._number += 1
        place = self.guest.path(f"{self.inbox}/{self._number}.png")
        place.write_bytes(picture(self._number, noise=noise))
        return place

    def drop_answered(self) -> dict[str, object]:
        """Drop a picture and wait for its sidecar."""
        return wait_for_sidecar(self.drop())

    def drop_in(self, text: str, name: str = "test.conf") -> None:
        """Overlay the unit until ``plain`` takes it back."""
        folder = self.guest.path(f"/etc/systemd/system/{self.unit}.d")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        self.guest.run("systemctl", "daemon-reload")

    def plain(self) -> None:
        """As it was installed, and running."""
        overlay = self.guest.path(f"/etc/systemd/system/{self.unit}.d/test.conf")
        if overlay.exists():
            overlay.unlink()
            self.guest.run("systemctl", "daemon-reload")
            self.systemctl("restart")
        self.guest.run("systemctl", "reset-failed", check=False)
        self.systemctl("start")

    def restarted_from(self, pid: int, seconds: float = 40.0) -> None:
        """Wait until another process than ``pid`` is ready."""
        wait_until(lambda: self.pid not in {0, pid} and self.state == "active", seconds, "a restart")


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """A booted systemd, nothing installed."""
    if reason := why_not():
        pytest.skip(reason)
    with Guest() as booted:
        yield booted


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """The Lark that every unit speaks to."""
    with Sandbox() as made:
        yield made


@pytest.fixture(scope="session")
def installed(guest: Guest, sandbox: Sandbox) -> Service:
    """Installed by the documented commands, in order; only what a person types is given by the test."""
    editor = guest.path("/root/editor")
    editor.write_text(
        f'#!/bin/sh\nsed -i \'s|^app_id = .*|app_id = "cli_sandbox"\\nbase_url = "{sandbox.url}"|; /upload/d\' "$1"\n'
        'printf "\\n[upload]\\nbackoff_initial = 0.1\\n" >>"$1"\n'
    )
    editor.chmod(0o755)
    install, settings, inbox, start = documented("Install for the system")
    guest.bash(install, folder=CHECKOUT)
    guest.bash(f"EDITOR=/root/editor\n{settings}", folder=CHECKOUT, stdin=SECRET)
    guest.bash(inbox, folder=CHECKOUT)
    said = guest.bash(start, folder=CHECKOUT)
    assert said.count("✓") >= 3, said
    assert "✗" not in said
    assert "active (running)" in said
    return Service(guest, sandbox)


@pytest.fixture
def service(installed: Service) -> Iterator[Service]:
    """The installed service, running, and a Lark that is well."""
    installed.plain()
    yield installed
    installed.lark.faults = Faults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test below this folder needs a booted systemd."""
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.systemd)
