"""The README is short, and its service is the one of docs/service.md, which the tests of systemd install."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVICE = (ROOT / "docs/service.md").read_text(encoding="utf-8").split("\n## Install for the system\n")[1]


def test_it_is_short() -> None:
    """Whoever wants more reads on."""
    assert len(README.splitlines()) <= 200


def test_its_two_commands_come_first() -> None:
    """CI copies them out: the demo, then the tests."""
    demo, tests = re.findall(r"^```sh\n(.*)\n```$", README, re.MULTILINE)
    assert demo.endswith("larkdrop demo")
    assert tests.endswith("pytest -n auto")


def test_its_service_is_the_documented_one() -> None:
    """In ten lines, each of which stands in the longer page, in the same order."""
    section = README.split("\n## Run it as a service\n")[1].split("\n## ")[0]
    lines = "".join(re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).splitlines()
    assert len(lines) == 10
    at = [SERVICE.index(f"\n{line}\n") for line in lines]
    assert at == sorted(at)
