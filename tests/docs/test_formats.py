"""What a real larkdrop writes is what docs/formats.md and its two schemas say, and the schemas refuse anything else."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_for_sidecar, wait_until

DOCS = Path(__file__).parents[2] / "docs"
SCHEMAS = {name: json.loads((DOCS / name).read_text()) for name in ("sidecar.schema.json", "result-log.schema.json")}
REGISTRY: Registry[Any] = Registry().with_resources((name, Resource.from_contents(SCHEMAS[name])) for name in SCHEMAS)
SIDECAR, LINE = (Draft202012Validator(schema, registry=REGISTRY) for schema in SCHEMAS.values())
PAGE = (DOCS / "formats.md").read_text(encoding="utf-8")
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")
# One of each kind of rejection: by larkdrop, with what the content tells of the picture.
REJECTED = {
    "empty.png": (b"", None),
    "text.png": (b"I only claim to be a picture.\n", None),
    "large.png": (picture(1) + bytes(10 * 1024 * 1024), "PNG"),
    "many pixels.gif": (picture(2, "GIF", (2001, 1)), "GIF"),
    "named.jpg": (b"%PDF-1.7\n", "PDF"),
}


class Written:
    """Everything that a real daemon wrote: ``sidecars`` by the image's name, ``lines`` of the result log in order."""

    def __init__(self) -> None:
        self.sidecars: dict[str, dict[str, Any]] = {}
        self.lines: list[dict[str, Any]] = []

    def add(self, daemon: Daemon, *paths: Path) -> None:
        """Wait for the outcome of each, and take it in."""
        self.sidecars |= {path.name: wait_for_sidecar(path) for path in paths}
        wait_until(lambda: len(daemon.results()) >= len(paths), what="every line")
        self.lines += daemon.results()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Uploaded, reused, rejected in several ways and by the platform too, moved, and a name that is not UTF-8."""
    made = Written()
    with Sandbox(edition="lark") as lark:
        kept = Daemon(tmp_path_factory.mktemp("kept"), lark)
        with kept:
            first = kept.drop("photo.jpg", picture(3, "JPEG"))
            wait_for_sidecar(first)
            names = {**{name: content for name, (content, _) in REJECTED.items()}, "iphone.heic": picture(4, "HEIC")}
            names |= {"copy.jpg": picture(3, "JPEG"), NOT_UTF8: picture(5)}
            made.add(kept, first, *(kept.drop(name, content) for name, content in names.items()))
        home = tmp_path_factory.mktemp("moved")
        watch = {"path": home / "inbox", "after_upload": "move", "move_to": home / "done"}
        moving = Daemon(home, lark, watch=[watch])
        with moving:
            moving.drop("moved.png", picture(6))
            made.add(moving, home / "done" / "moved.png")
            wait_until((home / "done" / "moved.png").exists, what="the picture, which follows its sidecar")
        credentials = {"app_id": lark.app_id, "app_secret": lark.app_secret}
        url = f"{lark.url}/open-apis/auth/v3/tenant_access_token/internal"
        token = requests.post(url, json=credentials, timeout=5).json()["tenant_access_token"]
        by_token = {"app_id": "", "app_secret": "", "tenant_access_token": token}
        nameless = Daemon(tmp_path_factory.mktemp("token"), lark, lark=by_token)
        with nameless:
            made.add(nameless, nameless.drop("by token.png", picture(7)))
    return made


def line_of(written: Written, name: str) -> dict[str, Any]:
    return next(line for line in written.lines if os.path.basename(line["path"]) == name)


def test_the_schemas_are_schemas() -> None:
    """By the metaschema of their draft."""
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_real_sidecars_and_lines_are_as_the_schemas_say(written: Written) -> None:
    """Valid, and without a field that the schemas don't name."""
    assert len(written.sidecars) == len(written.lines) == len(REJECTED) + 6
    fields = set(SCHEMAS["sidecar.schema.json"]["properties"])
    for name, record in written.sidecars.items():
        SIDECAR.validate(record)
        assert set(record) <= fields, name
    for line in written.lines:
        LINE.validate(line)
        assert set(line) <= fields | set(SCHEMAS["result-log.schema.json"]["properties"])


def test_a_line_is_its_own_fields_and_the_sidecars(written: Written) -> None:
    """In this order: event, timestamp, path, maybe moved_to, then the sidecar's."""
    for line in written.lines:
        own = ["event", "timestamp", "path", *(["moved_to"] if "moved_to" in line else [])]
        record = written.sidecars[os.path.basename(line["path"])]
        assert list(line) == [*own, *record]
        assert {field: line[field] for field in record} == record


def test_the_outcomes_are_told_apart(written: Written) -> None:
    """By event, status, reused and attempts."""
    told = {name: (line_of(written, name)["event"], written.sidecars[name]["attempts"]) for name in written.sidecars}
    assert told == {
        **dict.fromkeys(("photo.jpg", NOT_UTF8, "moved.png", "by token.png"), ("uploaded", 1)),
        "copy.jpg": ("reused", 0), "iphone.heic": ("rejected", 1), **dict.fromkeys(REJECTED, ("rejected", 0)),
    }  # fmt: skip
    assert written.sidecars["copy.jpg"]["log_id"] == written.sidecars["photo.jpg"]["log_id"]
    assert written.sidecars["by token.png"]["app_id"] == ""


