"""``larkdrop check``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import get_args

import click

from larkdrop.commands import as_service
from larkdrop.commands.options import config_option, json_option, print_json, shown
from larkdrop.config import load as config
from larkdrop.config.settings import Api, Settings, Watch
from larkdrop.errors import ApiOffline, CallFault, ConfigError, LarkdropError, PictureFault
from larkdrop.folder.mounts import file_system, reports_changes
from larkdrop.lark.client import Client
from larkdrop.records.durable import writable

# Seconds by which a clock may be off before certificates and tokens are in danger.
CLOCK = 300
# A PNG of 1 × 1 pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63302ef80f0002"
    "7c01a3440b21940000000049454e44ae426082"
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``hint`` says what to do where it isn't ``ok``."""

    what: str
    ok: bool
    says: str
    hint: str = ""


@click.command(epilog="Example: larkdrop check --config config.toml")
@config_option
@json_option
@click.option("--upload", "try_upload", is_flag=True, help="Also upload a picture of one pixel: a call of the quota.")
@click.option("--service", metavar="UNIT", help="Look as this systemd unit sees it: its user, sandbox and credentials.")
@click.option("--user", is_flag=True, help="The unit is one of your own (systemctl --user).")
def command(config_file: Path | None, *, as_json: bool, try_upload: bool, service: str | None, user: bool) -> None:
    """Tell whether everything is ready for uploads; exit 1 if something is not."""
    if service:
        if config_file:
            raise click.UsageError("--service takes the config that the unit names; leave --config out.")
        sys.exit(_as_service(service, user=user, as_json=as_json, try_upload=try_upload))
    try:
        settings = config.load(config_file)
    except ConfigError as error:
        *others, last = (error.message, *error.problems)
        problems = [Finding("config", ok=False, says=problem) for problem in others]
        _tell([*problems, Finding("config", ok=False, says=last, hint=error.hint)], as_json=as_json)
        sys.exit(error.exit_code)
    read = Finding("config", ok=True, says=str(config.find(config_file) or "the environment only"))
    sys.exit(0 if _tell(chain([read], look(settings, try_upload=try_upload)), as_json=as_json) else 1)


def _as_service(unit: str, *, user: bool, as_json: bool, try_upload: bool) -> int:
    ended = as_service.run(unit, ("check", "--json", *(["--upload"] if try_upload else [])), user=user)
    try:
        findings = [Finding(**finding) for finding in json.loads(ended.output)]
    except ValueError:
        said = " ".join(ended.errors.split()) or f"systemd could not start it ({ended.why})"
        hint = f"Look at its lines: journalctl{' --user' if user else ''} -n 20 -u 'larkdrop-check-*'"
        findings = [Finding(unit, ok=False, says=said, hint=hint)]
    well = _tell(findings, as_json=as_json)
    return 0 if well else ended.exit_code if ended.exit_code in {1, 78} else 1


