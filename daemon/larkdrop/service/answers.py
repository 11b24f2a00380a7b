"""What people ask: is all well, why isn't mine uploaded, take that one again.

The daemon answers through ``control``; without one, a command answers itself, from the folders and the key cache only.
What decides here is what decides for the worker: the rules stand in ``folder`` and ``lark``.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from larkdrop.config.settings import Settings, Watch
from larkdrop.errors import CallFault, LarkdropError, PictureFault
from larkdrop.folder import picture, sidecar
from larkdrop.folder.drop import Drop, belongs, ignored_by
from larkdrop.folder.picture import Changed, NotAFile, Picture
from larkdrop.folder.scan import Scan
from larkdrop.folder.settle import Settle, quiet_for, quiet_needed
from larkdrop.lark import accepted_images
from larkdrop.lark.client import Client
from larkdrop.lark.gate import Hold
from larkdrop.lark.pace import Pace
from larkdrop.pipeline.inspect import inspect
from larkdrop.pipeline.intake import Intake
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.uploader import Uploader
from larkdrop.pipeline.worker import Worker
from larkdrop.records.index import File, Index
from larkdrop.records.record import Record

# Seconds; a shorter wait for the rate limits is not worth a word.
NOTICEABLE = 2.0


@dataclass(frozen=True)
class Live:
    """The parts of a running daemon; ``since`` is when it started, in Unix seconds."""

    since: float
    queue: DropQueue
    settle: Settle
    intake: Intake
    pace: Pace
    recorder: Recorder
    worker: Worker
    uploader: Uploader
    client: Client
    base_url: str

    def hold(self) -> dict[str, Any] | None:
        """Why everything is held, as JSON. That every call is refused as wrong is for a person, too."""
        hold = self.pace.hold
        if hold is None:
            return None
        person = hold.person or isinstance(hold.reason, CallFault)
        return {**_fault(hold.reason), "since": _at(hold.since), "person": person}

    def unanswered(self) -> dict[str, Any] | None:
        """Since when Lark has not answered, where that is an outage, and what was tried, as JSON."""
        counts = self.queue.counts()
        since = self.client.contact.lost_since(waiting=counts.waiting + counts.working > 0)
        if since is None:
            return None
        reason = str(self.uploader.last_fault[1]) if self.uploader.last_fault else ""
        return {"since": _at(since), "url": self.base_url, "proxy": self.client.proxy or None, "reason": reason}

    def waiting(self) -> int:
        """Files that are known and have no outcome yet."""
        counts = self.queue.counts()
        return counts.waiting + counts.working + len(self.settle)

    def failing(self) -> list[str]:
        """Files and folders that something keeps from being taken for now."""
        return [*self.intake.unreadable, *self.worker.unreadable, *self.queue.in_backoff()]


@dataclass(frozen=True)
class Answer:
    """Why a file is or isn't uploaded: ``state`` in one word, ``says`` in a sentence, ``hint`` what one could do."""

    path: str
    state: str
    says: str
    hint: str = ""
    image_key: str = ""
    same_as: tuple[str, ...] = ()  # other paths with the same content


def index_of(settings: Settings) -> Index:
    """The key cache's file, for reading."""
    return Index(settings.state.dir / "keys.sqlite3")


def status(settings: Settings, index: Index, live: Live | None) -> dict[str, Any]:
    """Everything that ``larkdrop status`` shows, as JSON. Without a daemon, what waits is what has no sidecar."""
    uploaded = index.uploaded()
    folders, waiting = [], 0
    rejected = list(rejected_of(index))
    known_bad = {file.path for file in rejected}
    for watch in settings.watch:
        path = str(watch.path)
        waits = (
            live.queue.counts_of(watch).fields() | {"settling": live.settle.count(watch)}
            if live
            else {"waiting": sum(drop.path not in known_bad for drop in Scan(watch, changed=False, unreadable=_ignore))}
        )
        bad = sum(file.watch == path for file in rejected)
        waiting += int(waits["waiting"])
        folders.append(
            {"path": path, "gone": not os.path.isdir(path), "uploaded": uploaded.get(path, 0), **waits}
            | {"rejected": bad}
        )
    today = datetime.now().astimezone()
    spans = {f"{minutes}_min": timedelta(minutes=minutes) for minutes in (1, 5, 15)}
    made: dict[str, Any] = {
        "running": live is not None,
        "pid": os.getpid() if live else None,
        "since": _text(datetime.fromtimestamp(live.since).astimezone()) if live else None,
        "folders": folders,
        "calls": {
            "today": index.uploads_since(f"{today:%Y-%m-%d}"),
            "month": index.uploads_since(f"{today:%Y-%m}-01"),
            "quota": settings.lark.calls_per_month or None,
        },
        "finished": dict(zip(spans, index.outcomes_since(*(today - span for span in spans.values())), strict=True)),
        "held": live.hold() if live else None,
        "unanswered": live.unanswered() if live else None,
        "troubles": [
            *(f"write {trouble}" for trouble in live.recorder.trouble.shown),
            *(f"list {path}" for path in live.intake.unreadable),
            *(f"read {path}" for path in live.worker.unreadable),
        ]
        if live
        else [],
        "last_rejected": {"path": rejected[-1].path, "at": rejected[-1].at, "reason": rejected[-1].error}
        if rejected
        else None,
        "last_error": None,
    }
    if live and live.uploader.last_fault:
        at, fault = live.uploader.last_fault
        made["last_error"] = {"at": at, **_fault(fault)}
    made["needs"] = list(_needs(made, waiting))
    made["late"] = live.queue.late if live else 0
    made["remarks"] = [*_remarks(len(rejected)), *(_busy(live) if live else ())]
    made["well"] = not made["needs"]
    return made


