"""The result log: what a power cut or a full disk left at its end is set right, and readers see whole lines only."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from larkdrop.records import result_log as results
from larkdrop.records.result_log import ResultLog, whole_lines
from larkdrop.records.sidecar_fields import Record


def record(number: int) -> Record:
    """An outcome that no other number has."""
    return Record(
        status="uploaded", file=f"{number}.png", image_type="message", api="image/v4", app_id="cli_a",
        sha256=f"{number:064}", size=1, mtime_ns=1, format="PNG", width=1, height=1, at="2026-11-24T00:00:00.000Z",
        attempts=1, reused=False, log_id="", image_key=f"img_{number}",
    )  # fmt: skip


def line(number: int) -> bytes:
    """Its line."""
    return json.dumps({"event": "uploaded", "path": f"/in/{number}.png", **record(number).fields()}).encode() + b"\n"


def numbers(text: bytes) -> list[int]:
    """Whose lines a log holds. Each line has to be one JSON object."""
    return [int(json.loads(one)["image_key"].removeprefix("img_")) for one in text.splitlines()]


HALF, END = line(9)[:70], line(9)[-30:]
TORN = {
    "half a line": (line(1) + line(2) + HALF, [1, 2]),
    "half a line only": (HALF, []),
    "one byte of a line": (line(1) + b"{", [1]),
    "NULs": (line(1) + bytes(5000), [1]),
    "NULs only": (bytes(5000), []),
    "half a line and NULs": (line(1) + HALF + bytes(5000), [1]),
    "a whole line without its newline": (line(1) + line(2)[:-1], [1, 2]),
    "a whole line with a NUL for its newline": (line(1) + line(2)[:-1] + bytes(20), [1, 2]),
    "NULs before whole lines": (line(1) + bytes(5000) + line(2) + line(3), [1, 2, 3]),
    "NULs only before whole lines": (bytes(5000) + line(2) + line(3), [2, 3]),
    "a lost page before whole lines": (line(1) + HALF + bytes(4096) + END + line(2) + line(3), [1, 2, 3]),
    "a lost page and a torn end": (line(1) + HALF + bytes(4096) + END + line(2) + HALF, [1, 2]),
    "the end of a line": (line(1) + bytes(500) + END, [1]),
    "a newline lost among NULs": (line(1)[:-1] + bytes(3) + line(2), [1, 2]),
    "half a line that the next was glued to": (line(1) + HALF + line(2) + line(3), [1, 2, 3]),
    "a stranger's line": (line(1) + b'{"event": "x", "a": ' + b"[" * 60_000 + b"\n" + line(2), [1, 2]),
    "an empty file": (b"", []),
    "nothing wrong": (line(1) + line(2), [1, 2]),
}


@pytest.mark.needs("jq")
@pytest.mark.parametrize("before", [0, 2 * results.CHECKED], ids=["short", "long"])
@pytest.mark.parametrize("torn", TORN)
def test_a_torn_end_is_set_right(tmp_path: Path, torn: str, before: int) -> None:
    """On opening: no whole line is lost, every line is JSON for Python and jq, and the next one stands by itself."""
    path = tmp_path / "results.jsonl"
    text, whole = TORN[torn]
    older = line(0) * (before // len(line(0)))
    path.write_bytes(older + text)
    with capture_logs() as said, ResultLog(path) as log:
        log.append([("/in/7.png", "", record(7))])
    with capture_logs() as said_again, ResultLog(path):
        pass
    assert numbers(path.read_bytes()) == [0] * (before // len(line(0))) + [*whole, 7]
    assert path.stat().st_size >= len(older + text) or not (whole or older), "a reader that is further would begin anew"
    counted = subprocess.run(["jq", "-n", "[inputs] | length", path], capture_output=True, text=True, check=True)
    assert int(counted.stdout) == len(numbers(path.read_bytes()))
    assert [(event["event"], event["path"]) for event in said] == [("result_log_repaired", str(path))] * (
        torn not in {"an empty file", "nothing wrong"}
    )
    assert not said_again


def test_a_repair_that_a_power_cut_ends_is_finished_later() -> None:
    """Whichever bytes of the repair arrive, no whole line is lost."""
    for text, whole in TORN.values():
        right = whole_lines(text)
        for cut in range(0, len(right), 61):
            for mixed in (right[:cut] + text[cut:], text[:cut] + right[cut:]):
                assert set(whole) <= set(numbers(whole_lines(mixed)))


def test_a_gigabyte_is_opened_by_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte of it is read, and less is written."""
    path = tmp_path / "results.jsonl"
    with path.open("wb") as file:
        file.write(line(0))
        file.seek(1 << 30)
        file.write(b"\n" + line(1) * 2000 + HALF)
    asked: list[int] = []
    pread = os.pread

    def counted(file: int, count: int, offset: int) -> bytes:
        asked.append(count)
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    blocks = path.stat().st_blocks
    with ResultLog(path) as log:
        log.append([("/in/7.png", "", record(7))])
    assert sum(asked) <= results.CHECKED
    assert path.stat().st_blocks - blocks < 64
    with path.open("rb") as log_file:
        log_file.seek((1 << 30) + 1)
        assert numbers(log_file.read()) == [1] * 2000 + [7]


