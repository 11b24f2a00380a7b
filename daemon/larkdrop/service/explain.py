"""Why a file is or isn't uploaded: every sentence of ``larkdrop explain``.

What decides here is what decides for the worker: the rules stand in ``folder`` and ``lark``.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from larkdrop.config.settings import Settings, Watch
from larkdrop.errors import PictureFault
from larkdrop.folder import sidecar
from larkdrop.folder.drop import Drop, belongs, ignored_by
from larkdrop.folder.picture import Changed, NotAFile, Picture
from larkdrop.folder.scan import Scan
from larkdrop.folder.settle import left_to_settle
from larkdrop.lark.gate import Hold
from larkdrop.pipeline.inspect import inspect
from larkdrop.pipeline.lanes import Place
from larkdrop.records.index import File, Index
from larkdrop.records.key_cache import Content
from larkdrop.records.sidecar_fields import Record
from larkdrop.service.keys import FileNow, file_now
from larkdrop.service.parts import Parts
from larkdrop.service.status import NOTICEABLE, rejected_files, status
from larkdrop.service.texts import counted, duration, local_time, upcoming


@dataclass(frozen=True)
class Answer:
    """Why a file is or isn't uploaded: ``state`` in one word, ``says`` in a sentence, ``hint`` what one could do."""

    path: str
    state: str
    says: str
    hint: str = ""
    image_key: str = ""
    same_as: tuple[str, ...] = ()  # other paths with the same content


def explain(paths: Sequence[str], settings: Settings, index: Index, live: Parts | None) -> Iterator[Answer]:
    """Why each file is or isn't uploaded, by absolute paths; of a folder also the files in it that need attention.

    Without paths, everything that needs attention.
    """
    if not paths:
        yield from (Answer("", "needs", need) for need in status(settings, index, live)["needs"])
        hold = live.pace.hold if live else None
        if hold and not hold.needs_person:
            yield Answer("", "held", f"{_held(hold)}. It resumes by itself.", hold.reason.hint)
    folders = [path for path in paths if os.path.isdir(path)] if paths else ["/"]
    attention = [file.path for folder in folders for file in rejected_files(index, folder)]
    if live:
        attention += [path for folder in folders for path in live.failing if Path(path).is_relative_to(folder)]
    for path in dict.fromkeys((*paths, *attention)):
        yield _folder(path, settings, index, live) if os.path.isdir(path) else _file(path, settings, index, live)


def _file(path: str, settings: Settings, index: Index, live: Parts | None) -> Answer:
    watch = settings.watch_of(path)
    if watch and (answer := skipped(watch, path) or (_in_hand(path, live) if live else None)):
        return answer
    known = index.file(path)
    try:
        now = file_now(path, watch)
    except NotAFile:
        return _gone(path, known, _by(known, settings, index)) if watch or known else not_watched(path, settings)
    except Changed:
        return Answer(path, "writing", "It is being written right now.")
    except OSError as error:
        return unreadable(path, error, "read", live)
    if now.record:
        return _recorded(path, now.record, known, index)
    if known and known.status == "uploaded" and known.sha256 == now.sha256:
        return _uploaded_without_sidecar(path, watch, known, now, _by(known, settings, index))
    if watch is None or now.read is None:
        return not_watched(path, settings)
    return _to_come(Drop(path, watch), now.read, settings, live, changed=now.changed)


def _folder(path: str, settings: Settings, index: Index, live: Parts | None) -> Answer:
    watch = settings.watch_of(path)
    uploaded = sum(1 for _ in index.files(below=path, status="uploaded"))
    if watch is None:
        watched = [str(one.path) for one in settings.watch if one.path.is_relative_to(path)]
        if not uploaded and not watched:
            return not_watched(path, settings)
        pictures = counted(uploaded, "picture was", "pictures were")
        says = f"It is not watched itself; {pictures} uploaded from it or moved to it."
        return Answer(path, "folder", says, f"Watched in it: {', '.join(watched)}." if watched else "")
    if answer := _kept_out(watch, path, path):
        return answer
    errors: dict[str, OSError] = {}
    rejected = {file.path for file in rejected_files(index, path)}
    found = Scan(watch, below=path, changed=False, unreadable=errors.__setitem__)
    waiting = sum(drop.path not in rejected for drop in found)
    known = live.rescan.unreadable if live else ()  # of which a line of its own tells
    for folder, error in errors.items():
        if folder == path or folder not in known:
            return unreadable(folder, error, "list", live)
    kind = "a watched folder" if path == str(watch.path) else "in a watched folder"
    says = f"It is {kind}: {uploaded:,} uploaded, {len(rejected):,} rejected, {waiting:,} without an outcome yet."
    return Answer(path, "folder", says)


