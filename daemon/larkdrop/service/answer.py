"""An answer about one file, and why a file is not taken at all: not watched, skipped by its name, not readable."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from larkdrop.config.settings import Settings, Watch
from larkdrop.folder import sidecar
from larkdrop.folder.drop import belongs, ignored_by
from larkdrop.service.parts import Parts


@dataclass(frozen=True)
class Answer:
    """Why a file is or isn't uploaded: ``state`` in one word, ``says`` in a sentence, ``hint`` what one could do."""

    path: str
    state: str
    says: str
    hint: str = ""
    image_key: str = ""
    same_as: tuple[str, ...] = ()  # other paths with the same content


def not_watched(path: str, settings: Settings) -> Answer:
    """What is said of a path that no watched folder holds."""
    folders = ", ".join(str(watch.path) for watch in settings.watch)
    return Answer(path, "outside", "It is not in a watched folder.", f"Watched: {folders}.")


def skipped(watch: Watch, path: str) -> Answer | None:
    """Why a file is not taken at all, by its name or by the folders on the way; None for one that is."""
    if belongs(watch, path):
        return None
    folder, name = os.path.split(path)
    if answer := skipped_folder(watch, folder, path):
        return answer
    if pattern := ignored_by(watch, name):
        return _ignored(path, name, pattern)
    if sidecar.is_ours(name):
        says = "It is a sidecar, which larkdrop itself writes, or has the name of one."
        return Answer(path, "ignored", says, "Ask about the picture beside it; if this is a picture, rename it.")
    wanted = ", ".join(map(repr, watch.patterns))
    return Answer(path, "ignored", f"Its name matches none of the patterns {wanted}.", "See patterns in the config.")


def skipped_folder(watch: Watch, folder: str, path: str) -> Answer | None:
    """Why nothing is taken from a folder, and so not ``path``."""
    if folder == str(watch.path):
        return None
    if not watch.recursive:
        return Answer(path, "ignored", f"{watch.path} is watched without its sub-folders.", "Set recursive = true.")
    for part in os.path.relpath(folder, watch.path).split("/"):
        if pattern := ignored_by(watch, part):
            return _ignored(path, part, pattern)
    return None


def _ignored(path: str, part: str, pattern: str) -> Answer:
    return Answer(path, "ignored", f"{part} is ignored, by the pattern {pattern!r}.", "See ignore in the config.")


def unreadable(path: str, error: OSError, verb: str, live: Parts | None) -> Answer:
    """Who can't read a file or list a folder, and what to do."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    barrier = next((str(one) for one in reversed(Path(path).parents) if not os.access(one, os.X_OK)), "")
    cure = f"let {user} enter {barrier}" if barrier else f"let {user} {verb} it"
    who = "larkdrop" if live else "This command"
    hint = (
        f"{cure.capitalize()}; every rescan tries again."
        if live
        else f"Ask while larkdrop is running, or as larkdrop's user; or {cure}."
    )
    return Answer(path, "unreadable", f"{who}, as the user {user}, can't {verb} it: {error.strerror}.", hint)
