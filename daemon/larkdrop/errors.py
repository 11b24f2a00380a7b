"""The one exception family: whose fault is it?"""

from __future__ import annotations

from typing import Self


class LarkdropError(Exception):
    """A sentence for a person, and what is known besides.

    ``code`` is the platform's error code, ``log_id`` its id of the answer, ``hint`` says what a person can do.
    ``exit_code`` is the contract's, where it ends a command.
    """

    exit_code = 1
    kind = "other"  # in metrics

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

    def fields(self) -> dict[str, object]:
        """As JSON, and as the fields of a log line, which leaves out what is empty."""
        return {"reason": self.message, "code": self.code, "hint": self.hint, "log_id": self.log_id}

    def __str__(self) -> str:
        known = [f"code {self.code}"] if self.code is not None else []
        known += [f"log id {self.log_id}"] if self.log_id else []
        return f"{self.message} ({', '.join(known)})" if known else self.message


class PictureFault(LarkdropError):
    """This file never succeeds as it is: it is rejected until it changes."""

    kind = "picture"


class MomentFault(LarkdropError):
    """The same call may succeed later: retried forever."""

    kind = "moment"


class KeysNotKept(MomentFault):
    """This machine can't keep keys now, so none is asked for."""

    kind = "machine"


class Throttled(MomentFault):
    """The platform asks to wait ``retry_after`` seconds; ``of_upload`` is false where it was a call for a token."""

    kind = "throttled"
    retry_after: float
    of_upload = True


class CallFault(MomentFault):
    """The call itself is refused, and retried with long pauses: the platform or a proxy changed, or a picture is odd.

    Where it has a ``code`` and stays with one picture while others succeed, it becomes that picture's fault.
    """

    kind = "call"


class TokenFault(LarkdropError):
    """A new token fixes it: one is fetched at once."""


class SetupFault(LarkdropError):
    """No file can succeed until a person acts: everything is held."""

    kind = "setup"


class ApiOffline(SetupFault):
    """The platform does not serve the configured API, or not at this address."""


class ConfigError(SetupFault):
    """The configuration can't be used; ``problems`` are all of them, a line each."""

    exit_code = 78

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class NotAvailable(LarkdropError):
    """A command can't read the state, or the daemon does not answer."""


class StateInUse(LarkdropError):
    """Another larkdrop holds the state directory."""

    exit_code = 75