def _in_hand(path: str, live: Parts) -> Answer | None:
    """Where in the daemon the file is now; None where no part has it."""
    place, hold = live.queue.place(path), live.pace.hold
    if place is None:
        until = live.settle.until(path)
        if until is None:
            return None
        says = f"It is still being written, or its end is missing; larkdrop checks it again {upcoming(until)}."
        return Answer(path, "settling", says)
    if place.where == "working":
        return Answer(path, "uploading", "It is being uploaded now.")
    if outcome := place.job.outcome:
        record, due = outcome.record, upcoming(place.job.due)
        key = f": {record.image_key}" if record.image_key else ""
        says = f"It is {record.status}{key}, but that could not be recorded. The next try is {due}."
        return Answer(path, record.status, says, image_key=record.image_key)
    if hold:
        return Answer(path, "held", f"{_held(hold)}.", hold.reason.hint)
    return _in_backoff(path, place) if place.where == "backoff" else _in_line(path, place, live)


def _in_backoff(path: str, place: Place) -> Answer:
    job, fault = place.job, place.job.fault
    times = "once" if job.failures == 1 else f"{job.failures} times in a row"
    reason = f": {fault}" if fault else ""
    says = f"It failed {times}{reason}. The next try is {upcoming(job.due)}."
    return Answer(path, "backoff", says, fault.hint if fault else "")


def _in_line(path: str, place: Place, live: Parts) -> Answer:
    says = f"It waits behind {counted(place.ahead, 'other')}" if place.ahead else "It is next"
    seconds, why = live.pace.limited(place.ahead)
    limited = f", for about {duration(seconds)}: {why}" if seconds >= NOTICEABLE else ""
    return Answer(path, "waiting", f"{says}{limited}.")


def _recorded(path: str, record: Record, known: File | None, index: Index) -> Answer:
    if record.status == "rejected":
        hint = record.error_hint or "Correct or replace the file; larkdrop then takes it again."
        return Answer(path, "rejected", f"It was rejected: {record.error_message}.", hint)
    same = tuple(index.same_content(known)) if known else ()
    also = f" The same content: {', '.join(same)}." if same else ""
    says = f"It was uploaded at {record.at}: {record.image_key}.{_by_host(record.host)}{also}"
    return Answer(path, "uploaded", says, image_key=record.image_key, same_as=same)


def _by(known: File | None, settings: Settings, index: Index) -> str:
    """Which host uploaded a file, in words, as far as the key cache knows."""
    watch = settings.watch_of(known.path) if known else None
    if known is None or watch is None:
        return ""
    by, fleet = index.uploaded_by(Content.of(settings.lark, watch.image_type, known.sha256)), settings.fleet
    return _by_host(fleet.host if by == "" and fleet.url.get_secret_value() else by)


def _by_host(host: str | None) -> str:
    return f" The host {host} uploaded it." if host else ""


def _uploaded_without_sidecar(path: str, watch: Watch | None, known: File, now: FileNow, by: str) -> Answer:
    key = f"{known.image_key}.{by}"
    if watch is None:
        says, hint = f"It was uploaded from {known.path}: {key}", ""
    elif now.name_taken:
        says, hint = f"It was uploaded: {key} Another file has its sidecar's name.", ""
    else:
        says, hint = f"It was uploaded: {key} Its sidecar is missing.", "The next rescan writes it again."
    return Answer(path, "uploaded", says, hint, known.image_key)


