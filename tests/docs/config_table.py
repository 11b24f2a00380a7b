"""``python -m tests.docs.config_table`` writes the table of keys in docs/configuration.md, made from the settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from larkdrop.config.settings import SECTIONS

PAGE = Path(__file__).parents[2] / "docs/configuration.md"
HEAD = "| key | default | allowed | meaning |\n|---|---|---|---|\n"
TABLE = re.compile(rf"{re.escape(HEAD)}(?:\|.*\n)*")
KINDS = {"boolean": "`true`, `false`", "array": "list of names", "path": "path", "password": "text", "string": "text"}


def table() -> str:
    """A row for every key, in Markdown."""
    rows = []
    for name, section in SECTIONS.items():
        properties = section.model_json_schema()["properties"]
        for key, field in section.model_fields.items():
            cells = (f"`{name}.{key}`", _default(field), _allowed(properties[key]), field.description or "")
            rows.append(f"| {' | '.join(cells)} |\n".replace("|  |", "| |"))
    return HEAD + "".join(rows)


def _default(field: FieldInfo) -> str:
    """The value that counts where nothing is set; empty where there is none, or none that is the same everywhere."""
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if field.is_required() or field.default_factory or value in {None, ""}:
        return ""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _allowed(schema: dict[str, Any]) -> str:
    """The kind of value, and its limits."""
    kind = next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), schema)
    if "enum" in kind:
        return ", ".join(f"`{json.dumps(value)}`" for value in kind["enum"])
    if kind["type"] not in {"integer", "number"}:
        return KINDS[kind.get("format", kind["type"])]
    what = "whole number" if kind["type"] == "integer" else "number"
    least, above, most = (kind.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    lower = f"above {above:,g}, up" if above is not None else f"from {least:,g}"
    return f"{what} {lower}{f' to {most:,g}' if most is not None else ''}"


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
