"""What several tests need: pictures of every format, a real daemon process, and waiting for a condition."""

from __future__ import annotations

import glob
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import pillow_heif
from PIL import Image

from larkdrop.folder.sidecar import name_for
from larkdrop.sandbox.server import Sandbox

T = TypeVar("T")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "HEIC")
ENDINGS = {"JPEG": "jpg", "TIFF": "tif"}
CAP_SYS_ADMIN = 21


def lacking(*needs: str) -> list[str]:
    """Which of these this machine lacks: tools, files (absolute, also as patterns), or "root" (with all its powers)."""
    return [need for need in needs if not _there(need)]


def _there(need: str) -> bool:
    if need == "root":  # root in a container may mount nothing
        powers = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
        return os.geteuid() == 0 and bool(powers and int(powers[1], 16) >> CAP_SYS_ADMIN & 1)
    return bool(glob.glob(need) if need.startswith("/") else shutil.which(need))


pillow_heif.register_heif_opener()


def wait_until(condition: Callable[[], T | None], seconds: float = 60.0, what: str | Callable[[], str] = "") -> T:
    """Wait until ``condition`` gives something true, and return it; fail after ``seconds``, saying ``what``."""
    deadline = time.monotonic() + seconds
    while not (got := condition()):
        if time.monotonic() > deadline:
            missed = what() if callable(what) else what or condition
            raise AssertionError(f"not within {seconds} s: {missed}")
        time.sleep(0.01)
    return got


def free_port() -> int:
    """One of the loopback address that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        made: int = found.getsockname()[1]
        return made


def picture(number: int = 0, form: str = "PNG", size: tuple[int, int] = (64, 48), noise: int = 0) -> bytes:
    """The bytes of a picture that no other ``number`` has; ``noise`` makes it that many bytes longer, or so."""
    image = Image.new("RGB", size, (number % 256, number // 256 % 256, number // 65536 % 256))
    if noise:
        side = int((noise / 3) ** 0.5) + 1
        image = Image.effect_noise((side, side), 80).convert("RGB")
        image.putpixel((0, 0), (number % 256, number // 256 % 256, number // 65536 % 256))
    out = io.BytesIO()
    options: dict[str, Any] = {"sizes": [(32, 32)]} if form == "ICO" else {"lossless": True} if form == "WEBP" else {}
    image.save(out, "HEIF" if form == "HEIC" else form, **options)
    return out.getvalue()


def file_name(form: str) -> str:
    """A usual name for a format."""
    return f"picture.{ENDINGS.get(form, form.lower())}"


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


class Daemon:
    """``larkdrop run`` as a real process, with its folders below ``home``."""

    def __init__(self, home: Path, sandbox: Sandbox | None = None, /, **sections: Any) -> None:
        """``sections`` overlay the config: ``upload={"workers": 2}``, ``watch=[{…}]``."""
        self.home = home
        self.inbox = home / "inbox"
        self.inbox.mkdir(exist_ok=True)
        self.state = home / "state"
        self.stderr = home / "stderr.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()  # a command that runs the process
        settings: dict[str, Any] = {
            "lark": {"app_id": "cli_sandbox", "app_secret": "sandbox-secret"}
            | ({"base_url": sandbox.url} if sandbox else {}),
            "upload": {"settle_seconds": 0.3, "backoff_initial": 0.1, "backoff_max": 2.0, "workers": 8},
            "state": {"dir": self.state},
            "log": {"level": "debug", "format": "json"},
        }
        for name, section in sections.items():
            settings[name] = settings.get(name, {}) | section if isinstance(section, dict) else section
        watches = settings.pop("watch", [{"path": self.inbox}])
        lines = [f"{name} = {toml(section)}" for name, section in settings.items()]
        self.config = home / "config.toml"
        self.config.write_text("\n".join([*lines, f"watch = {toml(watches)}"]), encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        """The command line that runs larkdrop with this config."""
        return [*self.prefix, sys.executable, "-m", "larkdrop", words[0], "--config", str(self.config), *words[1:]]

    def start(self, *, ready: bool = True, **environment: str) -> Self:
        """Start the process; ``ready`` waits until it watches."""
        before = self.stderr.stat().st_size if self.stderr.exists() else 0
        with self.stderr.open("ab") as log:
            self.process = subprocess.Popen(self.command("run"), stderr=log, env={**os.environ, **environment})
        if ready:
            try:
                wait_until(
                    lambda: b'"watching"' in self.stderr.read_bytes()[before:] or self.process_ended(), what="ready"
                )
            except AssertionError:
                self.kill()
                raise
        return self

    def process_ended(self) -> bool:
        """Fail with what the process said, if it ended."""
        if self.process and self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.stderr.read_text()}")
        return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process
        self.process.send_signal(number)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        assert self.process
        return self.process.wait(seconds)

    def once(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``larkdrop run --once``, to its end."""
        return subprocess.run(
            self.command("run", "--once", *words), capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip

    def drop(self, name: str, content: bytes) -> Path:
        """Write a picture into the inbox, as a program would."""
        path = self.inbox / name
        path.write_bytes(content)
        return path

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What the daemon logged, whole lines only."""
        lines = self.stderr.read_text(encoding="utf-8").split("\n")[:-1] if self.stderr.exists() else []
        made = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in made if not name or event["event"] == name]

    def results(self) -> list[dict[str, Any]]:
        """The result log, whole lines only."""
        log = self.state / "results.jsonl"
        return [json.loads(line) for line in log.read_text(encoding="ascii").split("\n")[:-1]] if log.exists() else []


def sidecar_of(path: Path) -> dict[str, Any] | None:
    """The sidecar beside a picture, or None."""
    place = path.with_name(name_for(path.name))
    if not place.exists():
        return None
    made: dict[str, Any] = json.loads(place.read_text(encoding="ascii"))
    return made


def wait_for_sidecar(path: Path, seconds: float = 60.0) -> dict[str, Any]:
    """The sidecar beside a picture, once it is there."""
    return wait_until(lambda: sidecar_of(path), seconds, f"a sidecar for {path}")
