"""TOML, environment and systemd credentials become frozen, validated settings."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from larkdrop.errors import ConfigError
from larkdrop.settings import SECRETS, SECTIONS, Section, Settings

ENV_PREFIX = "LARKDROP_"


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

    ``signs_in`` is false for commands that don't speak to Lark: they do without credentials, and tell of a folder that
    is gone.
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
        hint=looked or "`larkdrop config --example` explains every key.",
    )


def _toml(file: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} is not TOML: {error}", hint="`larkdrop config --example` shows how it is written."
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
        section: type[Section] = Settings
        for part in loc[:-1]:
            section = SECTIONS.get(str(part), section)
        near = get_close_matches(str(loc[-1]), section.model_fields, 1)
        why += f"; did you mean {near[0]}?" if near else ""
    source = origin.get(tuple(str(part) for part in loc), "")
    shown = "" if value is None or isinstance(value, dict | list | BaseModel) or loc[-1] in SECRETS else f" = {value!r}"
    return f"{key}{shown}: {why}" + (f" (from {source})" if source.startswith(ENV_PREFIX) else "")


def _overlaps(settings: Settings) -> Iterator[str]:
    """What must not lie in a watched folder, lest it be watched too."""
    ours = [("state.dir", settings.state.dir), ("log.results", settings.results)]
    ours += [(f"watch[{i}].move_to", watch.move_to) for i, watch in enumerate(settings.watch) if watch.move_to]
    for key, path in ours:
        real = Path(os.path.realpath(path))
        for watch in settings.watch:
            if real.is_relative_to(watch.path):
                yield f"{key} = {str(path)!r}: must lie outside the watched folder {watch.path}"
