"""The example file: every key with its default, its unit and why one would change it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from larkdrop.config.settings import SECTIONS

# What everybody has to fill in, and what keys without a fixed default look like.
SAMPLES = {("lark", "app_id"): "cli_…", ("lark", "app_secret"): "…", ("watch", "path"): "inbox"}
UNSET = {("watch", "move_to"): "done", ("state", "dir"): "state", ("log", "results"): "results.jsonl"}


def example() -> str:
    """The text of ``config.example.toml``."""
    lines = [
        "# larkdrop's configuration: every key with its default. Lines that begin with # are optional.",
        "# Any key can come from the environment instead: LARKDROP_LARK__APP_SECRET, LARKDROP_UPLOAD__WORKERS, …",
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"[[{name}]]" if name == "watch" else f"[{name}]"]
        for key, field in section.model_fields.items():
            place = (name, key)
            value = SAMPLES.get(place, UNSET.get(place, field.default))
            mark = "" if place in SAMPLES else "# "
            lines += [f"# {field.description}", f"{mark}{key} = {as_toml(value)}"]
    return "\n".join(lines) + "\n"


def as_toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return json.dumps(value, ensure_ascii=False)
