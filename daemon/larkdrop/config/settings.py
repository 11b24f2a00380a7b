"""Everything that can be set: types, defaults, limits, and what each key is for."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import platformdirs
from pydantic import AfterValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from larkdrop.config.validate import (
    FilePath,
    HostName,
    Listen,
    PostgresUrl,
    Seconds,
    Section,
    Token,
    Url,
    WatchedFolder,
    problem,
)

SECRETS = ("app_secret", "tenant_access_token")
# What the examples have where a person puts their own.
PLACEHOLDERS = frozenset({"cli_…", "cli_...", "cli_a1b2c3d4e5f6", "…", "..."})
COPY = "copy it from the app's Credentials page on the developer console"
IGNORED = (
    ".*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download", "*.swp", "Thumbs.db",
    "desktop.ini",
)  # fmt: skip

Api = Literal["image/v4", "im/v1"]
ImageType = Literal["message", "avatar"]
UpToAnHour = Annotated[float, Field(gt=0, le=3600)]


def _key(default: Any, text: str, *, gt: float | None = None, ge: float | None = None, le: float | None = None) -> Any:
    return Field(default, description=text, gt=gt, ge=ge, le=le)


class Lark(Section):
    """How to reach Lark, and as whom."""

    model_config = ConfigDict(str_strip_whitespace=True)
    checked_to_sign_in: ClassVar[bool] = True

    base_url: Url = _key("https://open.larksuite.com", "Lark; Feishu is https://open.feishu.cn.")
    api: Api = _key("image/v4", '"image/v4", or "im/v1" where the older one is switched off.')
    app_id: str = _key("", "From the app's Credentials page; begins with cli_.")
    app_secret: SecretStr = _key(
        "", "From the same page. Better kept out of here: LARKDROP_LARK__APP_SECRET, or a systemd credential."
    )
    tenant_access_token: Token = _key(
        "", "A token instead of app_secret. It is valid for 2 hours at most: for trials only."
    )
    connect_timeout: float = _key(10.0, "Seconds to wait for a connection; more on bad lines.", gt=0, le=600)
    read_timeout: UpToAnHour = _key(
        60.0, "Seconds to wait for an answer. A call ends after both time-outs, and 1 s for each 64 KiB sent."
    )
    requests_per_second: int = _key(
        50, "Calls a second; less where other hosts use the app without [fleet].", ge=1, le=10_000
    )
    requests_per_minute: int = _key(
        1000, "Calls a minute; less where other hosts use the app without [fleet].", ge=1, le=600_000
    )
    calls_per_month: int = _key(
        0, "The plan's quota, for `larkdrop status`; all apps of the tenant share it. 0: none, or not known.", ge=0
    )
    probe_seconds: float = _key(
        60.0, "Seconds between tries while a person has to fix the set-up; less to resume sooner.", ge=0.1, le=86_400
    )

    @property
    def scope(self) -> str:
        """Whom keys belong to: the app, or where only a token is known, that token's fingerprint."""
        token = self.tenant_access_token.get_secret_value().encode()
        return self.app_id or f"token-{hashlib.sha256(token).hexdigest()[:16]}"

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Credentials, whole and one's own."""
        app_id, secret, token = (str(data.get(key) or "").strip() for key in ("app_id", *SECRETS))
        if token and secret:
            yield "tenant_access_token", "set either app_secret or tenant_access_token, not both"
        for key, value in (("app_id", app_id), ("app_secret", secret)):
            if not value and not token:
                yield key, f"is missing; {COPY}"
            if value in PLACEHOLDERS:
                yield key, f"is the example's; {COPY}"


class Watch(Section):
    """One drop folder."""

    path: WatchedFolder = Field(description="The folder to drop pictures into.")
    image_type: ImageType = _key("message", '"message" for pictures in messages, "avatar" for avatars.')
    recursive: bool = _key(default=True, text="false to skip sub-folders.")
    patterns: tuple[str, ...] = _key(("*",), 'Names to take (case does not matter); ["*.png"] to skip everything else.')
    ignore: tuple[str, ...] = _key(IGNORED, "Names of files and folders to skip.")
    observer: Literal["auto", "inotify", "polling"] = _key(
        "auto", '"polling" where others write over a network; "auto" decides by the type of the file system.'
    )
    poll_seconds: float = _key(
        10.0, "Seconds between scans where a folder is polled; less for a faster answer.", ge=0.1, le=86_400
    )
    after_upload: Literal["keep", "move", "delete"] = _key(
        "keep", '"move" or "delete" the picture once its key is safely recorded.'
    )
    move_to: FilePath | None = _key(None, 'Where "move" puts picture and sidecar; outside every watched folder.')

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("after_upload") == "move" and not data.get("move_to"):
            yield "move_to", 'is missing; after_upload = "move" needs a folder'
        if data.get("move_to") and data.get("after_upload") != "move":
            yield "move_to", 'is only used with after_upload = "move"'


