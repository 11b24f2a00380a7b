"""TOML, environment and systemd credentials become frozen, validated settings."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
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
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from larkdrop.errors import ConfigError

T = TypeVar("T")

ENV_PREFIX = "LARKDROP_"
SECRETS = ("app_secret", "tenant_access_token")
IGNORED = (
    ".*", "*~", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload", "*.download", "*.swp", "Thumbs.db",
    "desktop.ini",
)  # fmt: skip

Api = Literal["image/v4", "im/v1"]
ImageType = Literal["message", "avatar"]


def _problem(message: str) -> PydanticCustomError:
    return PydanticCustomError("larkdrop", "{why}", {"why": message})


def _absolute(path: Path, info: ValidationInfo) -> Path:
    """Relative paths count from the config file's folder, so that they mean the same from any shell."""
    base = (info.context or {}).get("base", Path.cwd())
    return Path(os.path.normpath(base / path.expanduser()))


def _folder(path: Path) -> Path:
    if not path.exists():
        raise _problem("there is no such folder; create it, or mend the path")
    if not path.is_dir():
        raise _problem("this is not a folder")
    return path.resolve()


def _url(url: str) -> str:
    """Http is for a Lark on this machine only: elsewhere it would send the secret in the clear."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise _problem("must be a URL such as https://open.larksuite.com or https://open.feishu.cn")
    if parts.scheme == "http" and not _is_loopback(host):
        raise _problem("must begin with https:// (http:// only reaches a sandbox on this machine)")
    if parts.path.strip("/"):
        raise _problem("must be the host alone, without a path")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


FilePath = Annotated[Path, AfterValidator(_absolute)]
WatchedFolder = Annotated[Path, AfterValidator(_absolute), AfterValidator(_folder)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class _Section(BaseModel):
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
    message = str(error["msg"])
    return message[0].lower() + message[1:].replace("Input should", "should")


class Lark(_Section):
    """How to reach Lark, and as whom."""

    base_url: Annotated[str, AfterValidator(_url)] = Field(
        default="https://open.larksuite.com", description="Lark; Feishu is https://open.feishu.cn."
    )
    api: Api = Field(default="image/v4", description='"image/v4", or "im/v1" where the older one is switched off.')
    app_id: str = Field(default="", description="From the app's Credentials page; begins with cli_.")
    app_secret: SecretStr = Field(
        default=SecretStr(""),
        description="From the same page. Better kept out of here: LARKDROP_LARK__APP_SECRET, or a systemd credential.",
    )
    tenant_access_token: SecretStr = Field(
        default=SecretStr(""),
        description="A token instead of app_secret. It dies within 2 hours: for trying things out.",
    )
    connect_timeout: Annotated[float, Field(gt=0, le=600)] = Field(
        default=10.0, description="Seconds to wait for a connection; more on bad lines."
    )
    read_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=60.0, description="Seconds to wait for an answer; more where 10 MB take longer than this."
    )
    requests_per_second: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=50, description="Calls a second; less where other hosts share the app."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=600_000)] = Field(
        default=1000, description="Calls a minute; less where other hosts share the app."
    )
    calls_per_month: Annotated[int, Field(ge=0)] = Field(
        default=10_000, description="The plan's quota, for `larkdrop status`; all apps of the tenant share it. 0: none."
    )
    probe_seconds: Annotated[float, Field(ge=0.1, le=86_400)] = Field(
        default=60.0, description="Seconds between tries while a person has to mend the set-up; less to resume sooner."
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
        elif not token and not (secret and data.get("app_id")):
            missing = [key for key in ("app_id", "app_secret") if not _secret(data.get(key))]
            for key in missing:
                yield key, "is missing; copy it from the app's Credentials page on the developer console"


def _secret(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")


class Watch(_Section):
    """One drop folder."""

    path: WatchedFolder = Field(description="The folder to drop pictures into.")
    image_type: ImageType = Field(
        default="message", description='"message" for pictures in messages, "avatar" for avatars.'
    )
    recursive: bool = Field(default=True, description="false to leave sub-folders alone.")
    patterns: tuple[str, ...] = Field(
        default=("*",), description='Names to take (case does not matter); ["*.png"] to leave everything else alone.'
    )
    ignore: tuple[str, ...] = Field(default=IGNORED, description="Names of files and folders to leave alone.")
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


class Upload(_Section):
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
        default=1.0, description="Longest pause in seconds before the first retry; doubles with every failure."
    )
    backoff_max: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=300.0, description="Longest pause in seconds of all."
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


class State(_Section):
    """Where the keys are remembered."""

    dir: FilePath = Field(
        default_factory=_default_state_dir,
        description="Key cache and lock; default: $STATE_DIRECTORY, else ~/.local/state/larkdrop.",
    )


class Log(_Section):
    """What is said, and where."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description='"debug" tells every step.')
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description='"auto": coloured lines on a terminal, JSON elsewhere.'
    )
    results: FilePath | None = Field(default=None, description="The result log; default: results.jsonl in state.dir.")


class Settings(_Section):
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


