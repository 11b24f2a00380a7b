"""Everything that can be set: types, defaults, limits, and what each key is for."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import stat
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

T = TypeVar("T")

SECRETS = ("app_secret", "tenant_access_token")
# What the examples have where a person puts their own.
PLACEHOLDERS = frozenset({"cli_…", "cli_...", "cli_a1b2c3d4e5f6", "…", "..."})
IGNORED = (
    ".*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download", "*.swp", "Thumbs.db",
    "desktop.ini",
)  # fmt: skip

Api = Literal["image/v4", "im/v1"]
ImageType = Literal["message", "avatar"]


def _problem(message: str) -> PydanticCustomError:
    return PydanticCustomError("larkdrop", "{why}", {"why": message})


def _absolute(path: Path, info: ValidationInfo) -> Path:
    try:
        return absolute(path, (info.context or {}).get("base", Path.cwd()))
    except RuntimeError as error:
        raise _problem("~ names no user of this machine; write the whole path") from error


def absolute(path: Path, base: Path) -> Path:
    """Relative paths count from the config file's folder, so that they mean the same from any shell.

    Raises RuntimeError where ``~`` names nobody.
    """
    return Path(os.path.normpath(base / path.expanduser()))


def _folder(path: Path, info: ValidationInfo) -> Path:
    """A folder that is there; commands that only ask tell what became of one that is gone."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        if (info.context or {}).get("signs_in", True):
            raise _problem(f"there is no such folder; create it, or correct the path{_hidden(path)}") from error
    except OSError as error:
        if (info.context or {}).get("signs_in", True):
            why = f"can't be opened ({error.strerror}); let this user in, or correct the path{_hidden(path)}"
            raise _problem(why) from error
    else:
        if not is_folder:
            raise _problem("this is not a folder")
    return path.resolve()


def _hidden(path: Path) -> str:
    """What a systemd unit does not see, whatever the rights are."""
    hidden = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - nothing is put there
    if "INVOCATION_ID" not in os.environ or not any(path.is_relative_to(one) for one in hidden):
        return ""
    return ". A unit with ProtectHome= or PrivateTmp= does not see what lies there"


def _url(url: str) -> str:
    """Http is for a Lark on this machine only: elsewhere it would send the secret in the clear."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:  # its text quotes the URL
        raise _problem("is not a URL; write one such as https://open.larksuite.com") from error
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise _problem("must be a URL such as https://open.larksuite.com or https://open.feishu.cn")
    if "@" in parts.netloc:
        raise _problem("must be the host only, without a user name or password")
    if parts.scheme == "http" and not _is_loopback(host):
        raise _problem("must begin with https:// (http:// only reaches a sandbox on this machine)")
    if parts.path.strip("/"):
        raise _problem("must be the host only, without a path")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


FilePath = Annotated[Path, AfterValidator(_absolute)]
WatchedFolder = Annotated[Path, AfterValidator(_absolute), AfterValidator(_folder)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Section(BaseModel):
    """One table of the config; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _report_everything(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        signs_in = (info.context or {}).get("signs_in", True)
        return _validate(cls.checks if signs_in or cls is not Lark else lambda _: iter(()), data, handler)

    @staticmethod
    def checks(_data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """What two keys together get wrong: (key, what would be right), from the data before it is validated."""
        return iter(())


def _validate(
    checks: Callable[[dict[str, Any]], Iterator[tuple[str, str]]], data: Any, handler: Callable[[Any], T]
) -> T:
    """Validate ``data`` so that one run reports the problems of single keys and of keys together."""
    errors: list[InitErrorDetails] = []
    made: T | None = None
    try:
        made = handler(data)
    except ValidationError as error:
        errors += [
            {"type": PydanticCustomError(e["type"], "{why}", {"why": _right(e)}), "loc": e["loc"], "input": e["input"]}
            for e in error.errors()
        ]
    if isinstance(data, dict):
        errors += [{"type": _problem(why), "loc": (key,), "input": data.get(key)} for key, why in checks(data)]
    if errors or made is None:
        raise ValidationError.from_exception_data("settings", errors)
    return made


def _right(error: Any) -> str:
    """Pydantic's message as 'what would be right'."""
    kind, context = error["type"], error.get("ctx", {})
    if "why" in context:
        return str(context["why"])
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    if kind == "model_type":
        return "must be a table, with a line for each of its keys"
    message = str(error["msg"])
    return message[0].lower() + message[1:].replace("Input should", "should")


def _token(token: SecretStr) -> SecretStr:
    """It goes into an HTTP header, and what can't would be quoted by those who refuse it."""
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _problem("must be one word of ASCII characters; copy it again")
    return token


class Lark(Section):
    """How to reach Lark, and as whom."""

    model_config = ConfigDict(str_strip_whitespace=True)

    base_url: Annotated[str, AfterValidator(_url)] = Field(
        default="https://open.larksuite.com", description="Lark; Feishu is https://open.feishu.cn."
    )
    api: Api = Field(default="image/v4", description='"image/v4", or "im/v1" where the older one is switched off.')
    app_id: str = Field(default="", description="From the app's Credentials page; begins with cli_.")
    app_secret: SecretStr = Field(
        default=SecretStr(""),
        description="From the same page. Better kept out of here: LARKDROP_LARK__APP_SECRET, or a systemd credential.",
    )
    tenant_access_token: Annotated[SecretStr, AfterValidator(_token)] = Field(
        default=SecretStr(""),
        description="A token instead of app_secret. It dies within 2 hours: for trying things out.",
    )
    connect_timeout: Annotated[float, Field(gt=0, le=600)] = Field(
        default=10.0, description="Seconds to wait for a connection; more on bad lines."
    )
    read_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=60.0,
        description="Seconds to wait for an answer. A call ends after both time-outs, and 1 s for each 64 KiB sent.",
    )
    requests_per_second: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=50, description="Calls a second; less where other hosts share the app."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=600_000)] = Field(
        default=1000, description="Calls a minute; less where other hosts share the app."
    )
    calls_per_month: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="The plan's quota, for `larkdrop status`; all apps of the tenant share it. 0: none, or not known.",
    )
    probe_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = Field(
        default=60.0, description="Seconds between tries while a person has to fix the set-up; less to resume sooner."
    )

    @property
    def scope(self) -> str:
        """Whom keys belong to: the app, or where only a token is known, that token's fingerprint."""
        token = self.tenant_access_token.get_secret_value().encode()
        return self.app_id or f"token-{hashlib.sha256(token).hexdigest()[:16]}"

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        secret, token = (_secret(data.get(key)) for key in SECRETS)
        if token and secret:
            yield "tenant_access_token", "set either app_secret or tenant_access_token, not both"
        elif not token and not (secret and _secret(data.get("app_id"))):
            missing = [key for key in ("app_id", "app_secret") if not _secret(data.get(key))]
            for key in missing:
                yield key, f"is missing; {COPY}"
        for key in ("app_id", "app_secret"):
            if _secret(data.get(key)) in PLACEHOLDERS:
                yield key, f"is the example's; {COPY}"