def _needs(status: dict[str, Any], waiting: int) -> Iterator[str]:
    """What a person has to do, a sentence each."""
    if waiting and not status["running"]:
        yield f"Start larkdrop: {waiting:,} {'pictures wait' if waiting > 1 else 'picture waits'}."
    held, unanswered = status["held"], status["unanswered"]
    if held and held["person"]:
        yield f"larkdrop is held: {held['reason']}. {held['hint']}".strip()
    elif unanswered:
        proxy = f"the proxy {unanswered['proxy']}, " if unanswered["proxy"] else ""
        yield f"Check the network, {proxy}and base_url: {silence(unanswered)}."
    for folder in status["folders"]:
        if folder["gone"]:
            yield f"Bring {folder['path']} back, or correct the config: there is no such folder."
    if troubles := status["troubles"]:
        more = f", nor {len(troubles) - 1:,} more" if len(troubles) > 1 else ""
        yield f"Let larkdrop {troubles[0]}, which it can't{more}; `larkdrop explain` and the log say why."


def _remarks(rejected: int) -> Iterator[str]:
    """What is worth knowing and keeps nothing else from being uploaded, a sentence each."""
    if rejected:
        files = "1 file was rejected" if rejected == 1 else f"{rejected:,} files were rejected"
        yield f"{files}; `larkdrop status --rejected` says why."


def _busy(live: Live) -> Iterator[str]:
    """That pictures wait for the rate limits, for how long, and whether more comes in than Lark takes."""
    counts, late = live.queue.counts(), live.queue.late
    waiting = counts.fresh + counts.backlog
    seconds, why = live.pace.limited(waiting)
    pictures = "1 picture" if waiting == 1 else f"{waiting:,} pictures"
    if waiting and late:
        yield (
            f"More comes in than Lark takes: {late:,} of those dropped in the last minute joined the backlog. "
            f"The newest go first; for all {pictures} it takes about {duration(seconds)}."
        )
    elif waiting and seconds >= NOTICEABLE:
        wait = "waits" if waiting == 1 else "wait"
        yield f"{pictures} {wait} for the rate limit, for about {duration(seconds)}: {why}."


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{round(minutes / 60)} h"


def silence(unanswered: dict[str, Any]) -> str:
    """Who has not answered since when, through which proxy, and what the last try came to."""
    way = f" through the proxy {unanswered['proxy']}" if unanswered["proxy"] else ""
    reason = f": {unanswered['reason']}" if unanswered["reason"] else ""
    since = datetime.fromisoformat(unanswered["since"])
    return f"{unanswered['url']} has not answered{way} since {since:%Y-%m-%d %H:%M:%S}{reason}"


@dataclass(frozen=True)
class Found:
    """A file as it is now."""

    record: Record | None  # the one beside it, where it speaks of this content
    read: Picture | None  # None where two stats prove the record
    changed: bool = False  # the record beside it speaks of other content
    taken: bool = False  # the sidecar's place is taken by a file that larkdrop did not write


def find(path: str, watch: Watch | None) -> Found:
    """Look at the file at an absolute path. Raises NotAFile, Changed, OSError."""
    with picture.parent_of(str(watch.path) if watch else os.path.dirname(path), path) as (folder, name):
        _, record = sidecar.look(folder, name, picture.stamp(folder, name))
        if record:
            return Found(record, None)
        read = picture.read(folder, name, accepted_images.MAX_BYTES)
        try:
            beside = sidecar.read(folder, name)
        except sidecar.Foreign:
            return Found(None, read, taken=True)
    if beside and beside.speaks_of(name, read.sha256, read.stamp.size):
        return Found(beside, read)
    return Found(None, read, changed=beside is not None)


