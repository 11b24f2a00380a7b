"""The config file is found; it, the environment and credentials become frozen settings, or a list of problems.

The secret comes from the environment, else from a systemd credential, else from the file.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ValidationError

from larkdrop.config.settings import SECRETS, SECTIONS, Settings
from larkdrop.config.validate import absolute
from larkdrop.errors import ConfigError

ENV_PREFIX = "LARKDROP_"
KEYS = frozenset((name, key) for name, section in SECTIONS.items() for key in section.model_fields)
# systemd credentials, and which key each of them is.
CREDENTIALS = {"app_secret": ("lark", "app_secret"), "fleet_url": ("fleet", "url")}
# Keys whose values are paths.
PATHS = frozenset({"path", "move_to", "dir", "results"})
PLAIN_URL = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w./-]*)?", re.ASCII)

Place = tuple[int | str, ...]  # ("watch", 0, "path")
Key = tuple[str, ...]  # ("watch", "path")
Origins = Mapping[Key, str]  # of each key that was set: where it came from


def places() -> tuple[Path, ...]:
    """Where a config file is searched for when none is named, in order."""
    user = platformdirs.user_config_path("larkdrop") / "config.toml"
    return Path("config.toml").absolute(), user, Path("/etc/larkdrop/config.toml")


def find(named: Path | None) -> Path | None:
    """The config file: ``named``, else $LARKDROP_CONFIG, else the first of the usual places that has one."""
    if given := named or os.environ.get("LARKDROP_CONFIG"):
        return Path(given).absolute()
    here, *others = places()
    usual = others if _is_of_another_program(here) else [here, *others]
    return next((place for place in usual if _may_be_a_file(place)), None)


def _may_be_a_file(place: Path) -> bool:
    try:
        return stat.S_ISREG(place.stat().st_mode)
    except PermissionError:
        return True  # it may be, and reading it says what is wrong
    except OSError:
        return False


def _is_of_another_program(file: Path) -> bool:
    """Whether a file is there and reads well, but has no table that only larkdrop has."""
    try:
        tables = set(tomllib.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError):
        return False
    return not tables & {"lark", "watch"} and not (tables and tables <= set(SECTIONS))


def load(named: Path | None = None, *, signs_in: bool = True) -> Settings:
    """Read and validate the settings, from the file ``named`` or found. Raises ConfigError with every problem at once.

    ``signs_in`` is false for commands that don't speak to Lark: they do without credentials, and tell of a folder that
    is gone.
    """
    return load_with_origins(named, signs_in=signs_in)[0]


def load_with_origins(named: Path | None = None, *, signs_in: bool = True) -> tuple[Settings, Origins]:
    """As ``load``; and for each key that was set, where it came from."""
    file = find(named)
    base = file.parent if file else Path.cwd()
    data: dict[str, Any] = {"lark": {}}
    origins: dict[Key, str] = {}
    for source, values in ((str(file), _toml(file)), *_credentials(), *_environment()):
        _merge(data, values, origins, source)
    if isinstance(data.get("watch"), dict):  # [watch] for [[watch]]
        data["watch"] = [data["watch"]]
    try:
        settings = Settings.model_validate(data, context={"base": base, "signs_in": signs_in})
    except ValidationError as error:
        problems: list[tuple[Place, Any, str]] = [(e["loc"], e["input"], e["ctx"]["why"]) for e in error.errors()]
    else:
        problems = list(_inside_watched_folders(settings))
        if not problems:
            return settings, origins
    raise ConfigError(
        f"{file or 'the configuration'} has {len(problems)} problem{'' if len(problems) == 1 else 's'}",
        problems=tuple(_describe(*problem, origins, base) for problem in problems),
        hint=_hint(file, missing={place for place, _, why in problems if why.startswith("is missing")}),
    )


def _hint(file: Path | None, *, missing: set[Place]) -> str:
    if ("lark", "app_secret") in missing and (credential := _credential("app_secret")):
        return (
            f"The systemd credential {credential} is empty: put the secret into the file that the unit's "
            "LoadCredential= names, such as /etc/larkdrop/app_secret, and start the service again."
        )
    if file:
        return "`larkdrop config --example` explains every key."
    here, *_ = places()
    foreign = _is_of_another_program(here)
    note = f"; {here} is another program's, it has neither [lark] nor [[watch]]" if foreign else ""
    return f"no config file was found; searched {', '.join(map(str, places()))}{note}."


def _toml(file: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig")) if file else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        hint = "`larkdrop config --example` shows how it is written."
        raise ConfigError(f"{file} is not TOML: {error}", hint=hint) from error
    except OSError as error:
        hint = "Name another with --config, or let this user read it."
        raise ConfigError(f"the config file {file} can't be read: {error.strerror}", hint=hint) from error


def _credential(name: str) -> Path | None:
    """The file ``name`` in ``$CREDENTIALS_DIRECTORY`` (systemd's ``LoadCredential=``), where there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, name) if folder else None
    return file if file and os.path.lexists(file) else None


def _credentials() -> Iterator[tuple[str, dict[str, Any]]]:
    """What the credentials hold; an empty one is none."""
    for name, (section, key) in CREDENTIALS.items():
        file = _credential(name)
        try:
            secret = file.read_text(encoding="utf-8").strip() if file else ""
        except (OSError, UnicodeDecodeError) as error:
            hint = f"It must hold {key} of [{section}] as plain text."
            raise ConfigError(f"the credential {file} can't be read", hint=hint) from error
        if secret:
            yield "a systemd credential", {section: {key: secret}}


def _environment() -> Iterator[tuple[str, dict[str, Any]]]:
    """``LARKDROP_LARK__APP_ID=x`` as ``{"lark": {"app_id": "x"}}``; lists are JSON."""
    for name, text in os.environ.items():
        if not name.startswith(ENV_PREFIX) or name == "LARKDROP_CONFIG" or not text:
            continue
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


def _merge(into: dict[str, Any], values: dict[str, Any], origins: dict[Key, str], source: str, at: Key = ()) -> None:
    """Lay ``values`` over ``into``, and note in ``origins`` that each of them came from ``source``."""
    for key, value in values.items():
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value, origins, source, (*at, key))
        else:
            into[key] = value
            origins[*at, key] = source


