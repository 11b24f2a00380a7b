"""A real PostgreSQL in a folder of its own, on loopback, run by an ordinary user."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from larkdrop.fleet import schema
from tests.helpers import free_port, wait_until

SERVER = "/usr/lib/postgresql/*/bin/postgres"
ADMIN = "admin"


class Postgres:
    """A server; a context manager. Its superuser is ``admin``, whom it believes; others need a password."""

    def __init__(self, *, size: str = "", tls: bool = False, **settings: object) -> None:
        """``settings`` are those of postgresql.conf; with a ``size`` it has a small disk of its own."""
        self._size = size
        self._tls = tls
        self._bin = Path(max(glob.glob(SERVER))).parent
        self._home = Path(tempfile.mkdtemp(prefix="larkdrop-postgres-"))
        self.data = self._home / "data"
        self.port = free_port()
        self.user = "postgres" if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **settings}

    def __enter__(self) -> Self:
        if self._size:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", self._home], check=True)
        self.data.mkdir()
        if self._tls:
            self._make_certificate()
        self.own()
        self.run("initdb", "-D", self.data, "-U", ADMIN, "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        who = f"host all {ADMIN} 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256", ""
        (self.data / "pg_hba.conf").write_text("\n".join(who))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._size:
            subprocess.run(["umount", "-l", self._home], check=True)
        shutil.rmtree(self._home, ignore_errors=True)

    def freeze(self) -> None:
        """Stop every process of it, until ``thaw``."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """End ``freeze``."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # one of them may have ended by itself
                os.kill(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """All of its, by their ids."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [self.process.pid, *map(int, children.split())]

    @contextmanager
    def full(self) -> Iterator[None]:
        """There is no room on its disk, as long as this lasts."""
        filler = self._home / "filler"
        try:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            filler.unlink()

    @property
    def certificate(self) -> Path:
        """With ``tls``: its own, which nobody else has signed."""
        return self._home / "server.crt"

    def _make_certificate(self) -> None:
        key = self._home / "server.key"
        subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        made = ("-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", self.certificate)
        subprocess.run(["openssl", "req", *made, *subject], check=True, capture_output=True)
        key.chmod(0o600)
        self._settings |= {"ssl": "on", "ssl_cert_file": self.certificate, "ssl_key_file": key}

    def own(self) -> None:
        """Give all files to the user who runs it."""
        self._home.chmod(0o755)
        if self.user:
            subprocess.run(["chown", "-R", self.user, self._home], check=True)
        self.data.chmod(0o700)

    def run(self, tool: str, *words: object) -> None:
        """A tool of PostgreSQL's."""
        command = [str(self._bin / tool), *map(str, words)]
        subprocess.run(command, user=self.user, cwd="/", check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        command = [str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), *options]

        def answers() -> bool:
            if self.process is None or self.process.poll() is not None:  # processes of the one before may end late
                with (self._home / "log").open("ab") as log:
                    self.process = subprocess.Popen(command, user=self.user, cwd="/", stderr=log, stdout=log)
            try:
                psycopg.connect(self.url(ADMIN), connect_timeout=2).close()
            except psycopg.Error:
                return False
            return True

        wait_until(answers, what=lambda: f"PostgreSQL: {(self._home / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process:
            self.thaw()
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it as an operator does."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None

    def make_role(self, password: str, database: str, *, by: str = ADMIN) -> None:
        """Make larkdrop's user and its database, by the script that larkdrop brings along."""
        script = Path(schema.__file__).parent / "sql/role.sql"
        variables = ("-v", f"password={password}", "-v", f"database={database}")
        subprocess.run(
            [str(self._bin / "psql"), "-X", self.url(*by.split(":")), *variables, "-f", str(script)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def url(self, user: str, password: str = "", database: str = "postgres") -> str:
        """As larkdrop's config has it."""
        return f"postgresql://{user}{f':{password}' * bool(password)}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of a statement of the superuser's."""
        with psycopg.connect(self.url(ADMIN, database=database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []
