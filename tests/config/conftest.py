"""Config files to load, and what is said of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from larkdrop.config.load import load
from larkdrop.errors import ConfigError

GOOD = """
[lark]
app_id = "cli_x"
app_secret = "very secret"
[[watch]]
path = "inbox"
"""


CANARY = "canary-7f3a"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a config file beside a folder ``inbox``."""
    (tmp_path / "inbox").mkdir()

    def write_it(text: str) -> Path:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_it


def problems(file: Path) -> str:
    """What is said of a bad config."""
    with pytest.raises(ConfigError) as caught:
        load(file)
    return "\n".join([str(caught.value), *caught.value.problems, caught.value.hint])