def _overlaps(settings: Settings) -> Iterator[str]:
    """What must not lie in a watched folder, lest it be watched too."""
    ours = [("state.dir", settings.state.dir), ("log.results", settings.results)]
    ours += [(f"watch[{i}].move_to", watch.move_to) for i, watch in enumerate(settings.watch) if watch.move_to]
    for key, path in ours:
        real = Path(os.path.realpath(path))
        for watch in settings.watch:
            if real.is_relative_to(watch.path):
                yield f"{key} = {str(path)!r}: must lie outside the watched folder {watch.path}"


def places() -> tuple[Path, ...]:
    """Where a config file is looked for when none is named, in order."""
    user = platformdirs.user_config_path("larkdrop") / "config.toml"
    return Path("config.toml"), user, Path("/etc/larkdrop/config.toml")


def find(explicit: Path | None) -> Path | None:
    """The config file: ``explicit``, else $LARKDROP_CONFIG, else the first of the usual places that exists."""
    named = explicit or (Path(os.environ["LARKDROP_CONFIG"]) if os.environ.get("LARKDROP_CONFIG") else None)
    return named or next((place for place in places() if place.is_file()), None)


def load(explicit: Path | None = None, *, signs_in: bool = True) -> Settings:
    """Read and validate the settings. Raises ConfigError with every problem at once.

    ``signs_in`` is false for commands that don't speak to Lark: they do without credentials.
    """
    return load_with_origins(explicit, signs_in=signs_in)[0]


def load_with_origins(
    explicit: Path | None = None, *, signs_in: bool = True
) -> tuple[Settings, dict[tuple[str, ...], str]]:
    """As ``load``; and for each key that was set, ``("upload", "workers")``, where it came from."""
    file = find(explicit)
    data: dict[str, Any] = {"lark": {}}
    origin: dict[tuple[str, ...], str] = {}
    for source, values in ((str(file), _toml(file)), ("a systemd credential", _credentials()), *_environment()):
        _merge(data, values, origin, source)
    context = {"base": file.parent.absolute() if file else Path.cwd(), "signs_in": signs_in}
    try:
        settings = Settings.model_validate(data, context=context)
    except ValidationError as error:
        problems = tuple(_problem_line(e, origin) for e in error.errors())
    else:
        problems = tuple(_overlaps(settings))
        if not problems:
            return settings, origin
    looked = "" if file else f"no config file was found; looked at {', '.join(map(str, places()))}"
    raise ConfigError(
        f"{file or 'the configuration'} has {len(problems)} problem{'s' if len(problems) > 1 else ''}",
        problems=problems,
        hint=looked or "config.example.toml explains every key.",
    )


def _toml(file: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} is not TOML: {error}", hint="config.example.toml shows how it is written."
        ) from error
    except OSError as error:
        raise ConfigError(f"the config file {file} can't be read: {error.strerror}", hint="mend --config.") from error


def _credentials() -> dict[str, Any]:
    """The file ``app_secret`` in ``$CREDENTIALS_DIRECTORY`` (systemd's ``LoadCredential=``)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return {}
    file = Path(folder, "app_secret")
    try:
        return {"lark": {"app_secret": file.read_text(encoding="utf-8").strip()}}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the credential {file} can't be read", hint="it holds the app secret as plain text."
        ) from error


def _environment() -> Iterator[tuple[str, dict[str, Any]]]:
    """``LARKDROP_LARK__APP_ID=x`` as ``{"lark": {"app_id": "x"}}``; lists are JSON."""
    for name, text in os.environ.items():
        if name.startswith(ENV_PREFIX) and name != "LARKDROP_CONFIG" and text:
            value: Any = text
            if text.startswith("["):
                try:
                    value = json.loads(text)
                except ValueError as error:
                    raise ConfigError(f"{name} is not a JSON list: {error}", hint="mend the variable.") from error
            for key in reversed(name.removeprefix(ENV_PREFIX).lower().split("__")):
                value = {key: value}
            yield name, value


def _merge(into: dict[str, Any], values: dict[str, Any], origin: dict[tuple[str, ...], str], source: str) -> None:
    """Lay ``values`` over ``into`` and note in ``origin`` which source each leaf came from."""
    stack: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = [((), into, values)]
    while stack:
        path, below, above = stack.pop()
        for key, value in above.items():
            here = (*path, key)
            if isinstance(value, dict):
                if not isinstance(below.get(key), dict):
                    below[key] = {}
                stack.append((here, below[key], value))
            else:
                below[key] = value
                origin[here] = source


def _problem_line(error: ErrorDetails, origin: dict[tuple[str, ...], str]) -> str:
    """One problem: dotted key, value (never a secret), what would be right, and the variable it came from."""
    loc = error["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    why, value = str(error["ctx"]["why"]), error["input"]
    if why == "unknown key":
        section: type[_Section] = Settings
        for part in loc[:-1]:
            section = SECTIONS.get(str(part), section)
        near = get_close_matches(str(loc[-1]), section.model_fields, 1)
        why += f"; did you mean {near[0]}?" if near else ""
    source = origin.get(tuple(str(part) for part in loc), "")
    shown = "" if value is None or isinstance(value, dict | list | BaseModel) or loc[-1] in SECRETS else f" = {value!r}"
    return f"{key}{shown}: {why}" + (f" (from {source})" if source.startswith(ENV_PREFIX) else "")


SECTIONS: dict[str, type[_Section]] = {"lark": Lark, "watch": Watch, "upload": Upload, "state": State, "log": Log}
