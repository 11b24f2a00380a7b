"""A picture dropped now never waits behind a crowd: a real daemon, and a sandbox that enforces the limits.

All but the batch run at the same time, since each waits for its limits nearly always.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.pipeline.crowds import BATCH, FOUND, MOVED_IN, SMALL_LIMITS, STREAM, Crowd, Played, contents, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Played]]]:
    """Every other crowd, as it is played."""
    contents(MOVED_IN.pictures)
    with ThreadPoolExecutor() as pool:
        yield {
            crowd.name: pool.submit(play, crowd, tmp_path_factory.mktemp("crowd"), drain=crowd is STREAM)
            for crowd in (SMALL_LIMITS, MOVED_IN, FOUND, STREAM)
        }


def test_a_batch_is_quick(tmp_path: Path) -> None:
    """300 at once are done in 7 s."""
    assert play(BATCH, tmp_path).done_by(7) == 300


def test_600_at_once_under_small_limits(playing: dict[str, Future[Played]]) -> None:
    """20 a second and 300 a minute: single drops are on their way within 2 s, 285 are done after 61 s."""
    played = playing[SMALL_LIMITS.name].result()
    assert len(played.waits) == 12
    assert max(played.waits.values()) < 2
    assert played.done_by(61) >= 285
    assert played.throttled <= 1


@pytest.mark.parametrize("crowd", [MOVED_IN, FOUND])
def test_10_000_at_once(playing: dict[str, Future[Played]], crowd: Crowd) -> None:
    """Moved in, or found at the start: the same at any moment after 10 s, and 98% of the limit over three minutes."""
    played = playing[crowd.name].result()
    assert len(played.waits) > 40
    assert max(played.waits.values()) < 2
    assert played.done_by(180) >= 0.98 * 3000
    assert played.throttled == 0


def test_a_stream_above_the_limit(playing: dict[str, Future[Played]]) -> None:
    """25 a second against 1000 a minute for five minutes: most go soon while it lasts, and nothing is lost after it."""
    played = playing[STREAM.name].result()
    assert len(played.waits) > 7400
    assert statistics.median(played.waits.values()) <= 3
    assert played.lost == 0
    assert played.throttled <= 1
