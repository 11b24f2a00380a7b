"""Builds the parts, starts and stops them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import structlog

from larkdrop.backoff import Backoff
from larkdrop.config import Settings
from larkdrop.errors import ConfigError, StateInUse
from larkdrop.folder.settle import Settle
from larkdrop.folder.watch import Watcher
from larkdrop.intake import Intake
from larkdrop.keycache import KeyCache
from larkdrop.lark.client import Client
from larkdrop.lark.pace import Pace
from larkdrop.queue import DropQueue
from larkdrop.recorder import Recorder
from larkdrop.results import ResultLog
from larkdrop.worker import Worker

# mallopt(3): from this size on, memory goes back to the system as soon as it is freed, and few arenas keep the rest.
M_MMAP_THRESHOLD, MMAP_FROM = -3, 256 * 1024
M_ARENA_MAX, ARENAS = -8, 2
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# Seconds between looks at the watched folders themselves, and at whether a once-run is finished.
TICK, TICK_ONCE = 2.0, 0.05


class Service:
    """larkdrop, built from its settings. ``run`` does everything."""

    def __init__(self, settings: Settings) -> None:
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
        self._cache = KeyCache(settings.state.dir / "keys.sqlite3")
        self._results = ResultLog(settings.results)
        self._recorder = Recorder(self._cache, self._results)
        self._queue = DropQueue(self._pace)
        self._settle = Settle(self._queue.put)
        self._intake = Intake(
            settings.watch, self._queue, self._settle,
            settle_seconds=upload.settle_seconds, rescan_seconds=upload.rescan_seconds,
        )  # fmt: skip
        self._worker = Worker(
            settings, queue=self._queue, settle=self._settle, pace=self._pace, client=Client(lark), cache=self._cache,
            recorder=self._recorder, backoff=backoff,
        )  # fmt: skip
        self._watcher = Watcher(settings.watch, self._intake)
        self._threads: list[threading.Thread] = []

    def run(self, *, once: bool = False) -> int:
        """Watch and upload until a signal comes, or with ``once`` until what is there is done. Returns the exit code.

        Raises StateInUse where another larkdrop runs on the same state folder, ConfigError where that can't be used.
        """
        _tame_malloc()
        with ExitStack() as stack:
            stack.enter_context(_signals_held())
            stack.enter_context(_state_locked(self._settings))
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
            self._start("intake", self._intake.run)
            self._start("settle", self._settle.run)
            self._worker.sign_in()
            for number in range(self._settings.upload.workers):
                self._start(f"worker-{number}", self._worker.run)
            self._intake.rescan()
            self._log.info("watching", folders=[str(watch.path) for watch in self._settings.watch])
            self._wait(once=once)
            self._drain()
        held = once and self._pace.hold is not None
        return 1 if once and (held or self._recorder.rejected) else 0

    def _wait(self, *, once: bool) -> None:
        while True:
            got = signal.sigtimedwait(SIGNALS, TICK_ONCE if once else TICK)
            if got and got.si_signo == signal.SIGHUP:
                self._log.info("reload", doing="rescan and probe")
                self._intake.rescan()
                self._pace.probe_now()
                self._queue.wake()
            elif got:
                self._log.info("stopping", signal=signal.Signals(got.si_signo).name)
                return
            self._intake.tick()
            if once and self._is_drained():
                return
            if not once:
                self._watcher.check()
                self._probe_idle_gate()

    def _probe_idle_gate(self) -> None:
        """Where everything is held and no picture waits to be the probe, sign in instead."""
        if self._pace.hold and not self._queue.counts().waiting and self._pace.delay(fresh=True) == 0:
            self._worker.sign_in()

    def _is_drained(self) -> bool:
        """Whether a once-run has nothing left to do, or nothing that it can do before a person acts."""
        if not self._intake.idle:
            return False
        counts, hold = self._queue.counts(), self._pace.hold
        if hold and hold.person and not counts.working:
            return True
        return not (counts.waiting or counts.working or len(self._settle))

    def _drain(self) -> None:
        """Finish what is in flight within ``drain_seconds``; a second signal ends the process now."""
        for part in (self._queue, self._settle, self._intake):
            part.stop()
        deadline = time.monotonic() + self._settings.upload.drain_seconds
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            got = signal.sigtimedwait(SIGNALS - {signal.SIGHUP}, 0.02)
            if got:
                os._exit(128 + got.si_signo)
        working = self._queue.counts().working
        if working:
            self._log.warning("drain_ended", unfinished=working, hint="They are uploaded after the next start.")
        self._log.info("stopped")

    def _start(self, name: str, target: object) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _tame_malloc() -> None:
    """Else every worker's arena keeps room for the largest pictures that it ever held. glibc alone has the call."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MMAP_FROM)
        mallopt(M_ARENA_MAX, ARENAS)


@contextmanager
def _signals_held() -> Iterator[None]:
    """No signal interrupts a thread; the main thread takes them one by one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _state_locked(settings: Settings) -> Iterator[None]:
    """One larkdrop a state folder. The kernel gives the lock back however the process ends."""
    folder = settings.state.dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        problem = f"state.dir = {str(folder)!r}: {error.strerror}"
        raise ConfigError("the state folder can't be used", problems=(problem,), hint="Mend state.dir.") from error
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
        yield
    finally:
        os.close(file)
