"""The one exception family: whose fault is it?

LarkdropError
    PictureFault     this file never succeeds as it is: rejected until it changes
    MomentFault      the same call may succeed later: retried for ever
        Throttled    the platform said how long to wait
    TokenFault       a new token mends it, at once
    SetupFault       no file can succeed until a person acts: everything is held
        ConfigError  found before the start
    NotAvailable     a command can't read the state, or the daemon does not answer
    StateInUse       another process holds the state directory
"""

from __future__ import annotations

from typing import Self


class LarkdropError(Exception):
    """A sentence for a person, and what is known besides.

    ``code`` is the platform's error code, ``log_id`` its ``X-Tt-Logid``, ``hint`` says what a person can do.
    ``exit_code`` is the contract's, where it ends a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: int | None = None, log_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.log_id = log_id

    def without_frames(self) -> Self:
        """This, to be remembered: the frames that an exception came through keep all that they worked on in memory."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def __str__(self) -> str:
        known = [f"code {self.code}"] if self.code is not None else []
        known += [f"log id {self.log_id}"] if self.log_id else []
        return f"{self.message} ({', '.join(known)})" if known else self.message


class PictureFault(LarkdropError):
    """The picture's fault: it is rejected until its file changes."""


class MomentFault(LarkdropError):
    """The moment's fault: tried again for ever. ``unknown`` marks a code that no page of the platform lists."""

    unknown = False


class Throttled(MomentFault):
    """The platform asks to wait ``retry_after`` seconds."""

    retry_after: float = 1.0


class TokenFault(LarkdropError):
    """The token's fault: a new one is fetched at once."""


class SetupFault(LarkdropError):
    """The set-up's fault: everything is held until a person acts."""


class NotAvailable(LarkdropError):
    """A command can't read the state, or the daemon does not answer."""


class ConfigError(SetupFault):
    """The configuration can't be used; ``problems`` are all of them, a line each."""

    exit_code = 78

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class StateInUse(LarkdropError):
    """Another larkdrop holds the state directory."""

    exit_code = 75
