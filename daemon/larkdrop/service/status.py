"""Everything that ``larkdrop status`` shows, what needs a person, and the line in ``systemctl status``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from larkdrop.config.settings import Settings, Watch
from larkdrop.folder.scan import Scan
from larkdrop.pipeline.disk_trouble import verb
from larkdrop.pipeline.lanes import FolderCounts
from larkdrop.records.index import File, Index
from larkdrop.service.parts import Parts
from larkdrop.service.texts import counted, duration, local_time

# Seconds; a shorter wait for the rate limits is not worth mentioning.
NOTICEABLE = 2.0
# What only a running daemon knows, where none runs.
NOT_RUNNING: dict[str, Any] = {
    "running": False, "pid": None, "since": None, "held": None, "unanswered": None, "troubles": (), "last_error": None,
    "late": 0, "fleet": None,
}  # fmt: skip


def status(settings: Settings, index: Index, live: Parts | None) -> dict[str, Any]:
    """Everything that is shown, as JSON. Without a daemon, what waits is what has no sidecar."""
    rejected = list(rejected_files(index))
    last = rejected[-1] if rejected else None
    today = datetime.now().astimezone()
    shown = (_live_facts(live) if live else NOT_RUNNING) | {
        "folders": _folders(settings, index, rejected, live),
        "calls": {
            "today": index.uploads_since(f"{today:%Y-%m-%d}"),
            "month": index.uploads_since(f"{today:%Y-%m}-01"),
            "quota": settings.lark.calls_per_month or None,
        },
        "finished": {f"{n}_min": index.outcomes_since(today - timedelta(minutes=n)) for n in (1, 5, 15)},
        "last_rejected": {"path": last.path, "at": last.at, "reason": last.error} if last else None,
    }
    shown["needs"] = list(_needs(shown))
    shown["remarks"] = list(_remarks(len(rejected), live))
    shown["well"] = not shown["needs"]
    return shown


def one_line(live: Parts) -> str:
    """What larkdrop does, in a line for ``systemctl status``."""
    outcomes, hold = live.recorder.outcomes, live.pace.hold
    parts = [f"{outcomes['uploaded'] + outcomes['reused']} uploaded"]
    parts += [f"{outcomes['rejected']} rejected"] if outcomes["rejected"] else []
    parts += [f"{live.left} waiting", *(f"can't {trouble}" for trouble in live.recorder.trouble.shown)]
    if hold:
        parts += [f"held since {local_time(hold.since):%Y-%m-%d %H:%M}: {hold.reason}. {hold.reason.hint}".strip()]
    if unanswered := _unanswered(live):
        parts += [_silence(unanswered)]
    return ", ".join(parts)


def needs(live: Parts) -> list[str]:
    """What a person has to do, as ``status`` has it, but without the path of any picture or sub-folder."""
    facts = _live_facts(live)
    facts["troubles"] = [f"{verb(what)} the {what}" for what in live.recorder.trouble.kinds()]
    for do, what, paths in (("list", "folder", live.rescan.unreadable), ("read", "file", live.worker.unreadable)):
        facts["troubles"] += [f"{do} {counted(len(paths), what)}"] if paths else []
    folders = [{"path": str(watch.path), "gone": is_gone(watch), "waiting": 0} for watch in live.settings.watch]
    return list(_needs(facts | {"folders": folders}))


def is_gone(watch: Watch) -> bool:
    """Whether a watched folder is not there, or can't be looked at."""
    return not os.path.isdir(watch.path)


def rejected_files(index: Index, below: str = "") -> Iterator[File]:
    """The rejected files that are still there, in all folders or ``below`` one."""
    return (file for file in index.files(below=below, status="rejected") if os.path.lexists(file.path))


def _needs(shown: dict[str, Any]) -> Iterator[str]:
    """What a person has to do, a sentence each: the one rule by which everybody tells whether all is well."""
    waiting = sum(folder["waiting"] for folder in shown["folders"])
    if waiting and not shown["running"]:
        yield f"Start larkdrop: {counted(waiting, 'picture waits', 'pictures wait')}."
    held, unanswered = shown["held"], shown["unanswered"]
    if held and held["person"]:
        yield f"larkdrop is held: {held['reason']}. {held['hint']}".strip()
    elif unanswered:
        proxy = f"the proxy {unanswered['proxy']}, " if unanswered["proxy"] else ""
        yield f"Check the network, {proxy}and base_url: {_silence(unanswered)}."
    for folder in shown["folders"]:
        if folder["gone"]:
            yield f"There is no folder {folder['path']}: create it, or correct its path in the config."
    if (fleet := shown["fleet"]) and (away := fleet["away"]):
        yield f"This host shares its app with no other now ({fleet['database']}): {away['reason']}. {away['hint']}"
    if troubles := shown["troubles"]:
        more = f" (and {len(troubles) - 1:,} more)" if len(troubles) > 1 else ""
        yield f"larkdrop can't {troubles[0]}{more}; `larkdrop explain` and the log say why."