def _tell(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Print findings as they come; whether all is ok."""
    told = []
    for finding in findings:
        told.append(finding)
        if not as_json:
            mark = click.style("✓", fg="green") if finding.ok else click.style("✗", fg="red")
            click.echo(f"{mark} {finding.what}: {shown(finding.says)}")
            if finding.hint:
                click.echo(f"  → {finding.hint}")
    if as_json:
        print_json([asdict(finding) for finding in told])
    return all(finding.ok for finding in told)


def look(settings: Settings, *, try_upload: bool) -> Iterator[Finding]:
    """Look at everything an upload needs, one after the other; what can't be after a failure is left out."""
    for watch in settings.watch:
        yield from _watched(watch)
        if watch.move_to:
            yield _folder(f"move_to {watch.move_to}", watch.move_to)
    yield _folder(f"state {settings.state.dir}", settings.state.dir)
    yield _folder(f"result log {settings.results}", settings.results.parent)
    client = Client(settings.lark)
    try:
        reached = client.reach()
    except LarkdropError as fault:
        yield _failed("reachability", fault, f"Look at the network, the proxy, and base_url {settings.lark.base_url}.")
        return
    way = f" through the proxy {reached.proxy}" if reached.proxy else ""
    says = f"{settings.lark.base_url} answers{way}, {reached.seconds * 1000:.0f} ms"
    yield Finding("reachability", ok=True, says=says)
    if reached.clock_ahead is not None:
        off = reached.clock_ahead
        hint = "" if abs(off) < CLOCK else "Set this machine's clock; let it follow a time server."
        says = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Lark's"
        yield Finding("clock", ok=not hint, says=says, hint=hint)
    yield from _signed_in(settings, client, try_upload=try_upload)


def _watched(watch: Watch) -> Iterator[Finding]:
    """Rights, file system and observer, and inotify watches."""
    name = f"folder {shown(str(watch.path))}"
    yield _folder(name, watch.path)
    kind = file_system(str(watch.path))
    polled = watch.observer == "polling" or (watch.observer == "auto" and not reports_changes(kind))
    how = f"looked through every {watch.poll_seconds:g} s" if polled else "watched by inotify"
    yield Finding(f"{name} on {kind}", ok=True, says=how)
    if polled:
        return
    folders = 1 + (sum(len(below) for _, below, _ in os.walk(watch.path)) if watch.recursive else 0)
    try:
        most = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text(encoding="ascii"))
    except OSError:
        return
    hint = "" if folders < most else f"Allow more: sysctl fs.inotify.max_user_watches={2 * folders}"
    watches = "1 inotify watch" if folders == 1 else f"{folders:,} inotify watches"
    yield Finding(f"{name} needs {watches}", ok=not hint, says=f"{most:,} are allowed", hint=hint)


def _folder(what: str, path: Path) -> Finding:
    there = path
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    if os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return Finding(what, ok=True, says="can be used" if there == path else "will be created")
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return Finding(what, ok=False, says=f"{there} is read-only", hint=f"{writable(str(path))}.")
    return Finding(what, ok=False, says="can't be read and written", hint=f"Let this user read and write {there}.")


def _signed_in(settings: Settings, client: Client, *, try_upload: bool) -> Iterator[Finding]:
    """Credentials, then permission: what Lark says to an upload of nothing, or of one pixel."""
    if settings.lark.tenant_access_token.get_secret_value():
        yield Finding("sign-in", ok=True, says="a fixed tenant_access_token is set; it lives for 2 hours at most")
    else:
        try:
            client.sign_in()
        except LarkdropError as fault:
            yield _failed("sign-in", fault, "Look at app_id, app_secret and base_url.")
            return
        yield Finding("sign-in", ok=True, says=f"{settings.lark.base_url} accepts {settings.lark.app_id}")
    try:
        made = client.upload(PIXEL if try_upload else b"", "message")
    except (PictureFault, CallFault) as fault:
        if try_upload:
            yield _failed("upload", fault, "Report this: the picture is a plain PNG.")
        else:
            yield Finding("permission", ok=True, says=f"only the picture is missing: {fault}")
    except ApiOffline as fault:
        yield Finding(f"api {settings.lark.api}", ok=False, says=str(fault), hint=_other_api(settings))
    except LarkdropError as fault:
        yield _failed("upload" if try_upload else "permission", fault, "Try again later.")
    else:
        yield Finding("upload", ok=True, says=f"a picture of one pixel has the key {made.image_key}")


def _other_api(settings: Settings) -> str:
    """What to do where the platform does not serve the configured API: tried, not guessed."""
    (other,) = set(get_args(Api)) - {settings.lark.api}
    try:
        Client(settings.lark.model_copy(update={"api": other})).upload(b"", "message")
    except (PictureFault, CallFault):
        pass  # so it is served
    except ApiOffline as why:
        return f"Check base_url in [lark]: {other} is not served here either ({why})."
    except LarkdropError as why:
        return f'Set api = "{other}" in [lark]; it does not work yet: {why}. {why.hint}'.rstrip()
    return f'Set api = "{other}" in [lark]: it works here.'


def _failed(what: str, fault: LarkdropError, hint: str) -> Finding:
    return Finding(what, ok=False, says=str(fault), hint=fault.hint or hint)
