"""structlog set up once: readable lines on a terminal, JSON elsewhere, never on standard output.

Lines for systemd's journal begin with their priority, as sd-daemon(3) has it, and leave the time to the journal.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from larkdrop.service.systemd import PRIORITIES, to_journal
from larkdrop.service.texts import printable


def set_up(level: str, form: Literal["auto", "json", "console"]) -> None:
    """Log from ``level`` on to standard error; ``auto`` is ``console`` on a terminal and ``json`` elsewhere."""
    terminal = os.isatty(2)
    console = form == "console" or (form == "auto" and terminal)
    processors: list[Processor] = [structlog.processors.add_log_level, _tidy]
    if not to_journal():
        processors += [structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)]
    if console:
        processors += [_printable] if level == "debug" else [_brief, _printable]
        processors += [structlog.dev.ConsoleRenderer(colors=terminal, sort_keys=False, pad_event_to=16)]
    else:
        processors += [structlog.processors.JSONRenderer(ensure_ascii=True)]
    if to_journal():
        processors += [_with_priority]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    # watchdog's and urllib3's own words: what matters of them is said by larkdrop.
    logging.getLogger().addHandler(logging.NullHandler())


class _StandardError:
    """Where lines go, as far as they can: a full disk or a reader that is gone must cost nothing but lines."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _with_priority(_logger: WrappedLogger, method: str, line: EventDict) -> str:
    return f"{PRIORITIES[method]}{line}"


def _tidy(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The event's name first, and nothing empty."""
    return {"event": event.pop("event")} | {name: value for name, value in event.items() if value not in (None, "")}


def _brief(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Of what went well, support needs no log id; the sidecar has it."""
    return {name: value for name, value in event.items() if name != "log_id" or method != "info"}


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Names with control characters or bytes outside UTF-8 can't garble a terminal."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}
