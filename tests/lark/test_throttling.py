"""What a throttle teaches: against a platform on a clock that the test turns."""

from __future__ import annotations

import pytest

from tests.pipeline.simulation import Platform, Simulation


def crowd(platform: Platform, pictures: int = 9000) -> Simulation:
    """Pictures that came at once, for a platform that does not keep to the configured 50 a second, 1000 a minute."""
    simulation = Simulation(platform=platform)
    for number in range(pictures):
        simulation.found(str(number))
    return simulation


def test_a_stricter_platform_is_learned() -> None:
    """At a true 8 a second, 120 pictures take little more than 15 s, with few refused calls."""
    simulation = crowd(Platform(per_second=8), 120)
    simulation.run_until(18)
    assert len(simulation.done) == 120
    assert simulation.platform.throttled <= 20


def test_a_stricter_minute_is_learned() -> None:
    """At a true 500 a minute, every minute is used up, and few calls are refused."""
    simulation = crowd(Platform(per_minute=500))
    simulation.run_until(300)
    assert min(simulation.by_minute().values()) >= 485
    assert simulation.platform.throttled <= 50


def test_what_was_learned_is_forgotten_when_the_platform_takes_more_again() -> None:
    """A minute at 8 a second, and soon after all of the thousand a minute again."""
    simulation = crowd(Platform(per_second=8))
    simulation.run_until(60)
    simulation.platform.per_second = 50
    simulation.run_until(240)
    assert simulation.by_minute()[0] <= 480
    assert simulation.by_minute()[3] >= 950


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
def test_throttles_that_have_nothing_to_do_with_the_rate_cost_their_wait_only(rate: float) -> None:
    """5% of the calls, each with a second to wait: minute after minute, far over half of the limit."""
    simulation = crowd(Platform(random_throttles=rate))
    simulation.run_until(300)
    assert min(simulation.by_minute()[minute] for minute in range(5)) >= {0.02: 850, 0.05: 750, 0.1: 600}[rate]


def test_a_stricter_platform_is_learned_among_random_throttles() -> None:
    """Each of the two disturbs the other a little."""
    simulation = crowd(Platform(per_second=8, random_throttles=0.05))
    simulation.run_until(180)
    assert len(simulation.done) >= 0.7 * 180 * 8
