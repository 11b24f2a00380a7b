"""larkdrop as a user's service, and installed by pipx."""

from __future__ import annotations

import re

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture, sidecar_of, wait_for_sidecar, wait_until
from tests.systemd.conftest import SECRET
from tests.systemd.guest import CHECKOUT, Guest, documented

INBOX = "/home/bob/Pictures/lark"
CHECKOUT_OF_BOB = "/home/bob/larkdrop"


@pytest.fixture(scope="module")
def bob(guest: Guest, sandbox: Sandbox) -> str:
    """A user with a checkout and a running user manager."""
    guest.bash(f"useradd -m bob && cp -r {CHECKOUT} {CHECKOUT_OF_BOB} && chown -R bob: {CHECKOUT_OF_BOB}")
    install, linger, _ = documented("Install for a user")
    guest.bash(linger.replace("alice", "bob"))
    wait_until(
        lambda: guest.bash("systemctl --user is-system-running || true", user="bob") == "running", what="the manager"
    )
    editor = guest.path("/home/bob/editor")
    editor.write_text(
        f'#!/bin/sh\nsed -i \'s|^app_id = .*|app_id = "cli_sandbox"\\nbase_url = "{sandbox.url}"|\' "$1"\n'
    )
    editor.chmod(0o755)
    said = guest.bash(f"EDITOR=/home/bob/editor\n{install}", user="bob", folder=CHECKOUT_OF_BOB, stdin=SECRET)
    assert "✓ sign-in" in said
    assert "✗" not in said
    return "bob"


def test_a_user_drops_a_picture(guest: Guest, bob: str) -> None:
    """The documented commands for a user lead to a key; the secret is in no environment."""
    place = guest.path(INBOX) / "chart.png"
    place.write_bytes(picture(80_000))
    key = wait_for_sidecar(place)["image_key"]
    log = guest.path("/home/bob/.local/state/larkdrop/results.jsonl")
    wait_until(lambda: key in log.read_text(), what="the result log's line")
    pid = guest.bash("systemctl --user show -P MainPID larkdrop", user=bob)
    assert SECRET not in guest.path(f"/proc/{pid}/environ").read_bytes().decode()
    assert re.search(r"^Cpus_allowed_list:\t\d+$", guest.path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    status = "systemctl --user show -P StatusText larkdrop"
    wait_until(lambda: "1 uploaded, 0 waiting" in guest.bash(status, user=bob), what="STATUS to tell")


def test_systemd_analyze(guest: Guest, bob: str) -> None:
    """The user unit has no fault that systemd knows of, and keeps what hardening needs no rights.

    The rating takes the user's manager for root, with rights that no user's service has; so it can't come near that of
    the system units.
    """
    assert not guest.bash("systemd-analyze --user verify ~/.config/systemd/user/larkdrop.service", user=bob)
    said = guest.bash("systemd-analyze --user security --no-pager larkdrop.service", user=bob)
    exposure = re.search(r"exposure level for .*: ([0-9.]+)", said)
    assert exposure
    assert float(exposure[1]) <= 6.5, said


def test_to_be_rid_of_it(guest: Guest, bob: str) -> None:
    """The documented last block for a user leaves the pictures alone."""
    guest.bash(documented("Install for a user")[-1], user=bob)
    assert not guest.path("/home/bob/.local/bin/larkdrop").exists()
    assert sidecar_of(guest.path(INBOX) / "chart.png")


def test_pipx_for_the_system(guest: Guest) -> None:
    """The documented pipx command puts larkdrop where the system's units look for it, and upgrades it there."""
    text = (guest.path(CHECKOUT) / "docs/service.md").read_text()
    command = next(part for part in text.split("`") if part.startswith("PIPX_HOME=/opt/pipx"))
    guest.bash("rm -rf /opt/larkdrop")
    guest.bash(command, folder=CHECKOUT)
    guest.bash(command, folder=CHECKOUT)
    assert guest.run("/opt/larkdrop/bin/larkdrop", "--version").startswith("larkdrop ")
    guest.bash("rm -rf /opt/larkdrop /opt/pipx")
