"""structlog set up once: readable lines on a terminal, JSON elsewhere, never on standard output."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up(level: str, form: Literal["auto", "json", "console"]) -> None:
    """Log from ``level`` on to standard error; ``auto`` is ``console`` on a terminal and ``json`` elsewhere."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        _without_empty,
    ]
    if console:
        processors += [
            _printable,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False, pad_event_to=16),
        ]
    else:
        processors += [structlog.processors.JSONRenderer(ensure_ascii=True)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # watchdog's and urllib3's own words: what matters of them is said by larkdrop.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.raiseExceptions = False


def _without_empty(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Names with control characters or bytes outside UTF-8 can't garble a terminal."""
    return {name: _shown(value) if isinstance(value, str) else value for name, value in event.items()}


def _shown(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
