"""Whose fault is it? The table against the platform's pages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from larkdrop.errors import LarkdropError, MomentFault, PictureFault, SetupFault, Throttled, TokenFault
from larkdrop.lark import codes

TABLE: dict[type[LarkdropError], tuple[int, ...]] = {
    PictureFault: (234006, 234010, 234011, 234039, 18033, 11214),
    MomentFault: (1500, 1503, 1642, 1663, 1665, 1668, 2200, 4006, 5000, 10101, 10105, 10500, 232096, 234042),
    Throttled: (99991400,),
    TokenFault: (99991663, 99991664, 99991665, 99991668, 99991671, 99991677, 99991661, 20005, 4001, 234002),
    SetupFault: (
        10003, 10014, 10015, 99991543, 10012, 10013, 234007, 11205, 11240, 99991672, 99991676, 99991662, 99991673,
        11207, 11210, 10005, 20009, 99991401, 99991403, 30005, 99991201, 99991301, 234041,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, listed in TABLE.items() for code in listed])
def test_every_code_of_the_platforms_pages(kind: type[LarkdropError], code: int) -> None:
    """Each is that fault and no other; what a person can mend says how; code and log id are kept."""
    for message in ("", "some words", "10014 token invalid"):
        fault = codes.fault(code, message, "log-1", upload=True)
        assert type(fault) is kind
        assert (fault.code, fault.log_id) == (code, "log-1")
        assert not getattr(fault, "unknown", False)
        if kind in {SetupFault, PictureFault}:
            assert fault.hint


def test_an_unknown_code_is_the_moments_but_marked() -> None:
    """It is tried again, and said loudly."""
    fault = codes.fault(424242, "new", "log-1", upload=True)
    assert type(fault) is MomentFault
    assert fault.unknown
    assert "log id" in fault.hint


def test_10014_speaks_of_the_secret_or_of_the_app() -> None:
    """By the call that it answers."""
    assert "app_secret" in codes.fault(10014, "", "", upload=False).hint
    assert "install" in codes.fault(10014, "", "", upload=True).hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, MomentFault), (502, MomentFault), (503, MomentFault), (200, MomentFault), (429, Throttled),
     (404, SetupFault), (302, SetupFault), (407, SetupFault), (413, PictureFault)],
)  # fmt: skip
def test_answers_without_a_code(status: int, kind: type[LarkdropError]) -> None:
    """Proxies and load balancers speak by status alone."""
    assert type(codes.status_fault(status, "")) is kind


@pytest.mark.parametrize(
    ("now", "reset"),
    [
        (datetime(2026, 11, 23, 9, tzinfo=UTC), datetime(2026, 11, 30, 16, tzinfo=UTC)),
        (datetime(2026, 11, 30, 17, tzinfo=UTC), datetime(2026, 12, 31, 16, tzinfo=UTC)),
        (datetime(2026, 12, 31, 15, 59, tzinfo=UTC), datetime(2026, 12, 31, 16, tzinfo=UTC)),
    ],
)
def test_the_quota_resets_on_the_1st_in_the_platforms_time(now: datetime, reset: datetime) -> None:
    """UTC+8, also over the turn of the year."""
    assert codes.quota_reset(now) == reset
