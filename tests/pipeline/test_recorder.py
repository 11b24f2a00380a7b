"""Each folder is recorded by itself: no other one's disk holds it up."""

from __future__ import annotations

import threading
from collections.abc import Container
from functools import partial
from pathlib import Path

import pytest

from larkdrop.config.settings import Settings
from larkdrop.folder import after_upload
from larkdrop.folder.drop import Drop
from larkdrop.folder.sidecar import name_for
from larkdrop.lark.client import Uploaded
from larkdrop.records.sidecar_fields import Record
from larkdrop.service.parts import build
from tests.helpers import picture, wait_until


def test_a_disk_to_move_to_that_hangs_holds_up_its_own_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network drive does that is gone: what is dropped into the other folder is moved meanwhile."""
    inboxes = [tmp_path / "a", tmp_path / "b"]
    for inbox in inboxes:
        inbox.mkdir()
        (inbox / "new.png").write_bytes(picture())
    settings = Settings.model_validate({
        "lark": {"app_id": "cli_x", "app_secret": "s", "base_url": "http://127.0.0.1:9"},
        "watch": [
            {"path": str(inbox), "after_upload": "move", "move_to": str(tmp_path / "done" / inbox.name)}
            for inbox in inboxes
        ],
        "state": {"dir": str(tmp_path / "state")},
    })  # fmt: skip
    (tmp_path / "state").mkdir()
    parts, back = build(settings), threading.Event()
    place_for = after_upload.place_for

    def hang(target: Path, name: str, record: Record, taken: Container[str]) -> Path:
        if target.name == "a":
            back.wait(60)
        return place_for(target, name, record, taken)

    monkeypatch.setattr(after_upload, "place_for", hang)
    monkeypatch.setattr(parts.client, "upload", lambda *_: Uploaded("key", ""))
    threads = [threading.Thread(target=partial(parts.recorder.run, watch), daemon=True) for watch in settings.watch]
    with parts.cache, parts.results:
        for thread in threads:
            thread.start()
        for watch in settings.watch:
            parts.queue.put(Drop(str(watch.path / "new.png"), watch, closed=True))
            job = parts.queue.take()
            assert job
            parts.worker.handle(job)
        wait_until((tmp_path / "done" / "b" / name_for("new.png")).exists, 20, "the other folder")
        assert not (tmp_path / "done" / "a").exists()
        back.set()
        wait_until((tmp_path / "done" / "a" / name_for("new.png")).exists, 20)
        parts.recorder.stop()
        for thread in threads:
            thread.join(10)
