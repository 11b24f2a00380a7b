"""Whose fault is it? The table against the platform's pages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from larkdrop.errors import (
    ApiOffline,
    CallFault,
    LarkdropError,
    MomentFault,
    PictureFault,
    SetupFault,
    Throttled,
    TokenFault,
)
from larkdrop.lark import codes

TABLE: dict[type[LarkdropError], tuple[int, ...]] = {
    PictureFault: (234006, 234010, 234011, 234039),
    CallFault: (234001, 99992402, 9499, 4000, 10001, 10003, 10400, 11214, 18033),
    MomentFault: (
        1500, 1503, 1551, 1557, 1642, 1663, 1665, 1668, 2200, 4006, 5000, 10101, 10105, 10200, 10500, 55001, 99991644,
        232096,
    ),
    Throttled: (99991400, 11232, 11233, 11247),
    TokenFault: (
        99991661, 99991663, 99991664, 99991665, 99991668, 99991670, 99991671, 99991677, 20005, 20013, 20014, 4001,
        234002,
    ),
    SetupFault: (
        10012, 10013, 10014, 10015, 20002, 20048, 50003, 11226, 99991543, 234007, 11205, 11240, 99991672, 99991676,
        99991662, 99991673, 11207, 11209, 11210, 10005, 20009, 20069, 99991401, 99991403, 90003087, 90003088, 234041,
        234042,
    ),
    ApiOffline: (30005, 99991201, 99991301),
}  # fmt: skip
ELSEWHERE = (234005, 234008, 234009, 234040, 234043, 230017, 1061045, 20024)


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, listed in TABLE.items() for code in listed])
def test_every_code_of_the_platforms_pages(kind: type[LarkdropError], code: int) -> None:
    """Each is that fault and no other, with its source; what a person can fix says how; code and log id are kept."""
    for message in ("", "some words", "10014 token invalid"):
        fault = codes.fault(code, message, "log-1", api="im/v1")
        assert type(fault) is kind
        assert (fault.code, fault.log_id) == (code, "log-1")
        assert not codes.is_unknown(fault)
        if kind not in {MomentFault, Throttled}:
            assert fault.hint.endswith(".")
            assert "{" not in fault.hint
    source = codes.TABLE[code].source
    assert source.startswith("page ") or "#" in source


def test_the_table_has_no_other_codes() -> None:
    """What belongs to other APIs is unknown here."""
    assert set(codes.TABLE) == {code for listed in TABLE.values() for code in listed}
    assert not set(ELSEWHERE) & set(codes.TABLE)
    for code, row in codes.TOKEN_TABLE.items():
        assert "#" in row.source
        assert not codes.is_unknown(codes.fault(code, "", "", api=None))
        assert codes.is_unknown(codes.fault(code, "", "", api="im/v1")) == (code not in codes.TABLE)


def test_an_unknown_code_is_the_moments_but_marked() -> None:
    """It is tried again, and said loudly."""
    fault = codes.fault(424242, "new", "log-1", api="image/v4")
    assert type(fault) is MomentFault
    assert codes.is_unknown(fault)
    assert "log id" in fault.hint


@pytest.mark.parametrize(
    ("code", "on_upload", "on_token", "words"),
    [
        (10003, CallFault, SetupFault, "app_secret"),
        (10014, SetupFault, SetupFault, "app_secret"),
        (2200, MomentFault, MomentFault, "If it stays: Copy app_id"),
        (9499, CallFault, MomentFault, "calls the request malformed"),
        (20014, TokenFault, SetupFault, "app_secret"),
    ],
)
def test_what_a_code_means_by_the_call_that_it_answers(
    code: int, on_upload: type[LarkdropError], on_token: type[LarkdropError], words: str
) -> None:
    """The token call's refusals speak of the credentials, and never of a picture."""
    assert type(codes.fault(code, "", "", api="image/v4")) is on_upload
    fault = codes.fault(code, "", "", api=None)
    assert type(fault) is on_token
    assert words in fault.hint
    assert "install" in codes.fault(10014, "", "", api="image/v4").hint


def test_the_missing_scope_is_named_with_the_link_to_grant_it() -> None:
    """As the answer names them; without, both that would do."""
    message = "Access denied.点击链接申请：https://open.feishu.cn/app/cli_1/auth?q=im:resource&token_type=tenant，谢谢"
    fault = codes.fault(99991672, message, "", api="im/v1", scopes=["im:resource", "im:resource:upload"])
    assert fault.hint == (
        "Grant the app im:resource or im:resource:upload at "
        "https://open.feishu.cn/app/cli_1/auth?q=im:resource&token_type=tenant and publish a version."
    )
    assert codes.fault(99991672, "no", "", api="im/v1").hint.startswith("Grant the app im:resource or")
    assert " at " not in codes.fault(99991676, "see javascript:alert(1)", "", api="im/v1").hint


@pytest.mark.parametrize("code", [99991403, 90003087, 90003088])
def test_the_used_up_quota_says_when_it_resets(code: int) -> None:
    """Whatever the plan."""
    assert (
        f"It resets on {codes.quota_reset(datetime.now(UTC)):%Y-%m-%d}" in codes.fault(code, "", "", api="im/v1").hint
    )


def test_an_api_that_is_offline_names_the_other_one() -> None:
    """In one sentence; where it is the newer one already, the address is wrong."""
    for fault in (codes.fault(30005, "", "", api="image/v4"), codes.status_fault(404, "", api="image/v4")):
        assert 'Set api = "im/v1" in [lark]' in fault.hint
    for fault in (codes.fault(99991201, "", "", api="im/v1"), codes.status_fault(404, "", api="im/v1")):
        assert "Check base_url" in fault.hint
        assert "Set api" not in fault.hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, MomentFault), (502, MomentFault), (503, MomentFault), (200, MomentFault), (400, MomentFault),
     (429, Throttled), (404, ApiOffline), (302, SetupFault), (407, SetupFault), (413, CallFault)],
)  # fmt: skip
def test_answers_without_a_code(status: int, kind: type[LarkdropError]) -> None:
    """Proxies and load balancers speak only by status."""
    assert type(codes.status_fault(status, "", api="image/v4")) is kind


def test_a_proxys_limit_is_not_the_pictures() -> None:
    """The size was checked here, so that the proxy is to be told."""
    fault = codes.status_fault(413, "", api="image/v4")
    assert "body limit of the proxy" in fault.hint
    assert fault.code is None


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
