"""A file as it is now: its content, and whether the record beside it is about that content."""

from __future__ import annotations

import os
from dataclasses import dataclass

from larkdrop.config.settings import Watch
from larkdrop.folder import picture, sidecar
from larkdrop.folder.picture import Picture
from larkdrop.lark import accepted_images
from larkdrop.records.record import Record


@dataclass(frozen=True)
class FileNow:
    """What was found at a path."""

    record: Record | None  # the one beside it, where it is about this content
    read: Picture | None  # None where two stats prove the record
    changed: bool = False  # the record beside it is about other content
    name_taken: bool = False  # a file that larkdrop did not write has the sidecar's name


def file_now(path: str, watch: Watch | None) -> FileNow:
    """The file at an absolute path. Raises NotAFile, Changed, OSError."""
    with picture.parent_of(str(watch.path) if watch else os.path.dirname(path), path) as (folder, name):
        _, proven = sidecar.look(folder, name, picture.stamp(folder, name))
        if proven:
            return FileNow(proven, None)
        read = picture.read(folder, name, accepted_images.MAX_BYTES)
        try:
            record = sidecar.read(folder, name)
        except sidecar.Foreign:
            return FileNow(None, read, name_taken=True)
    if record and record.speaks_of(name, read.sha256, read.stamp.size):
        return FileNow(record, read)
    return FileNow(None, read, changed=record is not None)