def _apart(watches: tuple[Watch, ...]) -> tuple[Watch, ...]:
    for one, other in combinations((watch.path for watch in watches), 2):
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise problem(f"{one} and {other} must not be the same folder or lie in each other")
    return watches


class Upload(Section):
    """How files become uploads."""

    workers: int = _key(16, "Uploads at the same time; more only where an answer takes over 300 ms.", ge=1, le=256)
    settle_seconds: Seconds = _key(
        2.0, "Seconds a file must be quiet when its end can't be told; more for slow writers."
    )
    rescan_seconds: float = _key(
        300.0, "Seconds between scans of every file, in case an event was lost.", ge=1, le=86_400
    )
    dedupe: bool = _key(default=True, text="false to upload the same content again for every file.")
    backoff_initial: UpToAnHour = _key(
        1.0,
        "Longest pause in seconds before the first retry; doubles with every failure. 60 times that where "
        "Lark calls the request malformed.",
    )
    backoff_max: float = _key(
        300.0, "Longest pause in seconds of all; 12 times that where Lark calls the request malformed.", gt=0, le=86_400
    )
    drain_seconds: Seconds = _key(20.0, "Seconds a stop waits for uploads in flight.")

    @field_validator("backoff_max")
    @classmethod
    def _at_least_the_first(cls, longest: float, info: ValidationInfo) -> float:
        if longest < info.data.get("backoff_initial", 0):
            raise problem("must be at least backoff_initial")
        return longest


def _default_state_dir() -> Path:
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else platformdirs.user_state_path("larkdrop")


class State(Section):
    """Where the keys are remembered."""

    dir: FilePath = Field(
        default_factory=_default_state_dir,
        description="Key cache and lock; default: $STATE_DIRECTORY, else ~/.local/state/larkdrop.",
    )


class Log(Section):
    """What is said, and where."""

    level: Literal["debug", "info", "warning", "error"] = _key("info", '"debug" logs every step.')
    format: Literal["auto", "json", "console"] = _key("auto", '"auto": coloured lines on a terminal, JSON elsewhere.')
    results: FilePath | None = _key(None, "The result log; default: results.jsonl in state.dir.")


def _machine_name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "host"


class Fleet(Section):
    """Several hosts, one app."""

    url: PostgresUrl = _key(
        "",
        "The PostgreSQL database by which hosts share an app; empty: this host is alone. Keep a URL with a password "
        "out of here: LARKDROP_FLEET__URL, or a systemd credential fleet_url.",
    )
    host: HostName = Field(
        default_factory=_machine_name, description="This host's name in the fleet; default: the machine's name."
    )


class Metrics(Section):
    """What others may see of it over HTTP."""

    listen: Listen = _key(
        "", 'Where /metrics, /healthz and /readyz are served, such as "127.0.0.1:9464"; empty: nowhere.'
    )


class Settings(Section):
    """Everything that can be set; frozen."""

    lark: Lark
    watch: Annotated[tuple[Watch, ...], AfterValidator(_apart)] = ()
    upload: Upload = Field(default_factory=Upload)
    state: State = Field(default_factory=State)
    log: Log = Field(default_factory=Log)
    fleet: Fleet = Field(default_factory=Fleet)
    metrics: Metrics = Field(default_factory=Metrics)

    @property
    def results(self) -> Path:
        """The result log's path."""
        return self.log.results or self.state.dir / "results.jsonl"

    @property
    def key_cache(self) -> Path:
        """The key cache's path."""
        return self.state.dir / "keys.sqlite3"

    def watch_of(self, path: str) -> Watch | None:
        """The watched folder that a path lies in."""
        return next((watch for watch in self.watch if Path(path).is_relative_to(watch.path)), None)

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if not data.get("watch"):
            yield "watch", 'is missing; name at least one folder: [[watch]] path = "…"'


SECTIONS: dict[str, type[Section]] = {
    "lark": Lark, "watch": Watch, "upload": Upload, "state": State, "log": Log, "fleet": Fleet,
    "metrics": Metrics,
}  # fmt: skip
