"""Is everything ready for uploads? Each thing that one needs is checked, and what to do where it is not ready."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from larkdrop.config.settings import Api, Lark, Settings, Watch
from larkdrop.errors import ApiOffline, CallFault, LarkdropError, NotAvailable, PictureFault
from larkdrop.folder.mounts import by_events, file_system
from larkdrop.lark.client import Client
from larkdrop.records.durable import writable
from larkdrop.service.texts import printable

# Seconds by which a clock may be off before certificates and tokens are in danger.
CLOCK_OFF = 300
# Codes by which Lark says that a call holds no picture.
NO_PICTURE = frozenset({234001, 11214, 18033})
# A PNG of 1 × 1 pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63302ef80f0002"
    "7c01a3440b21940000000049454e44ae426082"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: ``hint`` says what to do where it isn't ``ok``."""

    what: str
    ok: bool
    says: str
    hint: str = ""


def check_everything(settings: Settings, *, try_upload: bool) -> Iterator[Finding]:
    """Check what an upload needs, one after the other; what can't be checked after a failure is left out."""
    for watch in settings.watch:
        yield from _watched_folder(watch)
        if watch.move_to:
            yield _folder(f"move_to {watch.move_to}", watch.move_to)
    yield from _inotify_watches(settings.watch)
    yield _folder(f"state {settings.state.dir}", settings.state.dir)
    yield _folder(f"result log {settings.results}", settings.results.parent)
    if settings.fleet.url.get_secret_value():
        yield from _fleet(settings)
    yield from _lark(settings.lark, try_upload=try_upload)


def _watched_folder(watch: Watch) -> Iterator[Finding]:
    """Rights, file system and observer."""
    name = f"folder {printable(str(watch.path))}"
    yield _folder(name, watch.path)
    kind = file_system(str(watch.path))
    how = "watched by inotify" if by_events(watch, kind) else f"scanned every {watch.poll_seconds:g} s"
    yield Finding(f"{name} on {kind}", ok=True, says=how)


def _inotify_watches(watches: Sequence[Watch]) -> Iterator[Finding]:
    """Of all folders together: the kernel counts those of a user."""
    needed = sum(
        1 + (sum(len(below) for _, below, _ in os.walk(watch.path)) if watch.recursive else 0)
        for watch in watches
        if by_events(watch, file_system(str(watch.path)))
    )
    if not needed:
        return
    with suppress(OSError):  # where the kernel does not tell
        allowed = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text(encoding="ascii"))
        hint = "" if needed < allowed else f"Allow more: sysctl fs.inotify.max_user_watches={2 * needed}"
        yield Finding("inotify watches", ok=not hint, says=f"{needed:,} needed, {allowed:,} allowed", hint=hint)


def _folder(what: str, path: Path) -> Finding:
    """Whether a folder, or where it will be created, can be read and written."""
    existing = next(one for one in (path, *path.parents) if os.path.exists(one))
    if os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        return Finding(what, ok=True, says="can be used" if existing == path else "will be created")
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        return Finding(what, ok=False, says=f"{existing} is read-only", hint=f"{writable(str(path))}.")
    return Finding(what, ok=False, says="can't be read and written", hint=f"Let this user read and write {existing}.")


def _fleet(settings: Settings) -> Iterator[Finding]:
    """The database that hosts share; no clock matters but its own."""
    from larkdrop.fleet.overview import overview  # noqa: PLC0415 - loads the driver of the database

    try:
        with overview(settings) as fleet:
            for what, ok, says, hint in fleet.fitness():
                yield Finding(f"fleet {what}", ok=ok, says=says, hint=hint)
    except NotAvailable as error:
        yield Finding("fleet", ok=False, says=error.message, hint=error.hint)


def _lark(lark: Lark, *, try_upload: bool) -> Iterator[Finding]:
    """Network, clock, credentials, permission; each needs the one before it."""
    client = Client(lark)
    try:
        seconds, clock_ahead = client.transport.reach()
    except LarkdropError as fault:
        yield _failed("reachability", fault, f"Check the network, the proxy, and base_url {lark.base_url}.")
        return
    way = f" through the proxy {client.transport.proxy}" if client.transport.proxy else ""
    yield Finding("reachability", ok=True, says=f"{lark.base_url} answers{way}, {seconds * 1000:.0f} ms")
    if clock_ahead is not None:
        yield _clock(clock_ahead)
    if lark.tenant_access_token.get_secret_value():
        yield Finding("sign-in", ok=True, says="a fixed tenant_access_token is set; it is valid for 2 hours at most")
    else:
        try:
            client.sign_in()
        except LarkdropError as fault:
            yield _failed("sign-in", fault, "Check app_id, app_secret and base_url.")
            return
        yield Finding("sign-in", ok=True, says=f"{lark.base_url} accepts {lark.app_id}")
    yield _upload(client, lark, pixel=try_upload)


def _clock(ahead: float) -> Finding:
    """``ahead``: seconds by which this machine's clock is ahead of Lark's."""
    hint = "" if abs(ahead) < CLOCK_OFF else "Set this machine's clock; let it follow a time server."
    says = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Lark's"
    return Finding("clock", ok=not hint, says=says, hint=hint)


def _upload(client: Client, lark: Lark, *, pixel: bool) -> Finding:
    """What Lark says to an upload of one pixel; or of nothing, which needs the permission and spends no call."""
    what = "upload" if pixel else "permission"
    try:
        uploaded = client.upload(PIXEL if pixel else b"", "message")
    except (PictureFault, CallFault) as fault:
        if pixel or not (isinstance(fault, PictureFault) or fault.code in NO_PICTURE):
            return _failed(what, fault, "Report this: the picture is a plain PNG.")
        return Finding(what, ok=True, says=f"only the picture is missing: {fault}")
    except ApiOffline as fault:
        return _not_served(lark, fault)
    except LarkdropError as fault:
        return _failed(what, fault, "Try again later.")
    return Finding(what, ok=True, says=f"a picture of one pixel has the key {uploaded.image_key}")


def _not_served(lark: Lark, fault: ApiOffline) -> Finding:
    """The platform does not serve the configured API: whether the other one works is tried, not guessed."""
    (other,) = set(get_args(Api)) - {lark.api}
    hint = f'Set api = "{other}" in [lark]: it works here.'
    try:
        Client(lark.model_copy(update={"api": other})).upload(b"", "message")
    except (PictureFault, CallFault):
        pass  # so it is served
    except ApiOffline as why:
        hint = f"Check base_url in [lark]: {other} is not served here either ({why})."
    except LarkdropError as why:
        hint = f'Set api = "{other}" in [lark]; it does not work yet: {why}. {why.hint}'.rstrip()
    return Finding(f"api {lark.api}", ok=False, says=str(fault), hint=hint)


def _failed(what: str, fault: LarkdropError, hint: str) -> Finding:
    return Finding(what, ok=False, says=str(fault), hint=fault.hint or hint)
