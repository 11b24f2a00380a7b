"""The reference pages name everything that there is: keys, commands, exit codes, log events."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import larkdrop
from larkdrop import errors
from larkdrop.cli import COMMANDS
from larkdrop.lark import accepted_images
from tests.docs.config_table import PAGE, table

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error"}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def nodes() -> Iterator[ast.AST]:
    """All of the code."""
    for path in Path(larkdrop.__file__).parent.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def texts() -> Iterator[str]:
    """Every text in the code."""
    return (node.value for node in nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str))


def calls() -> Iterator[ast.Call]:
    """Every call in the code."""
    return (node for node in nodes() if isinstance(node, ast.Call))


def events() -> Iterator[str]:
    """What is logged, as far as the call itself names it."""
    for call in calls():
        first = call.args[0] if call.args else None
        if isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS and isinstance(first, ast.Constant):
            yield str(first.value)


def test_the_table_of_keys_is_that_of_the_settings() -> None:
    """``python -m tests.docs.config_table`` writes it anew."""
    assert table() in PAGE.read_text(encoding="utf-8")


def test_every_command_is_explained() -> None:
    """One row each."""
    rows = re.findall(r"^\| `larkdrop ([a-z]+)", page("commands.md"), re.MULTILINE)
    assert rows == sorted(set(rows), key=rows.index)
    assert set(rows) == set(COMMANDS)


def test_every_exit_code_is_explained() -> None:
    """Those of the errors, and click's 2."""
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", page("commands.md"), re.MULTILINE)}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LarkdropError)
    ]
    assert rows == {0, 2} | {kind.exit_code for kind in kinds}


def test_every_log_event_is_explained_and_every_explained_one_is_logged() -> None:
    """By its name."""
    text = page("troubleshooting.md").split("## Log events")[1]
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    debug = set(re.findall(r"`(\w+)`", text.split("At level `debug`")[1]))
    assert set(events()) <= listed | debug <= set(texts())


def test_every_state_of_explain_is_explained() -> None:
    """The second value of each ``Answer``, and none that is not there."""
    text = page("troubleshooting.md").split("## What `explain` says")[1].split("## Log events")[0]
    listed = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    given = {
        call.args[1].value
        for call in calls()
        if isinstance(call.func, ast.Name) and call.func.id == "Answer" and isinstance(call.args[1], ast.Constant)
    }
    assert given <= listed <= set(texts())


def test_every_format_that_is_taken_is_listed() -> None:
    """With the longest sides that are allowed, as a message and as an avatar."""
    rows = re.findall(r"^\| ([A-Z].*?) \|.*\| (.*?) \|$", page("formats.md").split("## The sidecar")[0], re.MULTILINE)
    listed = {form: side for forms, side in rows for form in re.findall("[A-Z]{3,}", forms)}
    assert set(listed) == accepted_images.FORMATS
    for form, side in listed.items():
        allowed = [accepted_images.max_side(form, kind) for kind in ("message", "avatar")]
        assert {int(number.replace(",", "")) for number in re.findall(r"[\d,]+\d", side)} == set(allowed), form
