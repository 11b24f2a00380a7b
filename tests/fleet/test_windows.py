"""The tickets that a database gave in advance: for how long a call may still begin with one."""

from __future__ import annotations

from larkdrop.fleet.windows import BEGIN_WITHIN, FleetWindows


def test_a_call_has_to_begin_soon_after_its_slot() -> None:
    """Where it can't, it would come together with others."""
    windows = FleetWindows(50, 1000, notify=lambda: None)
    windows.join()
    answer = {
        "ids": [1], "slots": [7.0], "fresh": 0, "probe": False, "now": 7.0, "again": [0.0, 0.0], "used_second": 1,
        "used_minute": 1, "level": 1000,
    }  # fmt: skip
    windows.given(answer, (0, 1), 100.0)
    assert windows.take(100.0, fresh=False).until == 100.0 + BEGIN_WITHIN
