"""``larkdrop demo``: the whole way in a minute, on real pictures, against the local sandbox."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageDraw

from larkdrop.folder.sidecar import name_for

# Seconds to wait for the daemon.
TIMEOUT = 30.0
CONFIG = """\
[lark]
base_url = "{url}"
app_id = "{app_id}"
app_secret = "{app_secret}"

[[watch]]
path = "inbox"

[upload]
settle_seconds = 0.5

[state]
dir = "state"
"""
NEXT = """\
That was a local sandbox on this machine: these keys mean nothing to the real Lark. What it left can be explored:
  {larkdrop} status --config {config}
The next demo removes this folder. To use the real Lark:
  1. Create a custom app on open.larksuite.com (or open.feishu.cn), enable its Bot feature and grant im:resource.
  2. {larkdrop} config --example > config.toml, and put app_id, app_secret and your folder into it.
  3. {larkdrop} check, then {larkdrop} run."""
# The name of the file that marks a folder as a demo's, and the beginning of such a folder's name.
MARKER, PREFIX = ".made-by-larkdrop-demo", "larkdrop-demo-"


@click.command(epilog="Example: larkdrop demo")
def command() -> None:
    """See it work in a minute, without an account: real pictures, a real daemon, a local sandbox instead of Lark."""
    from larkdrop.sandbox.server import Sandbox  # noqa: PLC0415 - an optional extra

    _remove_older()
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    (home / MARKER).write_text(str(os.getpid()))
    inbox, results = home / "inbox", home / "state" / "results.jsonl"
    inbox.mkdir()
    with Sandbox() as sandbox:
        config = home / "config.toml"
        config.write_text(CONFIG.format(url=sandbox.url, app_id=sandbox.app_id, app_secret=sandbox.app_secret))
        click.echo(f"A local sandbox plays Lark at {sandbox.url}; nothing leaves this machine.")
        click.echo(f"larkdrop run watches {inbox}\n")
        with (home / "daemon.log").open("wb") as log:
            argv = [sys.executable, "-m", "larkdrop", "run", "--config", str(config)]
            daemon = subprocess.Popen(argv, stderr=log, env=_environment())  # noqa: S603 - ourselves
        try:
            next(line for line in _follow(home, "daemon.log", daemon) if '"watching"' in line)
            pictures = list(draw(inbox))
            for line in islice(_follow(home, "state/results.jsonl", daemon), len(pictures)):
                _show(json.loads(line))
        finally:
            daemon.terminate()
            daemon.wait(30)
    sidecar = inbox / name_for(pictures[0])
    click.echo(f"\nBeside each picture stands its sidecar, such as {sidecar}:\n{sidecar.read_text().rstrip()}")
    click.echo(f"\nEvery outcome is a line in {results}, such as:\n{results.read_text().splitlines()[0]}\n")
    click.echo(NEXT.format(larkdrop=_as_typed(), config=shlex.quote(str(config))))


def _environment() -> dict[str, str]:
    """Without proxies, and without what is meant for a larkdrop of one's own: it comes before the demo's config."""
    ours = ("LARKDROP_", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY")
    names = (name for name in os.environ if not name.startswith(ours) and not name.upper().endswith("_PROXY"))
    return {name: os.environ[name] for name in names}


def _as_typed() -> str:
    """The command by which a person starts larkdrop again from here, as this one was started."""
    program = sys.argv[0]
    if os.path.basename(program) == "__main__.py":  # python -m larkdrop
        return f"{shlex.quote(sys.executable)} -m larkdrop"
    found = shutil.which("larkdrop")
    return "larkdrop" if found and os.path.samefile(found, program) else shlex.quote(program)


def _remove_older() -> None:
    """Remove the folders that earlier demos of this user left, and nothing else."""
    for home in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            ours = home.lstat().st_uid == os.getuid() and (home / MARKER).is_file()
            if ours and not _is_running((home / MARKER).read_text()):
                shutil.rmtree(home)
                click.echo(f"Removed {home}, which an earlier demo left.")


def _is_running(pid: str) -> bool:
    """Whether the demo that wrote its process id still runs."""
    running = Path("/proc", pid, "cmdline")
    return pid.isdigit() and running.exists() and b"demo" in running.read_bytes()


def draw(inbox: Path) -> Iterator[str]:
    """Drop pictures of every format into ``inbox``, one that Lark would refuse, and one twice; yields their names."""
    dice = random.Random(7)  # noqa: S311 - colours, no secrets
    for name in ("photo.jpg", "chart.png", "动画.gif", "sticker.webp", "scan.tiff", "screen shot.bmp", "avatar.ico"):
        side = 64 if name.endswith(".ico") else 320
        image = Image.linear_gradient("L").resize((side, side)).convert("RGB")
        pen = ImageDraw.Draw(image)
        for _ in range(12):
            corner = dice.randrange(side), dice.randrange(side)
            colour = dice.randrange(256), dice.randrange(256), dice.randrange(256)
            pen.ellipse([*corner, corner[0] + side // 5, corner[1] + side // 5], fill=colour)
        image.save(inbox / name)
        yield name
    (inbox / "copy of chart.png").write_bytes((inbox / "chart.png").read_bytes())
    yield "copy of chart.png"
    (inbox / "not-a-picture.png").write_text("I only claim to be a picture.\n")
    yield "not-a-picture.png"


def _follow(home: Path, name: str, daemon: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines of a log, as the daemon writes them. Raises ClickException where it ends, or none comes in time."""
    file, seen, deadline = home / name, 0, time.monotonic() + TIMEOUT
    while daemon.poll() is None and time.monotonic() < deadline:
        new = file.read_text().split("\n")[seen:-1] if file.exists() else []
        for line in new:
            yield line
            deadline = time.monotonic() + TIMEOUT
        seen += len(new)
        time.sleep(0.01)
    raise click.ClickException(f"the daemon ended, or did not answer in time; see {home / 'daemon.log'}.")


def _show(line: dict[str, Any]) -> None:
    name = Path(line["path"]).name
    if line["event"] == "rejected":
        click.echo(f"  {click.style('✗', fg='red')} {name:20} rejected: {line['error']['message']}")
    else:
        click.echo(f"  {click.style('✓', fg='green')} {name:20} {line['image_key']}  ({line['event']})")
