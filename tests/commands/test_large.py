"""A hundred thousand finished pictures: the commands still answer at once. Prints how long they took."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of

MANY = 100_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def large() -> Iterator[Daemon]:
    """A real run over that many files of a hundred contents, in a hundred folders.

    In memory where it can be: the commands only read, and making so many files takes minutes elsewhere.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with Sandbox() as lark, TemporaryDirectory(prefix="larkdrop-large-", dir=memory) as home:
        daemon = Daemon(Path(home), lark, log={"level": "info"}, upload={"settle_seconds": 0})
        for folder in range(100):
            (daemon.inbox / f"{folder:02}").mkdir()
            content = picture(folder)
            for number in range(MANY // 100):
                daemon.drop(f"{folder:02}/photo-{folder:02}-{number:04}.png", content)
        subprocess.run(daemon.command("run", "--once", "--quiet"), check=True, timeout=800)
        yield daemon


def timed(daemon: Daemon, *words: str) -> Any:
    """The JSON that a command prints."""
    began = time.monotonic()
    done = subprocess.run(daemon.command(*words, "--json"), capture_output=True, text=True, check=True)
    print(f"\n{words[0]}: {time.monotonic() - began:.2f} s")
    return json.loads(done.stdout)


def test_status(large: Daemon) -> None:
    """Everything is uploaded, and nothing waits."""
    (folder,) = timed(large, "status")["folders"]
    assert (folder["uploaded"], folder["waiting"], folder["rejected"]) == (MANY, 0, 0)


def test_the_key_of_one_name(large: Daemon) -> None:
    """Found among all."""
    record = sidecar_of(large.inbox / "42/photo-42-0815.png")
    assert record
    (row,) = timed(large, "keys", "photo-42-0815.png")
    assert row["image_key"] == record["image_key"]


def test_explain(large: Daemon) -> None:
    """With the first of the other paths of the same content."""
    (answer,) = timed(large, "explain", str(Path(large.inbox, "42/photo-42-0815.png")))
    assert answer["state"] == "uploaded"
    assert len(answer["same_as"]) == 10


def test_with_a_running_daemon(large: Daemon) -> None:
    """The same answers, from the daemon."""
    with large:
        (folder,) = timed(large, "status")["folders"]
        assert folder["uploaded"] == MANY
        assert timed(large, "explain", str(large.inbox / "00/photo-00-0000.png"))[0]["state"] == "uploaded"