def explain(paths: Sequence[str], settings: Settings, index: Index, live: Live | None) -> Iterator[Answer]:
    """Why each file is or isn't uploaded, by absolute paths; of a folder also the files in it that need attention.

    Without paths, everything that needs attention.
    """
    if not paths:
        whole = status(settings, index, live)
        yield from (Answer("", "needs", need) for need in whole["needs"])
        hold = live.pace.hold if live else None
        if hold and not hold.person:
            yield Answer("", "held", f"{_held(hold)}. It is tried again by itself.", hold.reason.hint)
    for path in paths:
        yield _folder(path, settings, index) if os.path.isdir(path) else _file(path, settings, index, live)
    folders = [path for path in paths if os.path.isdir(path)] if paths else [""]
    some = [file.path for folder in folders for file in rejected_of(index, folder)]
    some += [path for folder in folders for path in (live.failing() if live else ()) if _lies_in(path, folder)]
    for path in dict.fromkeys(some):
        if path not in paths:
            yield _file(path, settings, index, live)


def _file(path: str, settings: Settings, index: Index, live: Live | None) -> Answer:
    """Why one file is or isn't uploaded."""
    watch = watch_of(settings, path)
    if watch and (answer := _skipped(watch, path) or (_under_way(path, live) if live else None)):
        return answer
    try:
        found = find(path, watch)
    except NotAFile:
        known = index.file(path)
        return _outside(path, settings) if watch is None and known is None else _gone(path, known)
    except Changed:
        return Answer(path, "writing", "It is being written to just now.")
    except OSError as error:
        return _unreadable(path, error, "read", live)
    if found.record:
        return _done(path, found.record, index)
    known = index.file(path)
    if known and known.status == "uploaded" and found.read and known.sha256 == found.read.sha256:
        says = f"It was uploaded: {known.image_key}. "
        if watch is None:
            says = f"It was uploaded from {known.path}: {known.image_key}."
            return Answer(path, "uploaded", says, image_key=known.image_key)
        says += "Its sidecar's place is taken by another file." if found.taken else "Its sidecar is missing."
        hint = "" if found.taken else "The next rescan writes it again."
        return Answer(path, "uploaded", says, hint, known.image_key)
    if watch is None or found.read is None:
        return _outside(path, settings)
    return _to_come(Drop(path, watch), found.read, settings, live, changed=found.changed)


def _folder(path: str, settings: Settings, index: Index) -> Answer:
    """What is in a folder."""
    watch = watch_of(settings, path)
    keys = sum(1 for _ in index.files(below=path, status="uploaded"))
    if watch is None:
        within = [str(watch.path) for watch in settings.watch if watch.path.is_relative_to(path)]
        if keys or within:
            pictures = "1 picture was" if keys == 1 else f"{keys:,} pictures were"
            says = f"It is not watched itself; {pictures} uploaded from it or moved to it."
            return Answer(path, "folder", says, f"Watched in it: {', '.join(within)}." if within else "")
        return _outside(path, settings)
    if skipped := _skipped_folder(watch, path, path):
        return skipped
    bad: list[OSError] = []
    waiting = sum(1 for _ in Scan(watch, below=path, changed=False, unreadable=lambda _, error: bad.append(error)))
    if bad:
        return _unreadable(path, bad[0], "list", None)
    rejected = sum(1 for _ in rejected_of(index, path))
    kind = "a watched folder" if path == str(watch.path) else "in a watched folder"
    says = f"It is {kind}: {keys:,} uploaded, {rejected:,} rejected, {waiting:,} without an outcome yet."
    return Answer(path, "folder", says)


def retry(paths: Sequence[str], settings: Settings, index: Index, live: Live | None) -> Iterator[Answer]:
    """Forget that files were rejected, and take them again: those at absolute paths, those below folders, or all."""
    for path in paths or [""]:
        if path and not os.path.isdir(path):
            yield _retry(path, settings, live)
            continue
        some = [file.path for file in rejected_of(index, path)]
        if path:
            some += [one for one in (live.queue.in_backoff() if live else ()) if _lies_in(one, path)]
            if watch_of(settings, path) is None and not some:
                yield _outside(path, settings)
            elif not some:
                yield Answer(path, "done", "Nothing in it was rejected or waits for its next try.")
        for one in some:
            yield _retry(one, settings, live)


