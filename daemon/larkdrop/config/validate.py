"""Which values a setting may have, and how the problems of all of them are told at once."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

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

# Where a systemd unit may see nothing, whatever the rights are.
PRIVATE = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - nothing is put there
# What pydantic says, by its types of errors, as what would be right.
WHY = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "model_type": "must be a table, with a line for each of its keys",
}


def problem(why: str) -> PydanticCustomError:
    """A problem of one value: ``why`` says what would be right."""
    return PydanticCustomError("larkdrop", "{why}", {"why": why})


def absolute(path: Path, base: Path) -> Path:
    """Relative paths count from the config file's folder, so that they mean the same from any shell.

    Raises RuntimeError where ``~`` names nobody.
    """
    return Path(os.path.abspath(base / path.expanduser()))


def _absolute(path: Path, info: ValidationInfo) -> Path:
    try:
        return absolute(path, info.context["base"] if info.context else Path())
    except RuntimeError as error:
        raise problem("~ names no user of this machine; write the whole path") from error


def _existing_folder(path: Path, info: ValidationInfo) -> Path:
    """A folder that is there; commands that only ask tell what became of one that is gone."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        if not _signs_in(info):
            return path.resolve()
        why = f"can't be opened ({error.strerror}); let this user in"
        if isinstance(error, FileNotFoundError):
            why = "there is no such folder; create it"
        raise problem(f"{why}, or correct the path{_private(path)}") from error
    if not is_folder:
        raise problem("this is not a folder")
    return path.resolve()


def _private(path: Path) -> str:
    """What to know where a systemd unit does not see a path."""
    if "INVOCATION_ID" not in os.environ or not any(path.is_relative_to(one) for one in PRIVATE):
        return ""
    return ". A unit with ProtectHome= or PrivateTmp= does not see what lies there"


def _url(url: str) -> str:
    """Http is for a Lark on this machine only: elsewhere it would send the secret in the clear."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:  # its text quotes the URL
        raise problem("is not a URL; write one such as https://open.larksuite.com") from error
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise problem("must be a URL such as https://open.larksuite.com or https://open.feishu.cn")
    if "@" in parts.netloc:
        raise problem("must be the host only, without a user name or password")
    if parts.scheme == "http" and not _is_loopback(host):
        raise problem("must begin with https:// (http:// only reaches a sandbox on this machine)")
    if parts.path.strip("/"):
        raise problem("must be the host only, without a path")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_and_port(listen: str) -> tuple[str, int]:
    """Of ``127.0.0.1:9464``, ``localhost:9464`` or ``[::1]:9464``. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    six = host.startswith("[") and host.endswith("]")
    address = ipaddress.IPv6Address(host[1:-1]) if six else ipaddress.IPv4Address(host)
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(port)
    return str(address), int(port)


def _listen(listen: str) -> str:
    try:
        if listen:
            host_and_port(listen)
    except ValueError as error:
        raise problem('must be an address and a port, such as "127.0.0.1:9464", or "[::1]:9464"') from error
    return listen


def _token(token: SecretStr) -> SecretStr:
    """It goes into an HTTP header, and what can't would be quoted by those who refuse it."""
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise problem("must be one word of ASCII characters; copy it again")
    return token


def _postgres_url(url: SecretStr) -> SecretStr:
    """Nothing of it is quoted, since it may hold a password; psycopg is looked for, not loaded."""
    text = url.get_secret_value()
    if not text:
        return url
    if not text.startswith(("postgresql://", "postgres://")):
        raise problem("must be a URL such as postgresql://larkdrop@db.example/larkdrop")
    try:
        parts = urlsplit(text)
        _port = parts.port if "," not in parts.netloc else None
    except ValueError as error:  # its text quotes the URL
        raise problem("is not a URL; write one such as postgresql://larkdrop@db.example/larkdrop") from error
    odd = not text.isprintable() or " " in text or re.search(r"%(?![0-9A-Fa-f]{2})|%00", text)
    if odd or parts.netloc.count("@") > 1 or "@" in parts.path:
        raise problem("must have special characters of the password written as %40 for @, %25 for %, and so on")
    if find_spec("psycopg") is None:
        raise problem('needs psycopg: in a checkout, pip install ".[fleet]"')
    return url


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise problem("must be a name of letters, digits, dots and hyphens, such as camera-7")
    return name


FilePath = Annotated[Path, AfterValidator(_absolute)]
WatchedFolder = Annotated[Path, AfterValidator(_absolute), AfterValidator(_existing_folder)]
Url = Annotated[str, AfterValidator(_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
HostName = Annotated[str, AfterValidator(_host_name)]
Listen = Annotated[str, AfterValidator(_listen)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Section(BaseModel):
    """One table of the config; frozen. Validation reports the problems of single keys and of keys together."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    # Whether ``checks`` matter only to commands that speak to Lark.
    checked_to_sign_in: ClassVar[bool] = False

    @staticmethod
    def checks(_data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """What keys together get wrong: (key, what would be right), from the data before it is validated."""
        return iter(())

    @model_validator(mode="wrap")
    @classmethod
    def _report_everything(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        errors: list[InitErrorDetails] = []
        section = None
        try:
            section = handler(data)
        except ValidationError as error:
            errors += [{"type": problem(_why(e)), "loc": e["loc"], "input": e["input"]} for e in error.errors()]
        if isinstance(data, dict) and (_signs_in(info) or not cls.checked_to_sign_in):
            wrong = cls.checks(data)
            errors += [{"type": problem(why), "loc": (key,), "input": data.get(key)} for key, why in wrong]
        if errors or section is None:
            raise ValidationError.from_exception_data("settings", errors)
        return section


def _signs_in(info: ValidationInfo) -> bool:
    """Whether the settings are for a command that speaks to Lark."""
    return bool((info.context or {}).get("signs_in", True))


def _why(error: Any) -> str:
    """Pydantic's message as what would be right."""
    if why := error.get("ctx", {}).get("why") or WHY.get(error["type"]):
        return str(why)
    message = str(error["msg"])
    return message[0].lower() + message[1:].replace("Input should", "should")
