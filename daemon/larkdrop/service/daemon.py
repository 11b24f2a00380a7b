"""Builds the parts, starts and stops them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from larkdrop.config.settings import Settings
from larkdrop.errors import CallFault, ConfigError, StateInUse
from larkdrop.folder.settle import Settle
from larkdrop.folder.watch import Watcher
from larkdrop.lark.client import Client
from larkdrop.lark.pace import Pace
from larkdrop.pipeline.backoff import Backoff
from larkdrop.pipeline.intake import Intake
from larkdrop.pipeline.queue import DropQueue, Job
from larkdrop.pipeline.recorder import Recorder
from larkdrop.pipeline.worker import Worker
from larkdrop.progress import Progress
from larkdrop.records.durable import make_folder, writable
from larkdrop.records.key_cache import KeyCache
from larkdrop.records.result_log import ResultLog
from larkdrop.service import questions, status
from larkdrop.service.control import Control
from larkdrop.service.live import Live
from larkdrop.service.signals import Signals
from larkdrop.service.systemd import Systemd

# mallopt(3): from this size on, memory goes back to the system as soon as it is freed, and few arenas keep the rest.
M_MMAP_THRESHOLD, MMAP_FROM = -3, 256 * 1024
M_ARENA_MAX, ARENAS = -8, 2
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
        backoff = Backoff(upload.backoff_initial, upload.backoff_max)
        self._pace = Pace(
            per_second=lark.requests_per_second,
            per_minute=lark.requests_per_minute,
            probe_seconds=lark.probe_seconds,
            backoff=backoff,
        )
        self._cache = KeyCache(settings.key_cache)
        self._results = ResultLog(settings.results)
        self._recorder = Recorder(settings.watch, self._cache, self._results)
        self._queue = DropQueue(self._pace)
        client = Client(lark)
        self._settle = Settle(self._queue.put)
        self._intake = Intake(
            settings.watch, self._queue, self._settle,
            settle_seconds=upload.settle_seconds, rescan_seconds=upload.rescan_seconds,
        )  # fmt: skip
        self._worker = Worker(
            settings, queue=self._queue, settle=self._settle, pace=self._pace, client=client, cache=self._cache,
            recorder=self._recorder, backoff=backoff,
        )  # fmt: skip
        self._watcher = Watcher(settings.watch, self._intake)
        self._control = Control(settings.state.dir, self._answer)
        self._signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._systemd = Systemd()
        self._progress = Progress()
        self._signing_in: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self._recording: list[threading.Thread] = []
        self._lock = -1
        self._state_gone = False
        self._live = Live(
            time.time(), self._queue, self._settle, self._intake, self._pace, self._recorder, self._worker, client,
            lark.base_url,
        )  # fmt: skip
        self._on_tick = on_tick

    def run(self, *, once: bool = False) -> int:
        """Watch and upload until a signal comes, or with ``once`` until what is there is done. Returns the exit code.

        Raises StateInUse where another larkdrop runs on the same state folder, ConfigError where that can't be used.
        """
        _tame_malloc()
        with ExitStack() as stack:
            stack.enter_context(self._signals)
            self._lock = stack.enter_context(_state_locked(self._settings))
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
        outcomes, left = self._recorder.outcomes, self._live.left + len(self._worker.unreadable)
        made = {name: outcomes[name] for name in ("uploaded", "reused", "rejected")}
        undone = list(self._undone()) if ended else []  # of what a signal cut short nobody has to be told
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
            ("intake", self._intake.run),
            ("folders", self._intake.run_folders),
            ("settle", self._settle.run),
        ):
            self._threads += [self._start(name, run)]
        self._systemd.status("starts: signs in to Lark")
        self._sign_in()
        while self._signing_in and self._signing_in.is_alive():
            self._systemd.extend()
            if self._stop_asked(TICK_BRIEF):
                return False
        for number, watch in enumerate(self._settings.watch):
            self._recording += [self._start(f"recorder-{number}", partial(self._recorder.run, watch), in_turn=True)]
        for number in range(self._settings.upload.workers):
            self._threads += [self._start(f"worker-{number}", self._worker.run, in_turn=True)]
        self._intake.rescan()
        self._progress.add("queue", self._queue.look)
        for name, look in self._watcher.looks().items():
            self._progress.add(name, look)
        self._log.info("watching", folders=[str(watch.path) for watch in self._settings.watch])
        self._systemd.status(status.one_line(self._live))
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
                self._on_tick(self._recorder.outcomes, self._live.left, self._waits_for())
            if once and self._is_drained():
                return True
            if not once:
                self._watcher.check()
                self._probe_idle_gate()
            self._systemd.status(status.one_line(self._live))
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
            self._signing_in = threading.Thread(target=self._worker.sign_in, name="sign-in", daemon=True)
            self._signing_in.start()

    def _tell_alive(self) -> None:
        """Feed systemd's watchdog, but not while a part is stuck."""
        limit = self._systemd.watchdog_seconds
        if not limit:
            return
        if stuck := self._progress.stuck(limit):
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

    def _probe_idle_gate(self) -> None:
        """Where everything is held and no picture waits to be the probe, sign in instead."""
        if self._pace.hold and not self._queue.counts().waiting and self._pace.delay(fresh=True) == 0:
            self._sign_in()

    def _state_in_place(self) -> bool:
        """Whether the state folder is still the one that was locked; another larkdrop may use a new one already."""
        if _is_at(self._settings.state.dir / "lock", self._lock) and self._cache.in_place:
            return True
        self._state_gone = True
        self._log.error(
            "state_gone", path=str(self._settings.state.dir), doing="stops; no more keys are asked for",
            hint="The state folder or its key cache was removed while larkdrop was running. Start it again (systemd "
            "does): it begins a new one, and pictures with a sidecar are not uploaded again.",
        )  # fmt: skip
        return False

    def _is_drained(self) -> bool:
        """Whether a once-run has nothing left to do, or nothing that it can do before a person acts."""
        if not self._intake.idle:
            return False
        hold = self._pace.hold
        if hold and status.needs_person(hold) and not self._queue.counts().working:
            return True
        if len(self._settle):
            return False
        return self._queue.every(self._is_stuck)

    def _is_stuck(self, job: Job) -> bool:
        """Whether a file can't be done before a person acts: it can't be recorded, or Lark refuses the call itself."""
        if isinstance(job.fault, CallFault):
            return True
        if job.fault:
            return not self._recorder.keeps_keys
        return job.failures > 0 and job.entry is not None

    def _undone(self) -> Iterator[dict[str, object]]:
        """What a once-run leaves, why, and what a person can do."""
        for watch in self._settings.watch:
            if not os.path.isdir(watch.path):
                yield {"path": str(watch.path), "reason": "there is no such folder", "hint": "Create it."}
        for path in self._intake.unreadable:
            yield {"path": path, "reason": "the folder can't be listed", "hint": "Let larkdrop's user read it."}
        for path in self._worker.unreadable:
            yield {"path": path, "reason": "the file can't be read", "hint": "Let larkdrop's user read it."}
        hold, left = self._pace.hold, self._live.left
        if hold and left:
            yield {"files": left, "reason": f"uploads are held: {hold.reason}", "hint": hold.reason.hint}
            return
        for job in self._queue.jobs():
            hint = job.fault.hint if job.fault else "The log says what can't be written."
            yield {"path": job.drop.path, "reason": _undone_step(job), "hint": hint}

    def _answer(self, question: str, paths: Sequence[str]) -> Any:
        """Answer a command that asks through the control socket."""
        return questions.answer(question, paths, self._settings, self._live)

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

    def _start(self, name: str, target: Callable[[], None], *, in_turn: bool = False) -> threading.Thread:
        run = partial(self._progress.run, target, in_turn=in_turn)
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


