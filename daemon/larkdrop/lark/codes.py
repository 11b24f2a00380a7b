"""Whose fault is it? A table of the platform's codes and HTTP statuses, with the source of each and a hint for people.

Sources are the platform's pages of these names, and its answers as recorded in public issues (repository#number).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

from larkdrop.config.settings import Api
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
from larkdrop.lark.throttling import WAIT

PLATFORM_TIME = timezone(timedelta(hours=8))

TOO_LARGE = 234006
EMPTY = 234010
UNKNOWN_FORMAT = 234011
TOO_MANY_PIXELS = 234039

UPLOAD, GENERIC, LIMITS, QUOTA = (
    f"page {name}" for name in ("Upload image", "Generic error codes", "Rate limits", "Custom app API call quota")
)
HTTP = "RFC 9110"

_CREDENTIALS = "Copy app_id and app_secret again from the app's Credentials page on the developer console."
_CALL = "Lark calls the request malformed. One picture: save it again. All pictures: update larkdrop, check the proxy."
_SCOPE = "Grant the app {scopes}{link} and publish a version."
_BOT = "Enable the Bot feature for the app and publish a version."
_INSTALL = "Enable the app, or have the tenant's administrator install it."
_QUOTA = "Upgrade the tenant's plan, or wait for the 1st of next month. It resets on {reset:%Y-%m-%d %H:%M} UTC."
_TENANT = "Ask the tenant's administrator: the tenant's {what}."
_OFFLINE = 'Set api = "im/v1" in [lark]: the platform no longer serves image/v4 here.'
_ADDRESS = "Check base_url in [lark]: this address does not serve {api}."

PROXY_LOGIN = "Put the proxy's user and password into HTTPS_PROXY."


@dataclass(frozen=True)
class Row:
    """What a code means: whose fault, where that is documented, and what a person can do."""

    kind: type[LarkdropError]
    source: str
    hint: str = ""


def _rows(kind: type[LarkdropError], source: str, *listed: int, hint: str = "") -> dict[int, Row]:
    return dict.fromkeys(listed, Row(kind, source, hint))


TABLE: dict[int, Row] = {
    **_rows(PictureFault, UPLOAD, TOO_LARGE, hint="Make it smaller than 10 MB and drop it again."),
    **_rows(PictureFault, UPLOAD, EMPTY, hint="Drop it again once it has content."),
    **_rows(PictureFault, UPLOAD, UNKNOWN_FORMAT, hint="Save it as JPEG or PNG and drop it again."),
    **_rows(
        PictureFault, UPLOAD, TOO_MANY_PIXELS,
        hint="Scale it down: an avatar to at most 4096 × 4096 pixels, a GIF to 2000 × 2000, any other picture to "
        "12000 × 12000.",
    ),
    **_rows(CallFault, "larksuite/node-sdk#44", 234001, hint=_CALL),
    **_rows(CallFault, "NousResearch/hermes-agent#64725", 99992402, hint=_CALL),
    **_rows(CallFault, GENERIC, 9499, 4000, 10001, 10003, 10400, 11214, 18033, hint=_CALL),
    **_rows(
        MomentFault, GENERIC, 1500, 1503, 1551, 1557, 1642, 1663, 1665, 1668, 2200, 4006, 5000, 10101, 10105, 10200,
        10500, 55001, 99991644,
    ),
    **_rows(MomentFault, UPLOAD, 232096),
    **_rows(Throttled, LIMITS, 99991400),
    **_rows(Throttled, GENERIC, 11232, 11233, 11247),
    **_rows(
        TokenFault, GENERIC, 99991661, 99991663, 99991664, 99991665, 99991668, 99991670, 99991671, 99991677, 20005,
        20013, 20014, 4001, hint=_CREDENTIALS,
    ),
    **_rows(TokenFault, UPLOAD, 234002, hint="Lark refuses the call as unauthorised; ask its support with the log id."),
    **_rows(SetupFault, GENERIC, 10012, 10013, 10015, 20002, 20048, 50003, 11226, 99991543, hint=_CREDENTIALS),
    **_rows(SetupFault, GENERIC, 10014, 10005, 11207, 11209, 11210, 20009, 20069, 99991662, 99991673, hint=_INSTALL),
    **_rows(SetupFault, UPLOAD, 234007, hint=_BOT),
    **_rows(SetupFault, GENERIC, 11205, 11240, hint=_BOT),
    **_rows(SetupFault, "m1heng/clawdbot-feishu#149", 99991672, hint=_SCOPE),
    **_rows(SetupFault, GENERIC, 99991676, hint=_SCOPE),
    **_rows(SetupFault, GENERIC, 99991401, hint="Add this machine's IP address to the app's allow-list."),
    **_rows(SetupFault, QUOTA, 99991403, hint=_QUOTA),
    **_rows(SetupFault, GENERIC, 90003087, 90003088, hint=_QUOTA),
    **_rows(ApiOffline, GENERIC, 30005, 99991201, 99991301, hint=_ADDRESS),
    **_rows(SetupFault, UPLOAD, 234041, hint=_TENANT.format(what="key was deleted")),
    **_rows(SetupFault, UPLOAD, 234042, hint=_TENANT.format(what="storage is full or failing")),
}  # fmt: skip

UNKNOWN = Row(MomentFault, "", "larkdrop does not know this code; if it stays, ask Lark's support with the log id.")

# What a code means in the answer to a call for a token, where that is something else.
TOKEN_TABLE: dict[int, Row] = {
    **_rows(SetupFault, "excitedjs/dreamux#417", 10003, hint=_CREDENTIALS),
    **_rows(SetupFault, "larksuite/oapi-sdk-java#33", 10014, hint=_CREDENTIALS),
    **_rows(MomentFault, "feishu-openai#21", 2200, hint=f"If it stays: {_CREDENTIALS}"),
}

# What an answer without a code means, by its HTTP status.
STATUSES: dict[int, Row] = {
    **_rows(Throttled, "RFC 6585", 429),
    **_rows(CallFault, HTTP, 413, hint="Raise the body limit of the proxy between this machine and Lark to 11 MB."),
    **_rows(ApiOffline, HTTP, 404, 410, hint=_ADDRESS),
    **_rows(SetupFault, HTTP, 301, 302, 303, 307, 308, 405, hint=_ADDRESS),
    **_rows(SetupFault, HTTP, 407, hint=PROXY_LOGIN),
}

_LINK = re.compile(r"https?://[!#-;=?-~]+")


def fault(
    code: int, message: str, log_id: str, *, api: Api | None, retry_after: float = WAIT, scopes: Iterable[str] = ()
) -> LarkdropError:
    """The fault that a platform ``code`` (never 0) means.

    ``api`` is the upload API that was called, None for a call for a token; ``retry_after`` the wait in seconds that the
    answer asks for; ``scopes`` the permissions that it names as missing.
    """
    said = f"Lark says: {message.rstrip('.')}" if message else "Lark refused"
    row = (TABLE if api else TABLE | TOKEN_TABLE).get(code, UNKNOWN)
    if api is None:  # a call for a token says nothing of a picture, and has no token that could be renewed
        row = replace(row, kind={CallFault: MomentFault, TokenFault: SetupFault}.get(row.kind, row.kind))
    link = _LINK.search(message)
    return _fault(
        row, said, code, log_id, api, retry_after,
        scopes=" or ".join(scopes) or "im:resource or im:resource:upload",
        link=f" at {link.group().rstrip('.,;)')}" if link else "",
        reset=quota_reset(datetime.now(UTC)),
    )  # fmt: skip


def status_fault(status: int, log_id: str, *, api: Api | None, retry_after: float = WAIT) -> LarkdropError:
    """The fault that an answer without a readable code means, by its HTTP status.

    Such an answer comes from something on the way: a proxy, a load balancer, a wrong host.
    """
    said = f"the answer is no JSON of Lark's (HTTP {status})"
    if status == 413:
        said = "the picture is larger than a proxy lets through (HTTP 413)"
    return _fault(STATUSES.get(status, Row(MomentFault, HTTP)), said, None, log_id, api, retry_after)


def _fault(
    row: Row, said: str, code: int | None, log_id: str, api: Api | None, retry_after: float, **words: object
) -> LarkdropError:
    """The fault in a row, with the words that its hint has room for."""
    hint = _OFFLINE if row.kind is ApiOffline and api == "image/v4" else row.hint
    made = row.kind(said, hint=hint.format(api=api or "tokens", **words), code=code, log_id=log_id)
    if isinstance(made, Throttled):
        made.retry_after, made.of_upload = retry_after, api is not None
    return made


def is_unknown(fault: LarkdropError) -> bool:
    """Whether a fault's code is in no table."""
    return fault.hint == UNKNOWN.hint


def is_quota(code: int | None) -> bool:
    """Whether a code says that the tenant's quota of calls is used up."""
    return code in TABLE and TABLE[code].hint is _QUOTA


def quota_reset(now: datetime) -> datetime:
    """When the month's quota starts anew: the 1st in the platform's time (UTC+8), given in UTC."""
    there = now.astimezone(PLATFORM_TIME)
    first = datetime(there.year + there.month // 12, there.month % 12 + 1, 1, tzinfo=PLATFORM_TIME)
    return first.astimezone(UTC)


def refuse(code: int, message: str, hint: str = "") -> PictureFault:
    """The picture's fault as the platform would report it, found without a call."""
    return PictureFault(message, hint=hint or TABLE[code].hint, code=code)
