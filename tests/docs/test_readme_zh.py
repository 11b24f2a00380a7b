"""The Chinese README says the same as the English one."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def blocks(text: str) -> list[tuple[str, str]]:
    """Every block of commands, settings or output, without indentation."""
    found = re.findall(r"^ *```(sh|bash|toml|json|console)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [(language, textwrap.dedent(block)) for language, block in found]


def test_the_same_blocks_in_the_same_order() -> None:
    """Every command that the English README has, and no other."""
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_the_same_config_keys_and_defaults() -> None:
    """Row by row."""
    row = re.compile(r"^\| `([a-z]+\.[a-z_]+)` \| (`.*?`)?", re.MULTILINE)
    assert row.findall(CHINESE) == row.findall(ENGLISH)
    assert row.findall(CHINESE)


def test_the_same_commands_and_sidecar_fields() -> None:
    """Inline commands and the fields of the tables."""
    inline = re.compile(r"`(larkdrop [a-z]+[^`]*|PIPX_[^`]*)`")
    assert sorted(set(inline.findall(CHINESE))) == sorted(set(inline.findall(ENGLISH)))
    fields = set(re.findall(r"`([a-z_]+)`", ENGLISH.split("### The sidecar")[1].split("### The result log")[0]))
    assert fields <= set(re.findall(r"`([a-z_]+)`", CHINESE))


def test_they_link_to_each_other() -> None:
    """From the top."""
    assert "(README.zh-CN.md)" in ENGLISH[:200]
    assert "(README.md)" in CHINESE[:200]
