"""The Chinese README says the same as the English one, in Chinese."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\([^)]*\)")
HAN = "\u4e00-\u9fff"


def blocks(text: str) -> list[tuple[str, str]]:
    """Every block of commands, settings or output, without indentation and the comments at the ends of its lines."""
    return [(language, re.sub(r"(?<=\S) +# .*", "", textwrap.dedent(block))) for language, block in BLOCK.findall(text)]


def outline(text: str) -> list[str]:
    """The levels of headings, the lists, and the rows of tables, in order."""
    return re.findall(r"^(?:#+ | *[-*] |\d+\. |\|)", BLOCK.sub("", text), re.MULTILINE)


def test_the_same_blocks_in_the_same_order() -> None:
    """Every command and setting of the English README, and no other; comments may be in Chinese."""
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_the_same_outline() -> None:
    """Heading by heading, point by point, row by row."""
    assert outline(CHINESE) == outline(ENGLISH)


def test_the_same_links_and_words_of_code() -> None:
    """Also those within a sentence."""
    for pattern in (r"\]\(([^)]+)\)", r"`([^`\n]+)`"):
        found = [sorted(set(re.findall(pattern, BLOCK.sub("", text)))) for text in (CHINESE, ENGLISH)]
        extra = {"README.md", "README.zh-CN.md", "tail", "base_url", "#"}
        assert set(found[0]) - extra == set(found[1]) - extra


def test_chinese_has_chinese_punctuation() -> None:
    """Full width beside Chinese characters, also in tables."""
    assert not re.findall(rf"[{HAN}] ?[,;:!?()]|[,;:!?()] ?[{HAN}]", LINK.sub("", BLOCK.sub("", CHINESE)))


def test_they_link_to_each_other() -> None:
    """From the top."""
    assert "(README.zh-CN.md)" in ENGLISH[:200]
    assert "(README.md)" in CHINESE[:200]