def _gone(path: str, known: File | None, by: str) -> Answer:
    """What became of a file that is not there, as far as the key cache knows."""
    if os.path.lexists(path):
        return Answer(path, "missing", "It is not a regular file, or a link leads to it.")
    if known is None:
        return Answer(path, "missing", "There is no such file.")
    places = {None: "It is gone", "": "It was deleted", path: f"It was moved here from {known.path}, and is gone"}
    where = places.get(known.place, f"It was moved to {known.place}")
    if known.status == "rejected":
        return Answer(path, "missing", f"{where}; it had been rejected: {known.error}.")
    return Answer(path, "uploaded", f"{where}; it had been uploaded: {known.image_key}.{by}", image_key=known.image_key)


def _to_come(drop: Drop, read: Picture, settings: Settings, live: Parts | None, *, changed: bool) -> Answer:
    """What becomes of a file that no part has in hand, by the rules that the worker goes by."""
    path, news = drop.path, "It changed after its last outcome. " if changed else ""
    try:
        inspect(read, drop.watch.image_type)
    except PictureFault as fault:
        return Answer(path, "waiting", f"{news}As it is, it will be rejected: {fault.message}.", fault.hint)
    if left := left_to_settle(drop, read, settings.upload.settle_seconds):
        return Answer(path, "settling", f"{news}It must stay unchanged for another {left:.0f} s.")
    if live is None:
        says = f"{news}It is ready to be uploaded, but larkdrop is not running."
        return Answer(path, "waiting", says, "Start larkdrop.")
    rescan = upcoming(live.rescan.next_due[drop.watch])
    says = f"{news}It is ready to be uploaded, but no event announced it. The next rescan is {rescan}."
    return Answer(path, "waiting", says, "`larkdrop retry PATH` takes it now.")


def _held(hold: Hold) -> str:
    return f"larkdrop is held: {hold.reason}, since {local_time(hold.since):%Y-%m-%d %H:%M:%S}"


def not_watched(path: str, settings: Settings) -> Answer:
    """What is said of a path that no watched folder holds."""
    folders = ", ".join(str(watch.path) for watch in settings.watch)
    return Answer(path, "outside", "It is not in a watched folder.", f"Watched: {folders}.")


def skipped(watch: Watch, path: str) -> Answer | None:
    """Why a file is not taken at all, by its name or by the folders on the way; None for one that is."""
    if path == str(watch.path):
        return Answer(path, "missing", "There is no such folder.", "Create it, or correct its path in the config.")
    if belongs(watch, path):
        return None
    folder, name = os.path.split(path)
    if answer := _kept_out(watch, folder, path):
        return answer
    if sidecar.is_ours(name):
        says = "It is a sidecar, which larkdrop itself writes, or has the name of one."
        return Answer(path, "ignored", says, "Ask about the picture beside it; if this is a picture, rename it.")
    wanted = ", ".join(map(repr, watch.patterns))
    return Answer(path, "ignored", f"Its name matches none of the patterns {wanted}.", "See patterns in the config.")


def _kept_out(watch: Watch, folder: str, path: str) -> Answer | None:
    """Why ``path`` is passed over: ``folder`` is a sub-folder, or a pattern ignores a part of the path."""
    if folder != str(watch.path) and not watch.recursive:
        return Answer(path, "ignored", f"{watch.path} is watched without its sub-folders.", "Set recursive = true.")
    for part in Path(path).relative_to(watch.path).parts:
        if pattern := ignored_by(watch, part):
            says = f"{part} is ignored, by the pattern {pattern!r}."
            return Answer(path, "ignored", says, "See ignore in the config.")
    return None


def unreadable(path: str, error: OSError, verb: str, live: Parts | None) -> Answer:
    """Who can't read a file or list a folder, and what to do."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container
        user = str(os.geteuid())
    barrier = next((str(one) for one in reversed(Path(path).parents) if not os.access(one, os.X_OK)), "")
    cure = f"{user} enter {barrier}" if barrier else f"{user} {verb} it"
    who, hint = "larkdrop", f"Let {cure}; every rescan tries again."
    if live is None:
        who, hint = "This command", f"Ask while larkdrop is running, or as larkdrop's user; or let {cure}."
    return Answer(path, "unreadable", f"{who}, as the user {user}, can't {verb} it: {error.strerror}.", hint)