@pytest.mark.parametrize("name", REJECTED)
def test_a_rejection_says_what_is_known_of_the_picture(written: Written, name: str) -> None:
    """The format where the content tells it, a code, a sentence, and no log id without a call."""
    record = written.sidecars[name]
    assert record["format"] == REJECTED[name][1]
    assert isinstance(record["error"]["code"], int)
    assert record["error"]["message"]
    assert not record["log_id"]


def test_the_platforms_rejection_has_its_log_id(written: Written) -> None:
    """HEIC is refused by Lark, after a call."""
    assert written.sidecars["iphone.heic"]["log_id"]


def test_a_moved_picture_names_both_places(written: Written) -> None:
    """``path`` is where it was dropped, ``moved_to`` where it is; its sidecar went with it."""
    line = line_of(written, "moved.png")
    assert line["path"].endswith("/inbox/moved.png")
    assert Path(line["moved_to"]).exists()
    assert sidecar_of(Path(line["moved_to"])) == written.sidecars["moved.png"]


def test_a_name_that_is_not_utf_8_can_be_read_again(written: Written) -> None:
    """By Python's surrogate escapes, in pure ASCII."""
    assert "\\udce9" in json.dumps(line_of(written, NOT_UTF8))
    assert os.fsencode(written.sidecars[NOT_UTF8]["file"]) == b"caf\xe9.png"


Change = Callable[[dict[str, Any]], object]
GONE = object()


def put(**fields: Any) -> Change:
    """Give fields other values, or take them away."""

    def change(record: dict[str, Any]) -> None:
        for name, value in fields.items():
            if value is GONE:
                del record[name]
            else:
                record[name] = value

    return change


WRONG_UPLOADED: list[Change] = [
    *(put(**{name: GONE}) for name in SCHEMAS["sidecar.schema.json"]["required"]),
    put(image_key=GONE), put(uploaded_at=GONE), put(image_key=""), put(image_key=7), put(schema=2), put(schema="1"),
    put(status="done"), put(status="rejected"), put(file=""), put(file="inbox/photo.jpg"), put(image_type="photo"),
    put(api="v4"), put(app_id=None), put(sha256="ABC"), put(sha256="F" * 64), put(size=-1), put(size="7329"),
    put(mtime_ns=1.5), put(format=1), put(width=0), put(height="320"), put(uploaded_at="2026-11-23 09:43:05"),
    put(uploaded_at="2026-11-23T09:43:05.872+00:00"), put(rejected_at="2026-11-23T09:43:05.872Z"), put(attempts=-1),
    put(attempts=0.5), put(reused="no"), put(log_id=None), put(error={"code": None, "message": "x", "hint": ""}),
]  # fmt: skip
WRONG_REJECTED: list[Change] = [
    put(error=GONE), put(rejected_at=GONE), put(error="too large"), put(error={"message": "x", "hint": ""}),
    put(error={"code": "1", "message": "x", "hint": ""}), put(error={"code": 1, "message": "", "hint": ""}),
    put(error={"code": 1, "message": "x", "hint": None}), put(image_key="img_x"), put(reused=True),
    put(uploaded_at="2026-11-23T09:43:05.872Z"), put(status="uploaded"),
]  # fmt: skip
WRONG_LINE: list[Change] = [
    put(event=GONE), put(timestamp=GONE), put(path=GONE), put(event="moved"), put(event="reused"),
    put(event="rejected"), put(path="photo.jpg"), put(timestamp="now"), put(moved_to=""),
    put(moved_to="done/photo.jpg"), put(reused=True),
]  # fmt: skip


def test_wrong_sidecars_are_refused(written: Written) -> None:
    """Each with one fault; a field that is new is none."""
    for name, changes in {"photo.jpg": WRONG_UPLOADED, "text.png": WRONG_REJECTED}.items():
        for number, change in enumerate(changes):
            record = copy.deepcopy(written.sidecars[name])
            change(record)
            assert not SIDECAR.is_valid(record), f"{name}, change {number}: {record}"
        SIDECAR.validate(written.sidecars[name] | {"new": [1, 2, 3]})


def test_wrong_lines_are_refused(written: Written) -> None:
    """By their own fields and by the sidecar's."""
    for number, change in enumerate([*WRONG_LINE, *WRONG_UPLOADED]):
        line = copy.deepcopy(line_of(written, "photo.jpg"))
        change(line)
        assert not LINE.is_valid(line), f"change {number}: {line}"
    rejected = line_of(written, "text.png")
    assert not LINE.is_valid(rejected | {"moved_to": "/srv/done/text.png"})
    LINE.validate(rejected | {"new": None})


def test_the_page_has_every_field_and_true_examples() -> None:
    """A row a field; what is shown is valid."""
    sidecar, line = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    SIDECAR.validate(sidecar)
    LINE.validate(line)
    own, shared = PAGE.split("## The result log")[1], PAGE.split("## The sidecar")[1].split("## The result log")[0]
    for name, text in {"sidecar.schema.json": shared, "result-log.schema.json": own}.items():
        rows = {
            field for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for field in re.findall(r"`(\w+)`", row)
        }
        assert rows == set(SCHEMAS[name]["properties"])
