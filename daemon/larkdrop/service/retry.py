"""Try rejected files again, and at once what waits in backoff, where it is named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from larkdrop.config.settings import Settings
from larkdrop.folder import picture, sidecar
from larkdrop.folder.drop import Drop
from larkdrop.folder.picture import NotAFile
from larkdrop.records.index import Index
from larkdrop.service.explain import Answer, not_watched, skipped, unreadable
from larkdrop.service.parts import Parts
from larkdrop.service.status import rejected_files


def retry(paths: Sequence[str], settings: Settings, index: Index, live: Parts | None) -> Iterator[Answer]:
    """Forget that files were rejected, and try them again: those at absolute paths, those below folders, or all."""
    for path in paths or [""]:
        if path and not os.path.isdir(path):
            yield _retry(path, settings, live)
            continue
        files = [file.path for file in rejected_files(index, path)]
        if path and live:
            files += [one for one in live.queue.in_backoff() if Path(one).is_relative_to(path)]
        if path and not files:
            watched = settings.watch_of(path) is not None
            nothing = Answer(path, "done", "Nothing in it was rejected or waits for its next try.")
            yield nothing if watched else not_watched(path, settings)
        for file in files:
            yield _retry(file, settings, live)


def _retry(path: str, settings: Settings, live: Parts | None) -> Answer:
    watch = settings.watch_of(path)
    if watch is None:
        return not_watched(path, settings)
    if answer := skipped(watch, path):
        return answer
    try:
        with picture.parent_of(str(watch.path), path) as (folder, name):
            proven = sidecar.look(folder, name, picture.stamp(folder, name))
            record = None
            with suppress(sidecar.Foreign):
                record = sidecar.read(folder, name)
            if proven and proven.status == "uploaded":
                return Answer(path, "uploaded", "It is already uploaded.", image_key=proven.image_key)
            if live:  # that the worker can read it, too
                os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
            was_rejected = record is not None and record.status == "rejected"
            if was_rejected:
                try:
                    sidecar.remove(folder, name)
                except OSError as error:
                    hint = "Run it as larkdrop's user, or while larkdrop is running."
                    return Answer(path, "unreadable", f"Its sidecar can't be removed: {error.strerror}.", hint)
    except NotAFile:
        return Answer(path, "missing", "There is no such file.")
    except OSError as error:
        return unreadable(path, error, "read", live)
    if live:
        live.queue.put(Drop(path, watch, closed=True))
    what = "It was rejected; it is tried again" if was_rejected else "It is tried again"
    return Answer(path, "waiting", f"{what} {'now' if live else 'when larkdrop runs'}.")
