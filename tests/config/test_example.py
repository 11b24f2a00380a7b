"""config.example.toml is generated from the settings."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from larkdrop.commands.config import SAMPLES, UNSET, example
from larkdrop.config.settings import Fleet, Lark, Log, Metrics, Settings, State, Upload, Watch


def test_the_example_is_the_schema() -> None:
    """config.example.toml names every key, and its values are the defaults."""
    text = (Path(__file__).parents[2] / "config.example.toml").read_text(encoding="utf-8")
    assert text == example()
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line or line.startswith("[")]
    made: dict[str, Any] = tomllib.loads("\n".join(lines[1:] if lines[0].startswith("Any") else lines))
    sections: dict[str, type[Any]] = {
        "lark": Lark,
        "watch": Watch,
        "upload": Upload,
        "state": State,
        "log": Log,
        "fleet": Fleet,
        "metrics": Metrics,
    }
    assert set(made) == set(sections) == set(Settings.model_fields)
    for name, section in sections.items():
        values = made[name][0] if name == "watch" else made[name]
        assert set(values) == set(section.model_fields)
        for key, field in section.model_fields.items():
            if (name, key) in SAMPLES or (name, key) in UNSET:
                continue
            default = field.default.get_secret_value() if hasattr(field.default, "get_secret_value") else field.default
            assert values[key] == (list(default) if isinstance(default, tuple) else default), f"{name}.{key}"
