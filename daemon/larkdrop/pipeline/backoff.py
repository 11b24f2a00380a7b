"""How long to pause after a failure: tenacity's strategies, asked one failure at a time.

Nothing sleeps here. What failed goes back to the queue with the pause as its due time, so that a worker is never
spent on waiting.
"""

from __future__ import annotations

from tenacity import Future, RetryCallState, Retrying, wait_random_exponential
from tenacity.wait import wait_base

from larkdrop.errors import LarkdropError, Throttled


class wait_as_told(wait_base):  # noqa: N801 - named as tenacity names its strategies
    """The wait that the platform asked for, or ``otherwise`` where it asked for none."""

    def __init__(self, otherwise: wait_base) -> None:
        self._otherwise = otherwise

    def __call__(self, retry_state: RetryCallState) -> float:
        fault = retry_state.outcome.exception() if retry_state.outcome else None
        return fault.retry_after if isinstance(fault, Throttled) else self._otherwise(retry_state)


class Backoff:
    """Exponential with full jitter, from ``initial`` to ``most`` seconds; exactly as told where the platform told."""

    def __init__(self, initial: float, most: float) -> None:
        self._wait = wait_as_told(wait_random_exponential(multiplier=initial, max=most))

    def __call__(self, failures: int, fault: LarkdropError | None = None) -> float:
        """The pause in seconds after the ``failures``-th failure in a row (1 is the first)."""
        state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = failures
        state.outcome = Future(failures)
        state.outcome.set_exception(fault)
        return self._wait(state)