def test_a_rotated_log_is_set_right_too(tmp_path: Path) -> None:
    """Whoever puts another file in its place may have left half a line in it."""
    path = tmp_path / "results.jsonl"
    with ResultLog(path) as log:
        log.append([("/in/1.png", "", record(1))])
        path.rename(tmp_path / "results.jsonl.1")
        path.write_bytes(line(2) + HALF)
        log.append([("/in/3.png", "", record(3))])
    assert numbers(path.read_bytes()) == [2, 3]


@pytest.fixture
def full_after() -> Iterator[None]:
    """Files of this process can't grow past 3,000 bytes: a write ends in the middle of a line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_follower_sees_whole_lines_after_the_disk_was_full(tmp_path: Path, full_after: None) -> None:
    """What a full disk cut ends where it is, each outcome is in the log once, and nothing is read twice."""
    path = tmp_path / "results.jsonl"
    outcomes = [(f"/in/{n}.png", "", record(n)) for n in range(1, 9)]
    with ResultLog(path) as log:
        log.append(outcomes[:2])
        with subprocess.Popen(["tail", "-n", "+1", "-F", path], stdout=subprocess.PIPE) as tail:
            assert tail.stdout
            seen = b""
            try:
                for _ in range(3):
                    with pytest.raises(OSError, match="too large"):
                        log.append(outcomes[2:])
                while len(seen) < 3000:
                    seen += os.read(tail.stdout.fileno(), 4096)
                resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
                assert log.append(outcomes[2:]) == 6
                while len(seen) < path.stat().st_size:
                    seen += os.read(tail.stdout.fileno(), 4096)
            finally:
                tail.kill()
    assert numbers(path.read_bytes()) == list(range(1, 9))
    after = seen[3000:].split(b"\n")
    assert [int(json.loads(one)["image_key"][4:]) for one in after if one.strip()] == list(range(3, 9))


def test_a_log_that_is_rotated_after_the_disk_was_full(tmp_path: Path, full_after: None) -> None:
    """What was begun there is taken out of it: each outcome is in one of the two."""
    path, old = tmp_path / "results.jsonl", tmp_path / "results.jsonl.1"
    outcomes = [(f"/in/{n}.png", "", record(n)) for n in range(1, 9)]
    with ResultLog(path) as log:
        log.append(outcomes[:2])
        with pytest.raises(OSError, match="too large"):
            log.append(outcomes[2:])
        path.rename(old)
        log.append(outcomes[2:5])
    assert (numbers(old.read_bytes()), numbers(path.read_bytes())) == ([1, 2], [3, 4, 5])


def test_a_log_that_was_emptied_after_the_disk_was_full(tmp_path: Path, full_after: None) -> None:
    """As by ``truncate -s 0``, to make room: it goes on from there."""
    path = tmp_path / "results.jsonl"
    with ResultLog(path) as log:
        outcomes = [(f"/in/{n}.png", "", record(n)) for n in range(1, 9)]
        log.append(outcomes[:2])
        with pytest.raises(OSError, match="too large"):
            log.append(outcomes[2:])
        os.truncate(path, 0)
        log.append([("/in/9.png", "", record(9))])
    assert numbers(path.read_bytes()) == [9]


def test_many_outcomes_are_synced_in_parts(tmp_path: Path) -> None:
    """A power cut can damage no more than is looked at on opening."""
    outcomes = [(f"/in/{n}.png", "", record(n)) for n in range(1000)]
    with ResultLog(tmp_path / "results.jsonl") as log:
        added = log.append(outcomes)
        assert log.path.stat().st_size <= results.MOST_UNSYNCED
        while added < len(outcomes):
            added += log.append(outcomes[added:])
    assert numbers(log.path.read_bytes()) == list(range(1000))