def _inside_watched_folders(settings: Settings) -> Iterator[tuple[Place, Path, str]]:
    """What must not lie in a watched folder, since it would be watched too: key, value, and what would be right."""
    ours: list[tuple[Place, Path | None]] = [
        (("state", "dir"), settings.state.dir),
        (("log", "results"), settings.log.results),
        *((("watch", number, "move_to"), watch.move_to) for number, watch in enumerate(settings.watch)),
    ]
    for place, path in ours:
        if path and (watch := settings.watch_of(os.path.realpath(path))):
            yield place, path, f"must lie outside the watched folder {watch.path}"


def _describe(place: Place, value: Any, why: str, origins: Origins, base: Path) -> str:
    """One problem in a line; paths as they are understood, from the folder ``base``."""
    path = tuple(str(part) for part in place if not isinstance(part, int))
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    # The variable that set this key, its table or a part of it.
    from_variables = ((key, source) for key, source in origins.items() if source.startswith(ENV_PREFIX))
    variable = next((source for key, source in from_variables if key[: len(path)] == path[: len(key)]), "")
    if why == "unknown key":
        key, why = _unknown(key, path, variable)
    shown = "" if variable else _shown(path, value, base)
    origin = f" (from {variable})" if variable and key != variable else ""
    return f"{key}{shown}: {why}{origin}"


def _unknown(key: str, path: tuple[str, ...], variable: str) -> tuple[str, str]:
    """What to call an unknown key, and the nearest one that is known."""
    why, word, known = "unknown key", path[-1], list(SECTIONS.get(path[0], Settings).model_fields)
    if variable.upper().startswith(ENV_PREFIX + "__".join(path).upper()):
        key, why, word = variable, "there is no setting of this name", variable
        known = [f"{ENV_PREFIX}{section}__{name}".upper() for section, name in KEYS]
    near = get_close_matches(word, known, 1)
    return key, f"{why}; did you mean {near[0]}?" if near else why


def _shown(path: tuple[str, ...], value: Any, base: Path) -> str:
    """The value of a known key, where no secret can have been put in its place."""
    if path not in KEYS or value is None or isinstance(value, dict | list | BaseModel):
        return ""
    section, key = path
    is_plain = isinstance(value, int | float) or (key == "base_url" and PLAIN_URL.fullmatch(str(value)))
    if key in SECRETS or path == ("fleet", "url") or (section == "lark" and not is_plain):
        return ""
    if key in PATHS and isinstance(value, str):
        with suppress(RuntimeError, ValueError):
            value = str(absolute(Path(value), base))
    return f" = {str(value) if isinstance(value, Path) else value!r}"