def _remarks(rejected: int, live: Parts | None) -> Iterator[str]:
    """What is worth knowing and needs nobody, a sentence each."""
    if rejected:
        yield f"{counted(rejected, 'file was', 'files were')} rejected; `larkdrop status --rejected` says why."
    if live is None:
        return
    counts, late = live.queue.counts(), live.queue.late
    waiting = counts.fresh + counts.backlog
    seconds, why = live.pace.limited(waiting)
    if waiting and late:
        yield (
            f"More comes in than Lark takes: {late:,} of those dropped in the last minute joined the backlog. "
            f"The newest go first; {counted(waiting, 'picture')} will take about {duration(seconds)}."
        )
    elif waiting and seconds >= NOTICEABLE:
        what = counted(waiting, "picture waits", "pictures wait")
        yield f"{what} for the rate limit, for about {duration(seconds)}: {why}."


def _folders(settings: Settings, index: Index, rejected: Sequence[File], live: Parts | None) -> list[dict[str, Any]]:
    """Each watched folder, and how many of its files are where."""
    uploaded = index.uploaded()
    known_bad = {file.path for file in rejected}
    queued = live.queue.by_folder() if live else {}
    folders = []
    for watch in settings.watch:
        path = str(watch.path)
        if live:
            counts = queued.get(watch.path, FolderCounts()).counts
            waiting = counts.fields() | {"settling": live.settle.count(watch)}
        else:
            found = Scan(watch, changed=False, unreadable=lambda *_: None)
            waiting = {"waiting": sum(drop.path not in known_bad for drop in found)}
        folders.append({
            "path": path,
            "gone": is_gone(watch),
            "uploaded": uploaded.get(path, 0),
            **waiting,
            "rejected": sum(file.watch == path for file in rejected),
        })  # fmt: skip
    return folders


def _live_facts(live: Parts) -> dict[str, Any]:
    """What only a running daemon knows."""
    hold, last_fault = live.pace.hold, live.uploader.last_fault
    held = {**hold.reason.fields(), "since": _rfc3339(hold.since), "person": hold.needs_person} if hold else None
    troubles = [*live.recorder.trouble.shown, *(f"list {path}" for path in live.rescan.unreadable)]
    troubles += [f"read {path}" for path in live.worker.unreadable]
    return {
        "running": True,
        "pid": os.getpid(),
        "since": datetime.fromtimestamp(live.since).astimezone().isoformat(timespec="seconds"),
        "held": held,
        "unanswered": _unanswered(live),
        "troubles": troubles,
        "last_error": {"at": last_fault[0], **last_fault[1].fields()} if last_fault else None,
        "late": live.queue.late,
        "fleet": _fleet(live),
    }


def _fleet(live: Parts) -> dict[str, Any] | None:
    """With whom this host shares its app, and why it is alone where it should not be."""
    if (fleet := live.fleet) is None:
        return None
    away = fleet.away
    alone = {"since": _rfc3339(fleet.away_since), "reason": away.message, "hint": away.hint} if away else None
    return {"host": fleet.host, "hosts": fleet.hosts, "database": fleet.database, "away": alone}


def _unanswered(live: Parts) -> dict[str, Any] | None:
    """Since when Lark has not answered, where that is an outage, and what the last try came to."""
    counts, last_fault = live.queue.counts(), live.uploader.last_fault
    since = live.client.contact.lost_since(waiting=counts.waiting + counts.working > 0)
    if since is None:
        return None
    reason = str(last_fault[1]) if last_fault else ""
    url, proxy = live.settings.lark.base_url, live.client.transport.proxy or None
    return {"since": _rfc3339(since), "url": url, "proxy": proxy, "reason": reason}


def _silence(unanswered: dict[str, Any]) -> str:
    """Who has not answered since when, through which proxy, and what the last try came to."""
    way = f" through the proxy {unanswered['proxy']}" if unanswered["proxy"] else ""
    reason = f": {unanswered['reason']}" if unanswered["reason"] else ""
    since = datetime.fromisoformat(unanswered["since"])
    return f"{unanswered['url']} has not answered{way} since {since:%Y-%m-%d %H:%M:%S}{reason}"


def _rfc3339(monotonic: float) -> str:
    """A moment in monotonic seconds as RFC 3339 in local time."""
    return local_time(monotonic).isoformat(timespec="seconds")