def _retry(path: str, settings: Settings, live: Live | None) -> Answer:
    watch = watch_of(settings, path)
    if watch is None:
        return _outside(path, settings)
    if skipped := _skipped(watch, path):
        return skipped
    try:
        with picture.parent_of(str(watch.path), path) as (folder, name):
            _, proven = sidecar.look(folder, name, picture.stamp(folder, name))
            beside = _beside(folder, name)
            if beside and beside.status == "uploaded" and proven:
                return Answer(path, "uploaded", "It is uploaded already.", image_key=beside.image_key)
            if live:
                os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
    except NotAFile:
        return Answer(path, "missing", "There is no such file.")
    except OSError as error:
        return _unreadable(path, error, "read", live)
    try:
        with picture.parent_of(str(watch.path), path) as (folder, name):
            if beside and beside.status == "rejected":
                sidecar.remove(folder, name)
    except OSError as error:
        hint = "Run it as larkdrop's user, or while larkdrop is running."
        return Answer(path, "unreadable", f"Its sidecar can't be removed: {error.strerror}.", hint)
    was = "It was rejected; it is" if beside and beside.status == "rejected" else "It is"
    if live is None:
        return Answer(path, "waiting", f"{was} taken again when larkdrop runs.")
    live.queue.put(Drop(path, watch, closed=True))
    return Answer(path, "waiting", f"{was} taken again now.")


def watch_of(settings: Settings, path: str) -> Watch | None:
    """The watched folder that a path lies in."""
    return next((watch for watch in settings.watch if Path(path).is_relative_to(watch.path)), None)


def _outside(path: str, settings: Settings) -> Answer:
    folders = ", ".join(str(watch.path) for watch in settings.watch)
    return Answer(path, "outside", "It is not in a watched folder.", f"Watched are {folders}.")


def _skipped(watch: Watch, path: str) -> Answer | None:
    """Why a file is not taken at all, by its name or by the folders on the way."""
    if belongs(watch, path):
        return None
    folder, name = os.path.split(path)
    if skipped := _skipped_folder(watch, folder, path):
        return skipped
    if pattern := ignored_by(watch, name):
        return _ignored(path, name, pattern)
    if sidecar.is_ours(name):
        says = "It is a sidecar, which larkdrop itself writes, or has the name of one."
        return Answer(path, "ignored", says, "Ask about the picture beside it; a picture of this name needs another.")
    wanted = ", ".join(map(repr, watch.patterns))
    return Answer(
        path, "ignored", f"Its name matches none of the wanted patterns {wanted}.", "See patterns in the config."
    )


def _skipped_folder(watch: Watch, folder: str, asked: str) -> Answer | None:
    """Why nothing is taken from a folder, and so not what was ``asked`` about."""
    if folder == str(watch.path):
        return None
    if not watch.recursive:
        return Answer(asked, "ignored", f"{watch.path} is watched without its sub-folders.", "Set recursive = true.")
    for part in os.path.relpath(folder, watch.path).split("/"):
        if pattern := ignored_by(watch, part):
            return _ignored(asked, part, pattern)
    return None


def _ignored(asked: str, part: str, pattern: str) -> Answer:
    return Answer(asked, "ignored", f"{part} is ignored, by the pattern {pattern!r}.", "See ignore in the config.")


