"""Builds the parts, starts and stops them."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from larkdrop.config.settings import Settings
from larkdrop.errors import ConfigError
from larkdrop.folder.settle import Settle
from larkdrop.folder.watch import Watcher
from larkdrop.lark.client import Client
from larkdrop.lark.pace import Pace
from larkdrop.pipeline.backoff import Backoff, pauses
from larkdrop.pipeline.intake import FOLDERS, RESCAN, Intake
from larkdrop.pipeline.queue import DropQueue
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.uploader import Uploader
from larkdrop.pipeline.worker import Worker
from larkdrop.records.key_cache import KeyCache
from larkdrop.records.result_log import ResultLog
from larkdrop.service import answers
from larkdrop.service import once as once_run
from larkdrop.service.answers import Live
from larkdrop.service.control import Control
from larkdrop.service.liveness import Liveness
from larkdrop.service.signals import Signals
from larkdrop.service.state_folder import StateFolder
from larkdrop.service.systemd import Systemd

# Seconds between looks at the watched folders themselves, at whether a once-run is finished, and while starting or
# stopping.
TICK, TICK_ONCE, TICK_BRIEF = 2.0, 0.05, 0.02
# Files that a once-run names where they are left.
MOST_TOLD = 20


class Service:
    """larkdrop, built from its settings. ``run`` does everything."""

    def __init__(self, settings: Settings, *, on_tick: Callable[[Counter[str], int, str], None] | None = None) -> None:
        """``on_tick`` is told now and then: what came of files, by outcome; how many are left; why they wait."""
        lark, upload = settings.lark, settings.upload
        self._settings = settings
        self._log = structlog.get_logger()
        self._pace = Pace(
            per_second=lark.requests_per_second,
            per_minute=lark.requests_per_minute,
            probe_seconds=lark.probe_seconds,
            pauses=partial(pauses, upload.backoff_initial, upload.backoff_max),
        )
        self._cache = KeyCache(settings.state.dir / "keys.sqlite3")
        self._results = ResultLog(settings.results)
        self._queue = DropQueue(self._pace)
        backoff = Backoff(upload, self._queue)
        self._recorder = Recorder(settings.watch, self._cache, self._results, self._queue, backoff)
        client = Client(lark)
        self._settle = Settle(self._queue.put)
        self._intake = Intake(
            settings.watch, self._queue, self._settle,
            settle_seconds=upload.settle_seconds, rescan_seconds=upload.rescan_seconds,
        )  # fmt: skip
        self._uploader = Uploader(client, self._pace, self._queue)
        self._worker = Worker(
            settings, queue=self._queue, settle=self._settle, uploader=self._uploader, cache=self._cache,
            recorder=self._recorder, backoff=backoff,
        )  # fmt: skip
        self._watcher = Watcher(settings.watch, self._intake)
        self._control = Control(settings.state.dir, self._answer)
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._systemd = Systemd()
        self._liveness = Liveness(
            queue=self._queue, intake=self._intake, settle=self._settle, recorder=self._recorder, watcher=self._watcher,
            client=client,
        )  # fmt: skip
        self._signing_in: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self._recording: list[threading.Thread] = []
        self._state = StateFolder(settings.state.dir)
        self._state_gone = False
        self._live = Live(
            time.time(), self._queue, self._settle, self._intake, self._pace, self._recorder, self._worker,
            self._uploader, client, lark.base_url,
        )  # fmt: skip
        self._on_tick = on_tick

    def run(self, *, once: bool = False) -> int:
        """Watch and upload until a signal comes, or with ``once`` until what is there is done. Returns the exit code.

        Raises StateInUse where another larkdrop runs on the same state folder, ConfigError where that can't be used.
        """
        with ExitStack() as stack:
            stack.enter_context(self._signals)
            stack.enter_context(self._state)
            try:
                stack.enter_context(self._cache)
                stack.enter_context(self._results)
            except (OSError, sqlite3.Error) as error:
                problem = f"{self._settings.state.dir}, {self._settings.results}: {error}"
                raise ConfigError(
                    "key cache or result log can't be opened",
                    problems=(problem,),
                    hint="Let larkdrop's user write there, or set state.dir and log.results to where it can.",
                ) from error
            if not once:
                stack.enter_context(self._watcher)
            stack.enter_context(self._control)
            ended = self._begin() and self._wait(once=once)
            self._drain()
        if not once:
            return 1 if self._state_gone else 0
        outcomes, left = self._recorder.outcomes, self._live.waiting() + len(self._worker.unreadable)
        made = {name: outcomes[name] for name in ("uploaded", "reused", "rejected")}
        undone = (
            list(once_run.left_over(self._settings, self._live)) if ended else []
        )  # not where a signal cut it short
        for what in undone[:MOST_TOLD]:
            self._log.error("not_done", **what)
        if len(undone) > MOST_TOLD:
            self._log.error("not_done", more=len(undone) - MOST_TOLD)
        self._log.info("finished", **made, left=left)
        if self._on_tick:
            self._on_tick(outcomes, left, "")
        return 1 if self._pace.hold or outcomes["rejected"] or undone or self._state_gone else 0

    def _begin(self) -> bool:
        """Start every part, the workers after a first try for a token. False where a signal to stop came meanwhile."""
        for name, run in (
            (RESCAN, self._intake.run),
            (FOLDERS, self._intake.run_folders),
            ("settle", self._settle.run),
        ):
            self._threads += [_start(name, run)]
        self._systemd.status("starts: signs in to Lark")
        self._sign_in()
        while self._signing_in and self._signing_in.is_alive():
            self._systemd.extend()
            if self._stop_asked(TICK_BRIEF):
                return False
        for number, watch in enumerate(self._settings.watch):
            self._recording += [_start(f"recorder-{number}", partial(self._recorder.run, watch))]
        for number in range(self._settings.upload.workers):
            self._threads += [_start(f"worker-{number}", self._worker.run)]
        self._intake.rescan()
        self._log.info("watching", folders=[str(watch.path) for watch in self._settings.watch])
        self._systemd.status(self._doing())
        self._systemd.ready()
        return True

    def _wait(self, *, once: bool) -> bool:
        """Until a signal comes: False; or until there is nothing left to do, or no state folder to do it with: True."""
        tick = TICK_ONCE if once else min(TICK, self._systemd.watchdog_seconds / 4 or TICK)
        while not self._stop_asked(tick):
            if not self._state_in_place():
                return True
            self._intake.tick()
            if self._on_tick:
                self._on_tick(self._recorder.outcomes, self._live.waiting(), self._waits_for())
            if once and once_run.is_finished(self._live):
                return True
            if not once:
                self._watcher.check()
                self._probe_idle_gate()
            self._systemd.status(self._doing())
            self._tell_alive()
        return False

    def _stop_asked(self, seconds: float) -> bool:
        """Wait for a signal, and do what SIGHUP asks."""
        got = self._signals.wait(seconds)
        if got and got is not signal.SIGHUP:
            self._log.info("stopping", signal=got.name)
            return True
        if got:
            self._log.info("reload", doing="rescan and probe")
            self._intake.rescan()
            self._pace.probe_now()
            self._queue.retry_now()
        return False

    def _sign_in(self) -> None:
        """Try for a token in a thread of its own, since that may take as long as the time-outs allow."""
        if self._signing_in is None or not self._signing_in.is_alive():
            self._signing_in = _start("sign-in", self._uploader.sign_in)

    def _tell_alive(self) -> None:
        """Feed systemd's watchdog, but not while a part is stuck."""
        limit = self._systemd.watchdog_seconds
        if not limit:
            return
        if stuck := self._liveness.stuck(limit, [*self._threads, *self._recording]):
            hint = "systemd restarts larkdrop; what was in flight is uploaded then."
            self._log.error("stuck", parts=stuck, seconds=limit, hint=hint)
        else:
            self._systemd.alive()

    def _waits_for(self) -> str:
        """What keeps files from being uploaded just now; empty where nothing does."""
        if hold := self._pace.hold:
            return f"held: {hold.reason}"
        counts = self._queue.counts()
        limited = counts.fresh + counts.backlog > 0 and self._pace.delay(fresh=False) > 0
        return "waiting for the rate limit" if limited else ""

    def _doing(self) -> str:
        """What larkdrop does, in a line for ``systemctl status``."""
        outcomes, hold = self._recorder.outcomes, self._pace.hold
        words = [f"{outcomes['uploaded'] + outcomes['reused']} uploaded"]
        words += [f"{outcomes['rejected']} rejected"] if outcomes["rejected"] else []
        words += [f"{self._live.waiting()} waiting"]
        words += [f"can't write: {trouble}" for trouble in self._recorder.trouble.shown]
        if hold:
            at = datetime.fromtimestamp(time.time() - time.monotonic() + hold.since).astimezone()
            words += [f"held since {at:%Y-%m-%d %H:%M}: {hold.reason}. {hold.reason.hint}".strip()]
        if unanswered := self._live.unanswered():
            words += [answers.silence(unanswered)]
        return ", ".join(words)

    def _probe_idle_gate(self) -> None:
        """Where everything is held and no picture waits to be the probe, sign in instead."""
        if self._pace.hold and not self._queue.counts().waiting and self._pace.delay(fresh=True) == 0:
            self._sign_in()

    def _state_in_place(self) -> bool:
        """Whether the state folder is still the one that was locked; another larkdrop may use a new one already."""
        if self._state.in_place and self._cache.in_place:
            return True
        self._state_gone = True
        self._log.error(
            "state_gone", path=str(self._settings.state.dir), doing="stops; no more keys are asked for",
            hint="The state folder or its key cache was removed while larkdrop was running. Start it again (systemd "
            "does): it begins a new one, and pictures with a sidecar are not uploaded again.",
        )  # fmt: skip
        return False

    def _answer(self, question: dict[str, Any]) -> Any:
        """Answer a command that asks through the control socket."""
        with answers.index_of(self._settings) as index:
            if question["ask"] == "status":
                return answers.status(self._settings, index, self._live)
            answer = {"explain": answers.explain, "retry": answers.retry}[question["ask"]]
            return [asdict(one) for one in answer(question["paths"], self._settings, index, self._live)]

    def _drain(self) -> None:
        """Finish what is in flight within ``drain_seconds``; a second signal ends the process now."""
        self._systemd.stopping()
        for part in (self._queue, self._settle, self._intake):
            part.stop()
        deadline = time.monotonic() + self._settings.upload.drain_seconds
        self._join(self._threads, deadline)
        self._recorder.stop()
        self._join(self._recording, deadline)
        working = self._queue.counts().working
        if working:
            self._log.warning("drain_ended", unfinished=working, hint="They are uploaded after the next start.")
        self._log.info("stopped")

    def _join(self, threads: list[threading.Thread], deadline: float) -> None:
        """Wait for threads to end, until ``deadline`` in monotonic seconds."""
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            self._systemd.extend()
            got = self._signals.wait(TICK_BRIEF)
            if got and got is not signal.SIGHUP:
                os._exit(128 + got)


def _start(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
