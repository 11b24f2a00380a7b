"""Where the config file is."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import platformdirs

from larkdrop.config.settings import SECTIONS


def places() -> tuple[Path, ...]:
    """Where a config file is searched for when none is named, in order."""
    user = platformdirs.user_config_path("larkdrop") / "config.toml"
    return Path("config.toml").absolute(), user, Path("/etc/larkdrop/config.toml")


def find(named: Path | None) -> Path | None:
    """The config file: ``named``, else $LARKDROP_CONFIG, else the first of the usual places that has one."""
    if named := named or (Path(os.environ["LARKDROP_CONFIG"]) if os.environ.get("LARKDROP_CONFIG") else None):
        return named.absolute()
    here, *others = places()
    usual = others if is_of_another_program(here) else [here, *others]
    return next((place for place in usual if _may_be_a_file(place)), None)


def not_found() -> str:
    """Where was searched in vain."""
    here, *_ = places()
    foreign = is_of_another_program(here)
    note = f"; {here} is another program's, it has neither [lark] nor [[watch]]" if foreign else ""
    return f"no config file was found; searched {', '.join(map(str, places()))}{note}."


def is_of_another_program(file: Path) -> bool:
    """Whether a file is there and reads well, but has no table that only larkdrop has."""
    try:
        tables = set(tomllib.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError):
        return False
    return not tables & {"lark", "watch"} and not (tables and tables <= set(SECTIONS))


def _may_be_a_file(place: Path) -> bool:
    try:
        return stat.S_ISREG(place.stat().st_mode)
    except PermissionError:
        return True  # it may be, and reading it says what is wrong
    except OSError:
        return False
