"""A candidate: a path that may hold a picture, and what is known of its being finished."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from functools import cache

from larkdrop.config.settings import Watch
from larkdrop.folder import sidecar
from larkdrop.folder.picture import Stamp


@dataclass(frozen=True)
class Drop:
    """``path`` is absolute, below ``watch.path``.

    ``closed``: a writer was just seen to close or rename it. ``quiet`` is for how many seconds its state was seen to
    be ``stamp``. ``by_scan``: no event told of it.
    """

    path: str
    watch: Watch
    closed: bool = False
    stamp: Stamp | None = None
    quiet: float = 0.0
    by_scan: bool = False


@cache
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)", re.IGNORECASE)


def _is_like(patterns: tuple[str, ...], name: str) -> bool:
    """Whether a name is like one of the patterns."""
    return patterns == ("*",) or _matcher(patterns).match(name) is not None


def ignored(watch: Watch, name: str) -> bool:
    """Whether a file or folder of this name is to be skipped."""
    return _is_like(watch.ignore, name)


def ignored_by(watch: Watch, name: str) -> str | None:
    """The first pattern by which a file or folder of this name is skipped."""
    return next((pattern for pattern in watch.ignore if _is_like((pattern,), name)), None)


def wanted(watch: Watch, name: str) -> bool:
    """Whether a file of this name is to be taken."""
    return not sidecar.is_ours(name) and _is_like(watch.patterns, name) and not _is_like(watch.ignore, name)


def in_ignored(watch: Watch, folder: str) -> bool:
    """Whether a folder below the watched one, or one on the way to it, is to be skipped."""
    return any(ignored(watch, part) for part in os.path.relpath(folder, watch.path).split("/"))


def belongs(watch: Watch, path: str) -> bool:
    """Whether ``path``, below the watched folder, is to be taken: by its name and by every folder on the way."""
    folder, name = os.path.split(path)
    if folder == str(watch.path):
        return wanted(watch, name)
    return watch.recursive and wanted(watch, name) and not in_ignored(watch, folder)
