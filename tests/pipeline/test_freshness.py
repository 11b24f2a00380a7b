"""A picture dropped now never waits behind a crowd: queue and pace, on a clock that the test turns."""

from __future__ import annotations

import statistics

import pytest

from tests.pipeline.simulation import Simulation


def crowd(simulation: Simulation, pictures: int, how: str) -> None:
    """Pictures that come at once: ``drop`` for those that were moved in, ``found`` for those that a scan finds."""
    for number in range(pictures):
        getattr(simulation, how)(f"crowd-{number}")


def probe(simulation: Simulation, first: float, every: float, last: float) -> list[str]:
    """Single drops meanwhile."""
    names = []
    while first < last:
        simulation.run_until(first)
        names.append(f"probe-{first:.1f}")
        simulation.drop(names[-1])
        first += every
    return names


@pytest.mark.parametrize("how", ["drop", "found"])
def test_600_at_once_under_small_limits(how: str) -> None:
    """20 a second and 300 a minute: each drop is on its way within 2 s, 285 are done after 61 s, nothing is refused."""
    simulation = Simulation(20, 300)
    crowd(simulation, 600, how)
    probes = probe(simulation, 14, 4, 58)
    simulation.run_until(61)
    assert max(map(simulation.wait, probes)) < 2
    assert len(simulation.done) >= 285
    assert simulation.platform.throttled == 0


@pytest.mark.parametrize("how", ["drop", "found"])
def test_10_000_at_once(how: str) -> None:
    """50 a second and 1000 a minute: the same at any moment after 10 s, with 98% of the limit over three minutes."""
    simulation = Simulation()
    crowd(simulation, 9_990, how)
    probes = probe(simulation, 11, 0.7, 178)
    simulation.run_until(180)
    assert max(map(simulation.wait, probes)) < 2
    assert len(simulation.done) >= 0.98 * 3000
    assert simulation.platform.throttled == 0


def test_more_than_fits_at_once_displaces_the_oldest_and_not_the_newest() -> None:
    """A drop after 31,000 others, which is more than is held, goes first all the same."""
    simulation = Simulation()
    crowd(simulation, 31_000, "drop")
    simulation.run_until(3)
    simulation.drop("now")
    simulation.run_until(5)
    assert simulation.wait("now") < 2
    assert simulation.queue._overflowed, "a rescan finds those that were displaced"


def test_a_batch_is_quick_and_keeps_its_order() -> None:
    """300 at once are done in 7 s, the first first."""
    simulation = Simulation()
    crowd(simulation, 300, "drop")
    simulation.run_until(7)
    assert len(simulation.done) == 300
    assert list(simulation.started) == list(simulation.dropped)


def test_a_stream_above_the_limit() -> None:
    """25 a second against 1000 a minute for five minutes: the newest wait least, the oldest move, nothing is lost."""
    simulation = Simulation()
    for number in range(25 * 300):
        simulation.run_until(number / 25)
        simulation.drop(str(number))
    simulation.run_until(300)
    waits = [simulation.wait(str(number)) for number in range(25 * 300)]
    assert statistics.median(waits) <= 3
    for half_minute in range(10):
        soon = sum(wait <= 3 for wait in waits[750 * half_minute : 750 * (half_minute + 1)])
        assert soon >= 0.45 * 750, half_minute
    waiting = simulation.queue.counts()
    assert waiting.backlog > 2000
    assert simulation.queue.late > 300
    backlog_done = [name for name, at in simulation.started.items() if at - simulation.dropped[name] > 10]
    assert len(backlog_done) > 150, "the oldest of the backlog still move"
    assert backlog_done == sorted(backlog_done, key=simulation.dropped.__getitem__)
    simulation.run_until(300 + waiting.backlog / (0.98 * 1000 / 60) + 15)
    assert len(simulation.done) == 25 * 300
    assert simulation.queue.late == 0


def test_what_could_not_go_while_it_was_fresh_is_backlog() -> None:
    """After ten seconds, not before."""
    simulation = Simulation(1, 60)
    for name in "abcdefghijklmnopqrstuvwxyz":
        simulation.drop(name)
    simulation.run_until(9.5)
    assert simulation.queue.counts().backlog == 0
    simulation.run_until(11.5)
    counts = simulation.queue.counts()
    assert counts.fresh == 0
    assert counts.backlog == simulation.queue.late > 10
