"""A real, booted systemd in namespaces of its own, and the commands of docs/service.md for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Self

from tests.helpers import lacking, wait_until

PROJECT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
# The base lies in a mount namespace of its own, so this folder of the host stays empty.
BASE = Path("/mnt")
CHECKOUT = "/root/larkdrop"
SEEN = re.compile(r"PIP_|SSL_|REQUESTS_CA|CURL_CA")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def why_not() -> str:
    """Why no guest can be booted here, or nothing."""
    missing = lacking("root", "unshare", "nsenter", "pivot_root", "/lib/systemd/systemd")
    return f"needs {', '.join(missing)}" if missing else ""


class Guest:
    """Boots on entry, and is gone on exit with everything in it."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        self._unshare: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo && exec sleep infinity"], stdout=PIPE)
        assert self._holder.stdout
        self._holder.stdout.readline()
        self._hold("mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(BASE))
        self._hold("mkdir", f"{BASE}/upper")
        files = f"git -C {PROJECT} ls-files -zco --exclude-standard --deduplicate"
        tar = f"{files} | tar -C {PROJECT} --null -T - -c --ignore-failed-read"
        target = f"{BASE}/upper{CHECKOUT}"
        self._hold("sh", "-c", f"mkdir -p -m 700 {BASE}/upper/root && mkdir {target} && ({tar}) | tar -C {target} -x")
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.power_off()
        if self._holder:
            self._holder.kill()
            self._holder.wait()
            if self._holder.stdout:
                self._holder.stdout.close()

    def boot(self) -> None:
        """Start systemd, and wait until it is up."""
        assert self._holder
        namespaces = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]
        enter = ["nsenter", "-t", str(self._holder.pid), "-m", *namespaces, "bash", str(BOOT), str(BASE)]
        self._unshare = subprocess.Popen(enter, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True)
        self.pid = wait_until(self._init, what="systemd's process")
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False) in {"running", "degraded"}, 60)

    def power_off(self) -> None:
        """Pull the plug."""
        if self._unshare:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            self._unshare.kill()
            self._unshare.wait()
            if self._unshare.stderr:
                self._unshare.stderr.close()
        self.pid = 0

    def run(self, *words: str, check: bool = True, stdin: str = "", user: str = "") -> str:
        """Run a command in the guest. What it printed, standard error too; AssertionError where it failed."""
        environment = {name: value for name, value in os.environ.items() if SEEN.match(name)}
        environment |= {"PATH": PATH, "HOME": f"/home/{user}" if user else "/root", "LANG": "C.UTF-8", "EDITOR": "true"}
        if user:
            identity = subprocess.check_output(self._inside("id", "-u", user), text=True).strip()
            environment |= {"XDG_RUNTIME_DIR": f"/run/user/{identity}"}
            words = ("setpriv", "--reuid", user, "--regid", user, "--init-groups", *words)
        done = subprocess.run(
            self._inside("env", "-i", *(f"{name}={value}" for name, value in environment.items()), *words),
            input=stdin, stdout=PIPE, stderr=STDOUT, text=True, timeout=110, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}"
        return done.stdout.strip()

    def bash(self, script: str, *, check: bool = True, stdin: str = "", user: str = "", folder: str = "/") -> str:
        """Run a script in the guest, which ends at the first command that fails."""
        return self.run("bash", "-euo", "pipefail", "-c", f"cd {folder}\n{script}", check=check, stdin=stdin, user=user)

    def show(self, unit: str, name: str) -> str:
        """One of a unit's properties."""
        return self.run("systemctl", "show", "-P", name, unit)

    def path(self, path: str) -> Path:
        """A path of the guest's, as the host reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def added(self, pattern: str) -> list[str]:
        """The paths of this name that stand in the guest only, not on the machine below it."""
        assert self._holder
        upper = Path(f"/proc/{self._holder.pid}/root{BASE}/upper")
        return [f"/{path.relative_to(upper)}" for path in upper.rglob(pattern) if not path.is_char_device()]

    def log(self, unit: str, *words: str) -> list[str]:
        """What a unit itself said, a line each."""
        return self.run("journalctl", "-q", "-o", "cat", f"_SYSTEMD_UNIT={unit}", *words).splitlines()

    def events(self, unit: str, name: str) -> list[dict[str, Any]]:
        """The events of this name in a unit's log."""
        return [json.loads(line) for line in self.log(unit) if line.startswith(f'{{"event": "{name}"')]

    def _init(self) -> int:
        assert self._unshare
        if self._unshare.poll() is not None and self._unshare.stderr:
            raise AssertionError(f"no guest: {self._unshare.stderr.read().decode()}")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
        booted = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "systemd"]
        return booted[0] if booted else 0

    def _inside(self, *words: str) -> list[str]:
        # Not the namespace of users or of the network: those are the host's.
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-p", "-C", "-r", "-w", *words]

    def _hold(self, *words: str) -> None:
        assert self._holder
        subprocess.run(["nsenter", "-t", str(self._holder.pid), "-m", *words], check=True)


def documented(heading: str) -> list[str]:
    """The command blocks under a heading of docs/service.md, in order."""
    text = (PROJECT / "docs/service.md").read_text(encoding="utf-8")
    part = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
