"""What is left to do: every file that is known counts once."""

from __future__ import annotations

from pathlib import Path

from larkdrop.config.settings import Settings
from larkdrop.folder.drop import Drop
from larkdrop.service.parts import build
from tests.helpers import picture


def test_a_file_that_a_scan_and_an_event_found_counts_once(tmp_path: Path) -> None:
    """The scan's find is to settle, as a file that nobody closed; that it was closed is known before that is decided.

    Nor does it count twice while it settles, or while a worker has it.
    """
    settings = Settings.model_validate({
        "lark": {"app_id": "cli_x", "app_secret": "s"},
        "watch": [{"path": str(tmp_path)}],
        "state": {"dir": str(tmp_path / "state")},
    })  # fmt: skip
    parts, watch = build(settings), settings.watch[0]
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    parts.queue.put_backlog(Drop(str(path), watch, by_scan=True))
    job = parts.queue.take()
    assert job
    assert parts.left == 1
    parts.intake.finished(Drop(str(path), watch, closed=True))
    parts.worker.handle(job)
    assert parts.left == 1
    assert parts.queue.take()
    assert parts.left == 1
