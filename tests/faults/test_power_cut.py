"""A power cut after any system call, on a disk at POSIX's worst: what larkdrop has promised by then holds.

larkdrop runs once under strace; ``disk.py`` says what a cut leaves. Each state left is judged; from some, larkdrop
starts anew. The judge is judged too: with one kind of sync taken out of the trace it has to find a broken promise.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path

import pytest
import structlog

from larkdrop.folder import sidecar
from larkdrop.records.result_log import ResultLog
from larkdrop.sandbox.server import Sandbox
from tests.faults import disk
from tests.faults.disk import Disk, Folder, Node
from tests.helpers import Daemon, picture

PICTURES = 16
SEED = int(os.environ.get("FAULT_SEED", "20261123"))
RESTARTS = 20
STATE = "var/state/"
LOG = f"{STATE}results.jsonl"
Files = dict[str, bytes]

# Each sync of larkdrop's, and how it is told from the others.
SYNCS: dict[str, Callable[[Node], bool]] = {
    "key cache": lambda node: "/keys.sqlite3" in node.label,
    "result log": lambda node: node.label.endswith(".jsonl"),
    "sidecar": lambda node: node.label == "nameless",
    "picture": lambda node: node.label.endswith(".png"),
    "watched folder": lambda node: isinstance(node, Folder) and "/inbox" in node.label,
    "state folder's names": lambda node: node.label.endswith("/state"),
    "state folder": lambda node: _makes(node, "/var"),
    "folder moved to": lambda node: isinstance(node, Folder) and "/done" in node.label and not _makes(node, "/done"),
    "new folder moved to": lambda node: _makes(node, "/done"),
}


def _makes(node: Node, where: str) -> bool:
    """Whether a new folder, in a place of this name or it itself, is among the unsynced names of a folder."""
    made = [new for change in node.pending for new in change.values()] if isinstance(node, Folder) else []
    return any(isinstance(new, Folder) and where in new.label for new in made)


class Recorded:
    """One run of larkdrop over pictures that were dropped without a sync: its system calls, and the disk before."""

    def __init__(self, lark: Sandbox, home: Path, after: str) -> None:
        lark.faults.set({"per_second": 10_000, "per_minute": 600_000})
        watch = {"path": home / "inbox", "after_upload": after}
        watch |= {"move_to": home / "done" / "deep"} if after == "move" else {}
        limits = {"base_url": lark.url, "requests_per_second": 10_000, "requests_per_minute": 600_000}
        state = {"dir": home / "var" / "state"}
        self.lark, self.home, self.after = lark, home, after
        self.daemon = Daemon(
            home, None, watch=[watch], lark=limits | {"app_id": "cli_sandbox", "app_secret": "sandbox-secret"},
            state=state, upload={"workers": 3, "settle_seconds": 0.2},
        )  # fmt: skip
        (self.daemon.inbox / "sub").mkdir()
        self.pictures = {f"{'sub/' * (n % 4 == 0)}{n}.png": picture(n) for n in range(PICTURES)}
        for name, content in self.pictures.items():
            self.daemon.drop(name, content)
        self.before = Disk(home).root
        trace = home.parent / "trace"
        calls = ",".join((*disk.CALLS, *(f"?{name}" for name in disk.UNKNOWN)))
        self.daemon.prefix = (
            "strace", "-f", "-qq", "--signal=none", "-xx", "-s", "10000000", "-e", f"trace={calls}", "-o", str(trace),
        )  # fmt: skip
        ended = self.daemon.once()
        assert ended.returncode == 0, ended.stderr
        self.daemon.prefix = ()
        self.trace = trace.read_text(encoding="ascii")

    def states(self, dice: random.Random, lost: Callable[[Node], bool] = lambda _node: False) -> Iterator[Files]:
        """What cuts leave: after each call, five times; the last five are of a run that ended."""
        machine = self.restored(lost)
        for _ in machine.play(self.trace):
            for left in (
                disk.nothing_unsynced(), disk.names_and_sizes(), disk.everything(), disk.anything(dice),
                disk.anything(dice),
            ):  # fmt: skip
                yield disk.files_left(machine.root, left)

    def restored(self, lost: Callable[[Node], bool]) -> Disk:
        """The disk as it was before the run."""
        empty(self.home)
        write(self.home, disk.files_left(self.before, disk.everything()))
        return Disk(self.home, lost)


def empty(home: Path) -> None:
    """Remove all that is below a folder."""
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write(home: Path, files: Files) -> None:
    """Put files below a folder: sidecars last, and with the mtime that they were given."""
    for path, content in sorted(files.items(), key=lambda file: file[0].endswith(sidecar.SUFFIX)):
        if path.endswith("/"):
            (home / path).mkdir()
        elif not path.endswith("-shm"):
            (home / path).write_bytes(content)
            if path.endswith(sidecar.SUFFIX):
                with suppress(ValueError, KeyError):
                    at = json.loads(content)["mtime_ns"]
                    os.utime(home / path, ns=(at, at))


@lru_cache(maxsize=1000)
def keys(files: tuple[tuple[str, bytes], ...], folder: Path) -> dict[str, str]:
    """Content hash to key, as SQLite reads them from the files that a cut left."""
    empty(folder)
    write(folder, dict(files))
    with closing(sqlite3.connect(folder / "keys.sqlite3")) as db:
        try:
            return dict(db.execute("SELECT sha256, image_key FROM keys"))
        except sqlite3.Error:
            return {}


@lru_cache(maxsize=1000)
def lines(log: bytes, folder: Path) -> list[dict[str, str]]:
    """The result log that a cut left, once larkdrop has opened it: every line has to be whole."""
    path = folder / "results.jsonl"
    path.write_bytes(log)
    with ResultLog(path):
        pass
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def recorded(files: Files, scratch: Path) -> dict[str, str]:
    """Content hash to key, in the key cache that a cut left."""
    cache = {path.removeprefix(STATE): data for path, data in files.items() if path.startswith(f"{STATE}keys.")}
    return keys(tuple(cache.items()), scratch) if cache else {}


def sha256(content: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def broken_promises(files: Files, run: Recorded, scratch: Path, *, ended: bool) -> Iterator[str]:
    """Every promise that does not hold in what a cut left, also where larkdrop had ended before."""
    known = recorded(files, scratch)
    try:
        logged = {line["sha256"]: line["image_key"] for line in lines(files.get(LOG, b""), scratch)}
    except ValueError:
        yield "a line of the result log is not whole"
        return
    if not logged.items() <= known.items():
        yield "a key is in the result log, and not in the key cache"
    vouched: dict[str, str] = {}
    for path, data in files.items():
        if path.endswith(sidecar.SUFFIX):
            try:
                beside = json.loads(data)
            except ValueError:
                yield f"{path} is torn"
                return
            vouched[beside["sha256"]] = beside["image_key"]
            image = files.get(path.removesuffix(sidecar.SUFFIX))
            if image is not None and sha256(image) != beside["sha256"]:
                yield f"{path} stands beside a picture that is not whole"
    if not vouched.items() <= logged.items():
        yield "a key is in a sidecar, and not in the result log"
    contents = {sha256(data) for path, data in files.items() if path.endswith(".png")}
    for name, content in run.pictures.items():
        its, here = sha256(content), f"inbox/{name}" in files
        if not here and its not in vouched:
            yield f"{name} went before it was recorded"
        if run.after != "delete" and its not in contents and (not here or its in vouched):
            yield f"{name} is nowhere"
        if ended and not (its in known and its in logged and its in vouched and here == (run.after == "keep")):
            yield f"{name} was finished, and is not"


def restart(files: Files, run: Recorded, scratch: Path) -> None:
    """Start larkdrop on what a cut left: all is finished, and nothing goes again whose key was recorded."""
    known = recorded(files, scratch)
    whole = set(run.pictures.values())
    # What the cut took of a picture that larkdrop had not answered for is between whoever dropped it and the disk.
    files = {path: data for path, data in files.items() if not path.endswith(".png") or data in whole}
    empty(run.home)
    write(run.home, files)
    before = len(run.lark.uploads)
    ended = run.daemon.once()
    assert ended.returncode == 0, ended.stderr
    assert not {made.sha256 for made in run.lark.uploads[before:]} & set(known), "uploaded again"
    given = {(made.sha256, made.image_key) for made in run.lark.uploads}
    results = map(json.loads, (run.home / LOG).read_text(encoding="ascii").splitlines())
    logged = {(line["sha256"], line["image_key"]) for line in results}
    vouched = {}
    for place in run.home.rglob(f"*{sidecar.SUFFIX}"):
        beside = json.loads(place.read_bytes())
        vouched[beside["sha256"]] = beside["image_key"]
    assert vouched.items() <= given & logged
    for path, data in files.items():
        if path.startswith("inbox/") and path.endswith(".png"):
            assert sha256(data) in vouched
            assert (run.home / path).exists() == (run.after == "keep")
    assert not [path for path in run.home.rglob(f"*{sidecar.TEMP_SUFFIX}") if sidecar.is_temp(path.name)]


@pytest.fixture
def _quiet() -> Iterator[None]:
    """No line for each of thousands of repaired logs."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    yield
    structlog.reset_defaults()


