"""A file as it is now, and which keys a person means: by folder, file, or pattern of names."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from larkdrop.config.settings import Settings, Watch
from larkdrop.fleet.facts import KeyQuery
from larkdrop.folder import picture, sidecar
from larkdrop.folder.picture import Changed, NotAFile, Picture
from larkdrop.lark import accepted_images
from larkdrop.records.index import File, Index
from larkdrop.records.sidecar_fields import Record


@dataclass(frozen=True)
class FileNow:
    """What was found at a path."""

    sha256: str
    record: Record | None  # the one beside it, where it is about this content
    read: Picture | None  # None where two stats prove the record
    changed: bool = False  # the record beside it is about other content
    name_taken: bool = False  # a file that larkdrop did not write has the sidecar's name


def file_now(path: str, watch: Watch | None) -> FileNow:
    """The file at an absolute path. Raises NotAFile, Changed, OSError."""
    with picture.parent_of(str(watch.path) if watch else os.path.dirname(path), path) as (folder, name):
        if proven := sidecar.look(folder, name, picture.stamp(folder, name)):
            return FileNow(proven.sha256, proven, None)
        read = picture.read(folder, name, accepted_images.MAX_BYTES)
        try:
            record = sidecar.read(folder, name)
        except sidecar.Foreign:
            return FileNow(read.sha256, None, read, name_taken=True)
    if record and record.speaks_of(name, read.sha256, read.stamp.size):
        return FileNow(read.sha256, record, read)
    return FileNow(read.sha256, None, read, changed=record is not None)


@dataclass(frozen=True)
class Key:
    """``path`` is where the image was dropped, or where it is now if that was named."""

    path: str
    image_key: str
    uploaded_at: str  # RFC 3339, UTC
    size: int  # bytes
    sha256: str
    moved_to: str | None = None  # empty where the image was deleted

    @property
    def names(self) -> tuple[str, ...]:
        """The paths by which the image is known."""
        return (self.path, self.moved_to) if self.moved_to else (self.path,)


@dataclass(frozen=True)
class Keys:
    """Finds the keys of uploads from ``since`` and before ``until`` (RFC 3339, UTC; empty for any).

    ``every`` adds the keys of contents that a file had before.
    """

    settings: Settings
    index: Index
    since: str = ""
    until: str = ""
    every: bool = False

    def of(self, given: str, path: str) -> Iterator[Key]:
        """The keys of a folder, a file or a pattern, as ``given`` and as an absolute path; every key where empty."""
        if not given or os.path.isdir(path):
            yield from self._uploaded(below=path if given else "")
        elif self.every and (keys := list(self._uploaded(at=path))):
            yield from keys
        elif key := self._of_file(path):
            if self.since <= key.uploaded_at and (not self.until or key.uploaded_at < self.until):
                yield key
        elif not (os.path.lexists(path) and self.settings.watch_of(path)):
            yield from self._matching(path if "/" in given else given, whole_path="/" in given)

    def may_come(self, path: str) -> bool:
        """Whether waiting for a key makes sense: not for what has its outcome."""
        try:
            return file_now(path, self.settings.watch_of(path)).record is None
        except (NotAFile, Changed, OSError):
            return True

    def _uploaded(self, *, below: str = "", at: str = "") -> Iterator[Key]:
        files = self.index.files(
            status="uploaded", below=below, at=at, since=self.since, until=self.until, every=self.every
        )
        return map(_key, files)

    def _matching(self, pattern: str, *, whole_path: bool) -> Iterator[Key]:
        matches = re.compile(fnmatch.translate(pattern), re.IGNORECASE).match
        for key in self._uploaded():
            if any(matches(name if whole_path else os.path.basename(name)) for name in key.names):
                yield key

    def _of_file(self, path: str) -> Key | None:
        """The key of one file: by the record beside it; else by the key cache, where that is about the same content."""
        try:
            now = file_now(path, self.settings.watch_of(path))
        except Changed:
            return None
        except (NotAFile, OSError):
            now = None
        if now and (record := now.record):
            return Key(path, record.image_key, record.at, record.size, record.sha256) if record.image_key else None
        file = self.index.file(path)
        if file and file.status == "uploaded" and (now is None or file.sha256 == now.sha256):
            return _key(file)
        return None


def fleet_query(given: str, path: str, since: str, until: str, limit: int) -> KeyQuery:
    """What to ask the fleet for: the content of a file here, or names that match; all where nothing is ``given``."""
    query = KeyQuery(since, until, limit=limit)
    if not given:
        return query
    try:
        return replace(query, sha256=file_now(path, None).sha256)
    except (NotAFile, Changed, OSError):
        return replace(query, name=given)


def _key(file: File) -> Key:
    return Key(file.path, file.image_key, file.at, file.size, file.sha256, file.place)
