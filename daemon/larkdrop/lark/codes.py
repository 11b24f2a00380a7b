"""The table: platform code or HTTP status to whose fault it is, with the hint a person reads.

Source: the platform's pages *Server error codes*, *Upload image* (v4 and im/v1) and *Rate limits*.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from larkdrop.errors import LarkdropError, MomentFault, PictureFault, SetupFault, Throttled, TokenFault

PLATFORM_TIME = timezone(timedelta(hours=8))

TOO_LARGE = 234006
EMPTY = 234010
UNKNOWN_FORMAT = 234011
TOO_MANY_PIXELS = 234039
THROTTLED = 99991400
QUOTA_USED_UP = 99991403
NO_FILENAME = 99992402

_PICTURE = {
    TOO_LARGE: "Make it smaller than 10 MB and drop it again.",
    EMPTY: "Drop it again once it has content.",
    UNKNOWN_FORMAT: "Save it as JPEG, PNG, WEBP, GIF, TIFF, BMP or ICO.",
    TOO_MANY_PIXELS: "Scale it down: a GIF to at most 2000 × 2000 pixels, any other picture to 12000 × 12000.",
    18033: "Lark could not take this picture; open and save it anew.",
    11214: "Lark found no picture in the call; open and save it anew.",
}
_MOMENT = (1500, 1503, 1642, 1663, 1665, 1668, 2200, 4006, 5000, 10101, 10105, 10500, 232096, 234042)
_TOKEN = (99991663, 99991664, 99991665, 99991668, 99991671, 99991677, 99991661, 20005, 4001, 234002)

CREDENTIALS_HINT = "Copy app_id and app_secret again from the app's Credentials page on the developer console."
_INSTALL = "Enable the app, or have the tenant's administrator install it."
_BOT = "Enable the Bot feature for the app and publish a version."
_SCOPE = "Grant the app im:resource or im:resource:upload and publish a version."
_OFFLINE = 'Check base_url, and set api = "im/v1" in [lark] if the older API is switched off.'
_SETUP = {
    **dict.fromkeys((10003, 10014, 10015, 99991543, 10012, 10013), CREDENTIALS_HINT),
    **dict.fromkeys((234007, 11205, 11240), _BOT),
    **dict.fromkeys((99991672, 99991676), _SCOPE),
    **dict.fromkeys((99991662, 99991673, 11207, 11210, 10005, 20009), _INSTALL),
    **dict.fromkeys((30005, 99991201, 99991301), _OFFLINE),
    99991401: "Add this machine's IP address to the app's allow-list.",
    QUOTA_USED_UP: "Upgrade the tenant's plan, or wait for the 1st of next month.",
    234041: "Ask the tenant's administrator: the tenant's key was deleted.",
}
# On upload, 10014 does not speak of the secret but of the app's state.
_SETUP_ON_UPLOAD = {10014: _INSTALL}

# Answers without a code come from whatever stands between: proxies, load balancers, a wrong host.
_SETUP_STATUS = {
    **dict.fromkeys((301, 302, 303, 307, 308, 404, 405, 410), _OFFLINE),
    407: "Put the proxy's user and password into HTTPS_PROXY.",
}


def fault(code: int, message: str, log_id: str, *, upload: bool, retry_after: float | None = None) -> LarkdropError:
    """The fault that a platform ``code`` (never 0) means.

    ``upload`` tells an upload's answer from the token call's; ``retry_after`` is the wait in seconds that the answer
    asks for, if it does.
    """
    said = f"Lark says: {message.rstrip('.')}" if message else "Lark refused"
    if code == THROTTLED:
        return throttled(retry_after, said, code, log_id)
    if code in _PICTURE:
        return PictureFault(said, hint=_PICTURE[code], code=code, log_id=log_id)
    if code in _TOKEN:
        return TokenFault(said, hint=CREDENTIALS_HINT, code=code, log_id=log_id)
    if code == QUOTA_USED_UP:
        hint = f"{_SETUP[code]} It resets on {quota_reset(datetime.now(UTC)):%Y-%m-%d %H:%M} UTC."
        return SetupFault(said, hint=hint, code=code, log_id=log_id)
    if code in _SETUP:
        hint = _SETUP_ON_UPLOAD.get(code, _SETUP[code]) if upload else _SETUP[code]
        return SetupFault(said, hint=hint, code=code, log_id=log_id)
    moment = MomentFault(said, code=code, log_id=log_id)
    moment.unknown = code not in _MOMENT
    if moment.unknown:
        moment.hint = "This code is in no table; if it stays, ask Lark's support with the log id."
    return moment


def status_fault(status: int, log_id: str, *, retry_after: float | None = None) -> LarkdropError:
    """The fault that an answer without a readable code means, by its HTTP status."""
    said = f"the answer is no JSON of Lark's (HTTP {status})"
    if status == 429:
        return throttled(retry_after, said, None, log_id)
    if status == 413:
        return PictureFault(said, hint=_PICTURE[TOO_LARGE], code=TOO_LARGE, log_id=log_id)
    if status in _SETUP_STATUS:
        return SetupFault(said, hint=_SETUP_STATUS[status], log_id=log_id)
    return MomentFault(said, log_id=log_id)


def throttled(retry_after: float | None, message: str, code: int | None, log_id: str) -> Throttled:
    """A throttle that lasts ``retry_after`` seconds, or a second where the platform did not say."""
    made = Throttled(message, code=code, log_id=log_id)
    made.retry_after = 1.0 if retry_after is None else retry_after
    return made


def quota_reset(now: datetime) -> datetime:
    """When the month's quota starts anew: the 1st in the platform's time (UTC+8), given in UTC."""
    there = now.astimezone(PLATFORM_TIME)
    first = datetime(there.year + there.month // 12, there.month % 12 + 1, 1, tzinfo=PLATFORM_TIME)
    return first.astimezone(UTC)


def refuse(code: int, message: str, hint: str = "") -> PictureFault:
    """The picture's fault as the platform would put it, found here without a call."""
    return PictureFault(message, hint=hint or _PICTURE[code], code=code)