@pytest.mark.slow
@pytest.mark.needs("strace")
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("after", ["keep", "move", "delete"])
def test_a_power_cut_after_any_call(lark: Sandbox, tmp_path: Path, after: str) -> None:
    """No promise is broken in any of what cuts leave, nor by a restart from it; each missing sync breaks one."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    run = Recorded(lark, home, after)
    dice = random.Random(SEED)
    print("seed", SEED)

    states = list(run.states(dice))
    for number, files in enumerate(states):
        broken = list(broken_promises(files, run, scratch, ended=number >= len(states) - 5))
        assert not broken, f"state {number} of {len(states)}: {broken}"
    assert len(states) >= 1000, "2,000 and more in all"

    for what, lost in SYNCS.items():
        if what.endswith("moved to") and after != "move":
            continue
        cuts = run.states(dice, lost)
        last = len(states) - 5
        found = next(
            (broken for number, files in enumerate(cuts)
             for broken in broken_promises(files, run, scratch, ended=number >= last)),
            None,
        )  # fmt: skip
        print(f"{after}, without the sync of the {what}: {found}")
        assert found, f"without the sync of the {what} nothing breaks"

    for files in dice.sample(states, RESTARTS):
        restart(files, run, scratch)
    print(f"{after}: {len(states)} states, {RESTARTS} restarts")
