"""What the documents point to is there: files, headings, tests, modules; the settings that they show are settings."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from larkdrop.config.settings import SECTIONS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# Paths of the checkout, as they stand in text and commands; those of a module may leave its package's folder out.
PATH = re.compile(r"(?<![\w/~.-])((?:tests|docs|systemd|daemon|\.ci)/[\w@./-]*\w)")
MODULE = re.compile(r"(?<![\w/-])((?:commands|service|sandbox|pipeline|folder|lark|records|config)/[a-z_]+\.py)")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and GitLab make it."""
    text = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading.strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of this checkout, and where it names one, to a heading in it."""
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(heading) for heading in HEADING.findall(file.read_text(encoding="utf-8"))}, target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """Tests in commands, units, modules."""
    text = page.read_text(encoding="utf-8")
    for name in PATH.findall(text):
        assert (ROOT / name).exists(), name
    for name in MODULE.findall(text):
        assert (ROOT / "daemon/larkdrop" / name).exists() or (ROOT / "tests" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_settings_can_be_read(page: Path) -> None:
    """TOML with known keys; JSON, a document or one a line."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, "toml"):
        for name, section in tomllib.loads(re.sub("^ {3}", "", block, flags=re.MULTILINE)).items():
            for table in section if isinstance(section, list) else [section]:
                assert set(table) <= set(SECTIONS[name].model_fields)
    for block in blocks(text, "json"):
        json.loads(block)