def _unreadable(path: str, error: OSError, how: str, live: Live | None) -> Answer:
    """Who can't read a file or list a folder, where that fails, and what to do."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    barrier = next((str(one) for one in reversed(Path(path).parents) if not os.access(one, os.X_OK)), "")
    cure = f"let {user} enter {barrier}" if barrier else f"let {user} {how} it"
    says = f"{'larkdrop' if live else 'This command'}, as the user {user}, can't {how} it: {error.strerror}."
    if live:
        return Answer(path, "unreadable", says, f"{cure.capitalize()}; every rescan looks again.")
    hint = f"Ask while larkdrop is running, or as larkdrop's user; or {cure}."
    return Answer(path, "unreadable", says, hint)


def _under_way(path: str, live: Live) -> Answer | None:
    """Where in the daemon the file is just now."""
    place, hold = live.queue.place(path), live.pace.hold
    if place is None:
        until = live.settle.until(path)
        if until is None:
            return None
        says = f"It is being written, or its end is not there yet; it is looked at again {_when(until)}."
        return Answer(path, "settling", says)
    if place.where == "working":
        return Answer(path, "uploading", "It is being uploaded just now.")
    if outcome := place.job.outcome:
        record = outcome.record
        says = f"It is {record.status}{f': {record.image_key}' if record.image_key else ''}; writing that down is tried"
        return Answer(path, record.status, f"{says} again {_when(place.job.due)}.", image_key=record.image_key)
    if hold:
        return Answer(path, "held", f"{_held(hold)}.", hold.reason.hint)
    if place.where == "backoff":
        fault, job = place.job.fault, place.job
        why = f": {fault}" if fault else ""
        times = "once" if job.failures == 1 else f"{job.failures} times in a row"
        says = f"It failed {times}{why}. It is tried again {_when(job.due)}."
        return Answer(path, "backoff", says, fault.hint if fault else "")
    ahead = "1 other" if place.ahead == 1 else f"{place.ahead:,} others"
    says = f"It waits behind {ahead}" if place.ahead else "It is next"
    seconds, why = live.pace.limited(place.ahead)
    limited = f", for about {duration(seconds)}: {why}" if seconds >= NOTICEABLE else ""
    return Answer(path, "waiting", f"{says}{limited}.")


def _done(path: str, record: Record, index: Index) -> Answer:
    if record.status == "rejected":
        says = f"It was rejected: {record.error_message}."
        return Answer(
            path, "rejected", says, record.error_hint or "Correct or replace the file; it is then taken again."
        )
    known = index.file(path)
    same = tuple(index.same_content(known)) if known else ()
    says = f"It was uploaded at {record.at}: {record.image_key}."
    if same:
        says += f" The same content is {', '.join(same)}."
    return Answer(path, "uploaded", says, image_key=record.image_key, same_as=same)


def _gone(path: str, known: File | None) -> Answer:
    if known is None or os.path.lexists(path):
        says = "It is not a regular file, or lies behind a link." if os.path.lexists(path) else "There is no such file."
        return Answer(path, "missing", says)
    where = {None: "It is gone", "": "It was deleted", path: f"It was moved here from {known.path}, and is gone"}.get(
        known.place, f"It was moved to {known.place}"
    )
    if known.status == "rejected":
        return Answer(path, "missing", f"{where}; it had been rejected: {known.error}.")
    return Answer(path, "uploaded", f"{where}; it had been uploaded: {known.image_key}.", image_key=known.image_key)


def _to_come(drop: Drop, read: Picture, settings: Settings, live: Live | None, *, changed: bool) -> Answer:
    """What becomes of a file that no part has in hand, by the rules that the worker goes by."""
    news = "It changed after its last outcome. " if changed else ""
    needed = quiet_needed(drop, read.stamp.size, read.shape, settings.upload.settle_seconds)
    try:
        inspect(read, drop.watch.image_type)
    except PictureFault as fault:
        return Answer(drop.path, "waiting", f"{news}As it is, it will be rejected: {fault.message}.", fault.hint)
    if (left := needed - quiet_for(drop, read.stamp)) > 0:
        return Answer(drop.path, "settling", f"{news}It has to be quiet for another {left:.0f} s.")
    if live is None:
        return Answer(
            drop.path, "waiting", f"{news}It is ready to be uploaded; larkdrop is not running.", "Start larkdrop."
        )
    due = live.intake.next_look.get(drop.watch)
    says = f"{news}It is ready to be uploaded; no event told of it. The next rescan is {_when(due or 0)}."
    return Answer(drop.path, "waiting", says, "`larkdrop retry PATH` takes it now.")


def _beside(folder: int, name: str) -> Record | None:
    with suppress(sidecar.Foreign):
        return sidecar.read(folder, name)
    return None


def rejected_of(index: Index, below: str = "") -> Iterator[File]:
    """The rejected files that are still there, in all folders or ``below`` one."""
    return (file for file in index.files(below=below, status="rejected") if os.path.lexists(file.path))


def _lies_in(path: str, folder: str) -> bool:
    return not folder or Path(path).is_relative_to(folder)


def _held(hold: Hold) -> str:
    return f"larkdrop is held: {hold.reason}, since {_moment(hold.since):%Y-%m-%d %H:%M:%S}"


def _ignore(*_: object) -> None:
    """What can't be listed is told of by the daemon."""


def _fault(fault: LarkdropError) -> dict[str, Any]:
    return {"reason": fault.message, "code": fault.code, "hint": fault.hint, "log_id": fault.log_id}


def _moment(monotonic: float) -> datetime:
    return datetime.fromtimestamp(time.time() - time.monotonic() + monotonic).astimezone()


def _at(monotonic: float) -> str:
    return _text(_moment(monotonic))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}"


def _when(monotonic: float) -> str:
    left = monotonic - time.monotonic()
    return "now" if left <= 0 else f"at {_clock(_moment(monotonic))}, in {left:.0f} s"