COPY = "copy it from the app's Credentials page on the developer console"


def _secret(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "").strip()


class Watch(Section):
    """One drop folder."""

    path: WatchedFolder = Field(description="The folder to drop pictures into.")
    image_type: ImageType = Field(
        default="message", description='"message" for pictures in messages, "avatar" for avatars.'
    )
    recursive: bool = Field(default=True, description="false to skip sub-folders.")
    patterns: tuple[str, ...] = Field(
        default=("*",), description='Names to take (case does not matter); ["*.png"] to skip everything else.'
    )
    ignore: tuple[str, ...] = Field(default=IGNORED, description="Names of files and folders to skip.")
    observer: Literal["auto", "inotify", "polling"] = Field(
        default="auto",
        description='"polling" where others write over a network; "auto" decides by the type of the file system.',
    )
    poll_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = Field(
        default=10.0, description="Seconds between looks where a folder is polled; less for a faster answer."
    )
    after_upload: Literal["keep", "move", "delete"] = Field(
        default="keep", description='"move" or "delete" the picture once its key is safely recorded.'
    )
    move_to: FilePath | None = Field(
        default=None, description='Where "move" puts picture and sidecar; outside every watched folder.'
    )

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("after_upload") == "move" and not data.get("move_to"):
            yield "move_to", 'is missing; after_upload = "move" needs a folder'
        if data.get("move_to") and data.get("after_upload") != "move":
            yield "move_to", 'is only used with after_upload = "move"'


def _apart(watches: tuple[Watch, ...]) -> tuple[Watch, ...]:
    for one, other in combinations((watch.path for watch in watches), 2):
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise _problem(f"{one} and {other} must not be the same folder or lie in each other")
    return watches


class Upload(Section):
    """How files become uploads."""

    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=16, description="Uploads at the same time; more only where an answer takes over 300 ms."
    )
    settle_seconds: Seconds = Field(
        default=2.0, description="Seconds a file must be quiet when its end can't be told; more for slow writers."
    )
    rescan_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=300.0, description="Seconds between looks at every file, in case an event was lost."
    )
    dedupe: bool = Field(default=True, description="false to upload the same content again for every file.")
    backoff_initial: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=1.0,
        description="Longest pause in seconds before the first retry; doubles with every failure. 60 times that where "
        "Lark calls the request malformed.",
    )
    backoff_max: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=300.0,
        description="Longest pause in seconds of all; 12 times that where Lark calls the request malformed.",
    )
    drain_seconds: Seconds = Field(default=20.0, description="Seconds a stop waits for uploads in flight.")

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        first, longest = data.get("backoff_initial", 1.0), data.get("backoff_max", 300.0)
        if isinstance(first, int | float) and isinstance(longest, int | float) and first > longest:
            yield "backoff_max", "must be at least backoff_initial"


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

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description='"debug" tells every step.')
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description='"auto": coloured lines on a terminal, JSON elsewhere.'
    )
    results: FilePath | None = Field(default=None, description="The result log; default: results.jsonl in state.dir.")


class Settings(Section):
    """Everything that can be set; frozen."""

    lark: Lark
    watch: Annotated[tuple[Watch, ...], AfterValidator(_apart)] = ()
    upload: Upload = Field(default_factory=Upload)
    state: State = Field(default_factory=State)
    log: Log = Field(default_factory=Log)

    @property
    def results(self) -> Path:
        """The result log's path."""
        return self.log.results or self.state.dir / "results.jsonl"

    @staticmethod
    def checks(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if not data.get("watch"):
            yield "watch", 'is missing; name at least one folder: [[watch]] path = "…"'


SECTIONS: dict[str, type[Section]] = {"lark": Lark, "watch": Watch, "upload": Upload, "state": State, "log": Log}