def _tame_malloc() -> None:
    """Else every worker's arena keeps room for the largest pictures that it ever held. Only glibc has the call."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MMAP_FROM)
        mallopt(M_ARENA_MAX, ARENAS)


def _undone_step(job: Job) -> str:
    """How far a file came."""
    entry = job.entry
    if entry is None:
        return str(job.fault) if job.fault else "its turn did not come"
    if not entry.kept:
        return "its key can't be kept in the key cache"
    if not entry.logged:
        return "its line can't be written to the result log"
    if not entry.beside:
        return "its sidecar can't be written; its key is in the result log"
    return f"it can't be {'deleted' if entry.watch.after_upload == 'delete' else 'moved'} after the upload"


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is still the one of this name, as far as can be told."""
    try:
        named = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # a file system that does not answer has lost nothing yet
    return os.path.samestat(named, os.fstat(file))


@contextmanager
def _state_locked(settings: Settings) -> Iterator[int]:
    """One larkdrop a state folder: the open lock. The kernel gives it back however the process ends."""
    folder = settings.state.dir
    try:
        make_folder(folder, 0o700)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        problem = f"state.dir = {str(folder)!r}: {error.strerror}"
        hint = writable(str(folder)) if error.errno == errno.EROFS else "Let larkdrop's user write there"
        raise ConfigError(
            "the state folder can't be used", problems=(problem,), hint=f"{hint}, or set state.dir to another folder."
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            raise StateInUse(
                f"another larkdrop{f' (process {holder})' if holder else ''} uses the state folder {folder}",
                hint="Stop it, or give this one its own state.dir.",
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield file
    finally:
        os.close(file)
