"""TOML, environment and systemd credentials become frozen, validated settings."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ValidationError

from larkdrop.config.settings import SECRETS, SECTIONS, Settings, absolute
from larkdrop.errors import ConfigError

# Keys whose values are paths.
PATHS = frozenset({"path", "move_to", "dir", "results"})
ENV_PREFIX = "LARKDROP_"


def places() -> tuple[Path, ...]:
    """Where a config file is looked for when none is named, in order."""
    user = platformdirs.user_config_path("larkdrop") / "config.toml"
    return Path("config.toml").absolute(), user, Path("/etc/larkdrop/config.toml")


def find(explicit: Path | None) -> Path | None:
    """The config file: ``explicit``, else $LARKDROP_CONFIG, else the first of the usual places that exists."""
    named = explicit or (Path(os.environ["LARKDROP_CONFIG"]) if os.environ.get("LARKDROP_CONFIG") else None)
    if named:
        return named.absolute()
    here, *others = places()
    usual = [here, *others] if not _is_foreign(here) else others
    return next((place for place in usual if _is_there(place)), None)


def _is_there(place: Path) -> bool:
    try:
        return stat.S_ISREG(place.stat().st_mode)
    except PermissionError:
        return True  # it may be, and reading it says what is wrong
    except OSError:
        return False


def _is_foreign(here: Path) -> bool:
    """Whether the file is another program's: one that reads well, with tables of which none tells of larkdrop."""
    try:
        tables = set(tomllib.loads(here.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError):
        return False
    return not tables & {"lark", "watch"} and not (tables and tables <= set(SECTIONS))


def load(explicit: Path | None = None, *, signs_in: bool = True) -> Settings:
    """Read and validate the settings. Raises ConfigError with every problem at once.

    ``signs_in`` is false for commands that don't speak to Lark: they do without credentials, and tell of a folder that
    is gone.
    """
    return load_with_origins(explicit, signs_in=signs_in)[0]


def load_with_origins(
    explicit: Path | None = None, *, signs_in: bool = True
) -> tuple[Settings, dict[tuple[str, ...], str]]:
    """As ``load``; and for each key that was set, ``("upload", "workers")``, where it came from."""
    file = find(explicit)
    base = file.parent if file else Path.cwd()
    data: dict[str, Any] = {"lark": {}}
    origin: dict[tuple[str, ...], str] = {}
    for source, values in ((str(file), _toml(file)), ("a systemd credential", _credentials()), *_environment()):
        _merge(data, values, origin, source)
    if isinstance(data.get("watch"), dict):  # [watch] for [[watch]]
        data["watch"] = [data["watch"]]
    try:
        settings = Settings.model_validate(data, context={"base": base, "signs_in": signs_in})
    except ValidationError as error:
        found = [(e["loc"], e["input"], str(e["ctx"]["why"])) for e in error.errors()]
    else:
        found = list(_overlaps(settings))
        if not found:
            return settings, origin
    raise ConfigError(
        f"{file or 'the configuration'} has {len(found)} problem{'s' if len(found) > 1 else ''}",
        problems=tuple(_problem_line(*problem, origin, base) for problem in found),
        hint=_hint(file, missing={loc for loc, _, why in found if why.startswith("is missing")}),
    )


def _hint(file: Path | None, *, missing: set[tuple[int | str, ...]]) -> str:
    if ("lark", "app_secret") in missing and _credential():
        return (
            f"The systemd credential {_credential()} is empty: put the secret into the file that the unit's "
            "LoadCredential= names, such as /etc/larkdrop/app_secret, and start the service again."
        )
    if file:
        return "`larkdrop config --example` explains every key."
    here, *_ = places()
    foreign = here.is_file() and _is_foreign(here)
    note = f"; {here} is another program's, it has neither [lark] nor [[watch]]" if foreign else ""
    return f"no config file was found; looked at {', '.join(map(str, places()))}{note}."


def _toml(file: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig")) if file else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} is not TOML: {error}", hint="`larkdrop config --example` shows how it is written."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the config file {file} can't be read: {error.strerror}",
            hint="Name another with --config, or let this user read it.",
        ) from error


def _credential() -> Path | None:
    """The file ``app_secret`` in ``$CREDENTIALS_DIRECTORY`` (systemd's ``LoadCredential=``), where there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, "app_secret") if folder else None
    return file if file and os.path.lexists(file) else None


def _credentials() -> dict[str, Any]:
    """What the credential holds; an empty one is none."""
    file = _credential()
    try:
        secret = file.read_text(encoding="utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the credential {file} can't be read", hint="It holds the app secret as plain text."
        ) from error
    return {"lark": {"app_secret": secret}} if secret else {}


def _environment() -> Iterator[tuple[str, dict[str, Any]]]:
    """``LARKDROP_LARK__APP_ID=x`` as ``{"lark": {"app_id": "x"}}``; lists are JSON."""
    for name, text in os.environ.items():
        if name.startswith(ENV_PREFIX) and name != "LARKDROP_CONFIG" and text:
            section, *keys = name.removeprefix(ENV_PREFIX).lower().split("__")
            value: Any = text
            if text.startswith("[") and section != "lark":  # a secret may begin like that
                try:
                    value = json.loads(text)
                except ValueError as error:
                    raise ConfigError(f"{name} is not a JSON list: {error}", hint="Correct the variable.") from error
            for key in reversed((section, *keys)):
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


def _problem_line(
    loc: tuple[int | str, ...], value: Any, why: str, origin: dict[tuple[str, ...], str], base: Path
) -> str:
    """One problem: dotted key, value where it can't be a secret, what would be right, the variable it came from."""
    path = tuple(str(part) for part in loc if not isinstance(part, int))
    variable = next((source for key, source in origin.items() if _meet(key, path) and _is_variable(source)), "")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if why == "unknown key":
        known = SECTIONS.get(path[0], Settings).model_fields
        name = ENV_PREFIX + "__".join(path).upper()
        if variable.upper().startswith(name):
            key, why = variable, "there is no setting of this name"
            near = get_close_matches(variable, [f"{ENV_PREFIX}{s}__{k}".upper() for s, k in _leaves()], 1)
        else:
            near = get_close_matches(path[-1], known, 1)
        why += f"; did you mean {near[0]}?" if near else ""
    shown = "" if variable else _shown(path, value, base)
    return f"{key}{shown}: {why}" + (f" (from {variable})" if variable and key != variable else "")


def _meet(key: tuple[str, ...], path: tuple[str, ...]) -> bool:
    shorter = min(len(key), len(path))
    return key[:shorter] == path[:shorter]


def _is_variable(source: str) -> bool:
    return source.startswith(ENV_PREFIX)


def _leaves() -> Iterator[tuple[str, str]]:
    """Every section and key."""
    return ((name, key) for name, section in SECTIONS.items() for key in section.model_fields)


def _shown(path: tuple[str, ...], value: Any, base: Path) -> str:
    """The value of a known key, where no secret can have been put in its place; paths as they are understood."""
    if path not in set(_leaves()) or value is None or isinstance(value, dict | list | BaseModel):
        return ""
    section, key = path
    if section == "lark":
        is_plain = key == "base_url" and re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[\w./-]*)?", str(value), re.ASCII)
        if key in SECRETS or not (is_plain or isinstance(value, int | float)):
            return ""
    if key in PATHS and isinstance(value, str):
        with suppress(RuntimeError, ValueError):
            value = str(absolute(Path(value), base))
    return f" = {str(value) if isinstance(value, Path) else value!r}"


def _overlaps(settings: Settings) -> Iterator[tuple[tuple[int | str, ...], Path, str]]:
    """What must not lie in a watched folder, since it would be watched too: key, value, and what would be right."""
    ours: list[tuple[tuple[int | str, ...], Path | None]] = [
        (("state", "dir"), settings.state.dir),
        (("log", "results"), settings.log.results),
    ]
    ours += [(("watch", i, "move_to"), watch.move_to) for i, watch in enumerate(settings.watch)]
    for loc, path in ours:
        for watch in settings.watch:
            if path and Path(os.path.realpath(path)).is_relative_to(watch.path):
                yield loc, path, f"must lie outside the watched folder {watch.path}"
