"""What hosts that share an app ask and tell each other of files and keys; and a host that shares with none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from larkdrop.records.key_cache import Content, Known


@dataclass(frozen=True)
class Elsewhere:
    """Another host is at it; ``claim`` is the name of what it has claimed, empty where only another look can tell."""

    claim: str = ""


class SharedKeys:
    """A host that shares with none, and has every file and key to itself; ``fleet/keys.py`` has one that shares.

    Thread-safe. Whatever is wrong with the sharing, a host goes on by itself: nothing raises.
    """

    @property
    def host(self) -> str:
        """The name by which others know this host; empty where it is alone."""
        return ""

    @property
    def lock_patience(self) -> float:
        """Seconds for which a lock that is refused is waited for: a host that does not end is not, forever."""
        return 0.0

    def lock_file(self, path: str, folder: int) -> bool:  # noqa: ARG002
        """Be the only one who looks at a file in the open ``folder``, until released; False where another host is."""
        return True

    def claim_file(self, path: str, state: str) -> Elsewhere | None:
        """Be the one who records a file in this ``state``, by whichever path other hosts see it, until released."""

    def find_or_claim(self, path: str, content: Content, *, upload: bool) -> Known | Elsewhere | None:
        """A content's key. Where there is none, be the one to ``upload`` it, for the file at ``path``."""

    def still_held(self, path: str) -> bool:  # noqa: ARG002
        """Whether no other host can have taken over meanwhile what was locked and claimed for a path."""
        return True

    def wait_for(self, elsewhere: Elsewhere, then: Callable[[], None]) -> None:  # noqa: ARG002
        """Call ``then`` once the other host is done with it, or gone."""
        then()

    def release(self, path: str) -> None:
        """Nothing is locked or claimed for a path any more."""
