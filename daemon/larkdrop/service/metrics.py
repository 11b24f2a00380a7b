"""What Prometheus is told: each metric's name, type, labels and value, asked of the parts at every scrape.

No label comes from a file's name, so that there are only so many. Source of the conventions: Prometheus's pages *Metric
and label naming* and *Writing exporters*.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from larkdrop import __version__
from larkdrop.errors import CallFault, MomentFault, NotAvailable, PictureFault, SetupFault, Throttled
from larkdrop.lark import codes
from larkdrop.lark.gate import Hold
from larkdrop.pipeline.lanes import FolderCounts
from larkdrop.pipeline.measure import Durations
from larkdrop.records.index import Index
from larkdrop.service.parts import Parts
from larkdrop.service.status import is_gone, needs

# The labels' values, in the order of their names.
Labels = tuple[str, ...]
# Every metric that is made here, as it is exposed.
NAMES = {
    "larkdrop_build_info": "The version that runs.",
    "larkdrop_healthy": "1 where nothing needs a person, by the rule of `larkdrop status`.",
    "larkdrop_outcomes_total": "Files that were recorded, by folder and outcome.",
    "larkdrop_uploaded_bytes_total": "Bytes of the pictures that were uploaded, by folder.",
    "larkdrop_record_seconds": "From when a file was queued until all about it was recorded.",
    "larkdrop_calls_total": "Calls to upload, by whose fault they failed, and the platform's code.",
    "larkdrop_call_seconds": "How long calls to upload took.",
    "larkdrop_retries_total": "Tries that failed and are made again later, by cause.",
    "larkdrop_queue_files": "Files that are known and not done, by folder and lane; of a lane at most some 20,000.",
    "larkdrop_oldest_waiting_seconds": "For how long the file has waited that waits longest, by folder.",
    "larkdrop_gate_held": "1 where calls are held for this reason.",
    "larkdrop_rate_used": "Calls of the last second and of the last minute.",
    "larkdrop_rate_limit": "How many these may be.",
    "larkdrop_fleet_joined": "1 while this host shares its app with others.",
    "larkdrop_fleet_hosts": "Hosts that share the app, as last seen.",
    "larkdrop_token_age_seconds": "Since the token was asked for.",
    "larkdrop_month_calls": "Uploads of this month, by this machine's calendar.",
    "larkdrop_month_calls_limit": "The plan's quota, lark.calls_per_month.",
    "larkdrop_trouble": "How many things of a kind can't be written, moved, deleted, read, listed or found now.",
}
EVENTS = ("uploaded", "reused", "rejected")
RESULTS = ("ok", *(fault.kind for fault in (PictureFault, MomentFault, Throttled, CallFault, SetupFault)))
HOLDS = ("setup", "quota", "call", "outage", "pause")
LANES = ("fresh", "backlog", "backoff", "in_hand", "settling")
# By the names that they have in the log.
WRITTEN = {"key_cache": "key cache", "result_log": "result log", "sidecar": "sidecar", "picture": "picture"}


class Metrics:
    """Everything that is served of one running larkdrop: asks its parts anew for each scrape."""

    def __init__(self, live: Parts) -> None:
        self._live = live
        self._settings = live.settings

    def collect(self) -> Iterator[Metric]:
        """As the encoders of prometheus_client ask."""
        yield _gauge("larkdrop_build_info", ("version", "python"), {(__version__, platform.python_version()): 1})
        yield _gauge("larkdrop_healthy", (), {(): not needs(self._live)})
        yield from self._outcomes()
        yield from self._calls()
        yield from self._queue()
        yield from self._lark()
        yield _gauge("larkdrop_trouble", ("kind",), {(kind,): count for kind, count in self._troubles().items()})
        yield from self._process()

    def _outcomes(self) -> Iterator[Metric]:
        recorder, folders = self._live.recorder, [str(watch.path) for watch in self._settings.watch]
        counts, sizes = recorder.by_folder.counts(), recorder.bytes.counts()
        outcomes: dict[Labels, int] = {(_label(one), event): counts[one, event] for one in folders for event in EVENTS}
        yield _counter("larkdrop_outcomes_total", ("folder", "outcome"), outcomes)
        yield _counter("larkdrop_uploaded_bytes_total", ("folder",), {(_label(one),): sizes[one,] for one in folders})
        durations: dict[Labels, Durations] = {(_label(watch.path),): one for watch, one in recorder.durations.items()}
        yield _histogram("larkdrop_record_seconds", ("folder",), durations)

    def _calls(self) -> Iterator[Metric]:
        uploader = self._live.uploader
        calls: dict[Labels, int] = {(result, ""): 0 for result in RESULTS}
        yield _counter("larkdrop_calls_total", ("result", "code"), calls | uploader.calls.counts())
        yield _histogram("larkdrop_call_seconds", (), {(): uploader.durations})
        retries = {("lark",): 0, ("machine",): 0} | self._live.backoff.retries.counts()
        yield _counter("larkdrop_retries_total", ("cause",), retries)

    def _queue(self) -> Iterator[Metric]:
        files: dict[Labels, float] = {}
        oldest: dict[Labels, float] = {}
        queued = self._live.queue.by_folder()
        for watch in self._settings.watch:
            folder, found = _label(watch.path), queued.get(watch.path, FolderCounts())
            counts, settling = found.counts, self._live.settle.count(watch)
            numbers = (counts.fresh, counts.backlog, counts.backoff, counts.working, settling)
            files |= {(folder, lane): number for lane, number in zip(LANES, numbers, strict=True)}
            oldest[folder,] = found.oldest
        yield _gauge("larkdrop_queue_files", ("folder", "lane"), files)
        yield _gauge("larkdrop_oldest_waiting_seconds", ("folder",), oldest)

    def _lark(self) -> Iterator[Metric]:
        pace, lark = self._live.pace, self._settings.lark
        held = {_reason(pace.hold)} | ({"pause"} if pace.is_paused else set())
        yield _gauge("larkdrop_gate_held", ("reason",), {(reason,): reason in held for reason in HOLDS})
        rate = pace.rate()
        yield _gauge("larkdrop_rate_used", ("window",), {(name,): used for name, (used, _) in rate.items()})
        yield _gauge("larkdrop_rate_limit", ("window",), {(name,): limit for name, (_, limit) in rate.items()})
        if fleet := self._live.fleet:
            yield _gauge("larkdrop_fleet_joined", (), {(): fleet.away is None})
            yield _gauge("larkdrop_fleet_hosts", (), {(): fleet.hosts})
        age = self._live.client.token_age
        yield _gauge("larkdrop_token_age_seconds", (), {} if age is None else {(): age})
        with suppress(NotAvailable), Index(self._settings.key_cache) as index:
            calls = index.uploads_since(f"{datetime.now().astimezone():%Y-%m}-01")
            yield _gauge("larkdrop_month_calls", (), {(): calls})
        yield _gauge("larkdrop_month_calls_limit", (), {(): lark.calls_per_month} if lark.calls_per_month else {})

    def _troubles(self) -> dict[str, int]:
        kinds = self._live.recorder.trouble.kinds()
        troubles = {kind: kinds[what] for kind, what in WRITTEN.items()}
        gone = sum(map(is_gone, self._settings.watch))
        return troubles | {
            "read": len(self._live.worker.unreadable), "list": len(self._live.rescan.unreadable), "folder_gone": gone,
        }  # fmt: skip

    def _process(self) -> Iterator[Metric]:
        """As the client library has them, but without the boot time, which a hardened unit can't read."""
        yield CounterMetricFamily("process_cpu_seconds_total", "Time on a CPU.", time.process_time())
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", pages * resource.getpagesize())
        yield GaugeMetricFamily("process_start_time_seconds", "In Unix seconds.", self._live.since)
        yield GaugeMetricFamily("process_open_fds", "Open files.", len(os.listdir("/proc/self/fd")))
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield GaugeMetricFamily("process_max_fds", "How many files may be open.", most)


def _label(folder: str | Path) -> str:
    """A folder's path as a label, which has to be UTF-8."""
    return os.fsencode(folder).decode("utf-8", "backslashreplace")


def _reason(hold: Hold | None) -> str:
    """Why calls are held, as one of ``HOLDS``; empty where they are not."""
    if hold is None:
        return ""
    if codes.is_quota(hold.reason.code):
        return "quota"
    if isinstance(hold.reason, CallFault):
        return "call"
    return "setup" if hold.person else "outage"


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, labels: Labels, values: Mapping[Labels, float]
) -> Metric:
    family = kind(name, NAMES[name], labels=labels)
    for of, value in values.items():
        family.add_metric(of, value)
    return family


_gauge = partial(_family, GaugeMetricFamily)
_counter = partial(_family, CounterMetricFamily)


def _histogram(name: str, labels: Labels, values: dict[Labels, Durations]) -> Metric:
    family = HistogramMetricFamily(name, NAMES[name], labels=labels)
    for of, durations in values.items():
        counts, total = durations.cumulative()
        bounds = [*map(str, map(float, durations.bounds)), "+Inf"]
        family.add_metric(of, list(zip(bounds, counts, strict=True)), total)
    return family
