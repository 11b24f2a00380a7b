"""Builds the parts, starts and stops them."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from larkdrop.config.settings import Settings
from larkdrop.folder.watch import Watcher
from larkdrop.pipeline.disk_trouble import cannot_begin
from larkdrop.pipeline.rescan import FOLDERS, RESCAN
from larkdrop.service import once as once_run
from larkdrop.service import status
from larkdrop.service.control import answer, answering
from larkdrop.service.liveness import Liveness
from larkdrop.service.parts import build
from larkdrop.service.signals import Signals
from larkdrop.service.state_folder import StateFolder
from larkdrop.service.systemd import Systemd

if TYPE_CHECKING:
    from larkdrop.service.monitoring import Monitoring

# Seconds between looks at the watched folders themselves, at whether a once-run is finished, and while starting or
# stopping.
TICK, TICK_ONCE, TICK_BRIEF = 2.0, 0.05, 0.02
# Seconds that a stop waits at least for the fleet's database to be told.
LEAVE_SECONDS = 2.0
# Files that a once-run names where they are left.
MOST_TOLD = 20


class Service:
    """larkdrop, built from its settings. ``run`` does everything."""

    def __init__(self, settings: Settings, *, on_tick: Callable[[Counter[str], int, str], None] | None = None) -> None:
        """``on_tick`` is told now and then: what came of files, by outcome; how many are left; why they wait."""
        self._settings = settings
        self._on_tick = on_tick
        self._log = structlog.get_logger()
        self._parts = build(settings)
        self._watcher = Watcher(settings.watch, self._parts.intake)
        self._liveness = Liveness(self._parts, self._watcher)
        self._control = answering(settings.state.dir, partial(answer, settings=settings, live=self._parts))
        self._state = StateFolder(settings.state.dir)
        self._state_gone = False
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._systemd = Systemd()
        self._monitoring: Monitoring | None = None
        self._is_ready = False
        self._signing_in: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self._recording: list[threading.Thread] = []
        self._sharing: list[threading.Thread] = []

    def run(self, *, once: bool = False) -> int:
        """Watch and upload until a signal comes, or with ``once`` until what is there is done. Returns the exit code.

        Raises StateInUse where another larkdrop runs on the same state folder, LarkdropError where that can't be used.
        """
        _stay_on_one_cpu()
        with ExitStack() as stack:
            stack.enter_context(self._signals)
            stack.enter_context(self._state)
            try:
                stack.enter_context(self._parts.cache)
            except (OSError, sqlite3.Error) as error:
                raise cannot_begin("the key cache", "state.dir", self._settings.state.dir, error) from error
            try:
                stack.enter_context(self._parts.results)
            except OSError as error:
                raise cannot_begin("the result log", "log.results", self._settings.results, error) from error
            if not once:
                if self._settings.metrics.listen:
                    from larkdrop.service.monitoring import Monitoring  # noqa: PLC0415 - loads much

                    monitoring = Monitoring(self._parts, is_ready=lambda: self._is_ready)
                    self._monitoring = stack.enter_context(monitoring)
                stack.enter_context(self._watcher)
            stack.enter_context(self._control)
            ended = self._begin() and self._wait(once=once)
            self._drain()
        return self._end_once(ended=ended) if once else int(self._state_gone)

    def _end_once(self, *, ended: bool) -> int:
        """Say what a once-run did and what it leaves; where it has not ``ended``, a signal cut it short."""
        outcomes, pace = self._parts.recorder.outcomes, self._parts.pace
        left = self._parts.left + len(self._parts.worker.unreadable)
        undone = list(once_run.left_over(self._parts)) if ended else []
        for what in undone[:MOST_TOLD]:
            self._log.error("not_done", **what)
        if len(undone) > MOST_TOLD:
            self._log.error("not_done", more=len(undone) - MOST_TOLD)
        self._log.info("finished", **{name: outcomes[name] for name in ("uploaded", "reused", "rejected")}, left=left)
        if self._on_tick:
            self._on_tick(outcomes, left, "")
        return int(bool(pace.hold or outcomes["rejected"] or undone or self._state_gone))

    def _begin(self) -> bool:
        """Start every part, the workers after a first try for a token. False where a signal to stop came meanwhile."""
        rescan = self._parts.rescan
        self._threads += [_start(RESCAN, rescan.run), _start(FOLDERS, rescan.run_folders)]
        self._threads += [_start("settle", self._parts.settle.run)]
        if fleet := self._parts.fleet:
            self._systemd.status("starts: joins the fleet")
            self._sharing += [_start("fleet", fleet.run)]
            while not fleet.tried.is_set():
                self._systemd.extend()
                if self._stop_asked(TICK_BRIEF):
                    return False
        self._systemd.status("starts: signs in to Lark")
        self._sign_in()
        while self._signing_in and self._signing_in.is_alive():
            self._systemd.extend()
            if self._stop_asked(TICK_BRIEF):
                return False
        for number, watch in enumerate(self._settings.watch):
            self._recording += [_start(f"recorder-{number}", partial(self._parts.recorder.run, watch))]
        for number in range(self._settings.upload.workers):
            self._threads += [_start(f"worker-{number}", self._parts.worker.run)]
        rescan.request_all()
        self._log.info("watching", folders=[str(watch.path) for watch in self._settings.watch])
        self._systemd.status(status.one_line(self._parts))
        self._systemd.ready()
        self._is_ready = True
        return True

    def _wait(self, *, once: bool) -> bool:
        """Until a signal comes: False; or until there is nothing left to do, or no state folder to do it with: True."""
        tick = TICK_ONCE if once else min(TICK, self._systemd.watchdog_seconds / 4 or TICK)
        while not self._stop_asked(tick):
            if not self._state_in_place():
                return True
            self._parts.rescan.tick()
            if self._on_tick:
                self._on_tick(self._parts.recorder.outcomes, self._parts.left, self._waits_for())
            if once and once_run.is_finished(self._parts):
                return True
            if self._monitoring:
                self._monitoring.retry()
            if not once:
                self._watcher.check()
                self._probe_idle_gate()
            self._systemd.status(status.one_line(self._parts))
            self._tell_alive()
        return False

    def _stop_asked(self, seconds: float) -> bool:
        """Wait for a signal, and do what SIGHUP asks."""
        got = self._signals.wait(seconds)
        if got is signal.SIGHUP:
            self._log.info("reload", doing="rescan and probe")
            self._parts.rescan.request_all()
            self._parts.pace.probe_now()
            self._parts.queue.retry_now()
        elif got:
            self._log.info("stopping", signal=got.name)
            return True
        return False

    def _sign_in(self) -> None:
        """Try for a token in a thread of its own, since that may take as long as the time-outs allow."""
        if self._signing_in is None or not self._signing_in.is_alive():
            self._signing_in = _start("sign-in", self._parts.uploader.sign_in)

    def _tell_alive(self) -> None:
        """Feed systemd's watchdog, but not while a part is stuck."""
        limit = self._systemd.watchdog_seconds
        if limit and (stuck := self._liveness.stuck(limit, [*self._threads, *self._recording, *self._sharing])):
            hint = "systemd restarts larkdrop; what was in flight is uploaded then."
            self._log.error("stuck", parts=stuck, seconds=limit, hint=hint)
        else:
            self._systemd.alive()

    def _waits_for(self) -> str:
        """What keeps files from being uploaded just now; empty where nothing does."""
        if hold := self._parts.pace.hold:
            return f"held: {hold.reason}"
        counts = self._parts.queue.counts()
        limited = counts.fresh + counts.backlog > 0 and self._parts.pace.delay(fresh=False) > 0
        return "waiting for the rate limit" if limited else ""

    def _probe_idle_gate(self) -> None:
        """Where everything is held and no picture waits to be the probe, sign in instead."""
        if self._parts.pace.hold and not self._parts.queue.counts().waiting and self._parts.pace.delay(fresh=True) == 0:
            self._sign_in()

    def _state_in_place(self) -> bool:
        """Whether the state folder is still the one that was locked; another larkdrop may use a new one already."""
        if self._state.in_place and self._parts.cache.in_place:
            return True
        self._state_gone = True
        self._log.error(
            "state_gone", path=str(self._settings.state.dir), doing="stops; no more keys are asked for",
            hint="The state folder or its key cache was removed while larkdrop was running. Start it again (systemd "
            "does): it begins a new one, and pictures with a sidecar are not uploaded again.",
        )  # fmt: skip
        return False

    def _drain(self) -> None:
        """Finish what is in flight within ``drain_seconds``; a second signal ends the process now."""
        self._is_ready = False
        self._systemd.stopping()
        for part in (self._parts.queue, self._parts.settle, self._parts.rescan):
            part.stop()
        deadline = time.monotonic() + self._settings.upload.drain_seconds
        self._join(self._threads, deadline)
        self._parts.recorder.stop()
        self._join(self._recording, deadline)
        if self._parts.fleet:
            self._parts.fleet.stop()
            self._join(self._sharing, max(deadline, time.monotonic() + LEAVE_SECONDS))
        if working := self._parts.queue.counts().working:
            self._log.warning("drain_ended", unfinished=working, hint="They are uploaded after the next start.")
        self._log.info("stopped")

    def _join(self, threads: list[threading.Thread], deadline: float) -> None:
        """Wait for threads to end, until ``deadline`` in monotonic seconds."""
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            self._systemd.extend()
            got = self._signals.wait(TICK_BRIEF)
            if got and got is not signal.SIGHUP:
                os._exit(128 + got)


def _stay_on_one_cpu() -> None:
    """Keep this thread, and all that it starts, on the CPU that the system has put it on.

    Only one thread at a time has Python's lock, and each gives it up at every system call. On several CPUs that wakes
    another CPU for the next thread each time, which costs more than it brings (`docs/performance.md`).
    """
    with suppress(OSError):  # not everywhere a process may choose
        os.sched_setaffinity(0, {int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[36])})


def _start(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
