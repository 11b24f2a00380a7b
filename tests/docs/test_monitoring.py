"""The alerts fire when they should, they and the dashboard use only metrics that exist, and the page lists these."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from larkdrop.service.metrics import NAMES
from tests.docs.test_links import HEADING, slug

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
FOLDER = ROOT / "docs/monitoring"
ALERTS = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
# What a scrape has besides larkdrop's own: by Prometheus itself, and of the process.
PROCESS = ("cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds")
OTHERS = {"up", *(f"process_{name}" for name in PROCESS)}
EXPRESSION = re.compile(r"^ {8}expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", re.MULTILINE)
METRIC = re.compile(r"\b((?:larkdrop|process)_\w+|up\b)(?:\{(.*?)\})?")
MATCHER = re.compile(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
# By Prometheus when it scrapes, and by a histogram.
EVERYWHERE = {"job", "instance", "le"}
# Grafana's variables, as Prometheus could get them.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$folder": ".*"}


class Listed(NamedTuple):
    """A row of the page: the metric's type, and its labels with the values that they can have, where it lists these."""

    kind: str
    labels: dict[str, set[str]]


def listed() -> dict[str, Listed]:
    """The table of the page, by metric."""
    rows = re.findall(r"^\| `(larkdrop_\w+)` \| (\w+) \| (.*?) ?\| .*\|$", PAGE, re.MULTILINE)
    return {name: Listed(kind, _labels(cell)) for name, kind, cell in rows}


def _labels(cell: str) -> dict[str, set[str]]:
    """`folder`; `lane`: `fresh`, `backlog`; or labels alone, with commas between them."""
    found: dict[str, set[str]] = {}
    for part in cell.split("; "):
        names, _, values = part.partition(": ")
        found |= {name: set(re.findall(r"`(\w+)`", values)) for name in re.findall(r"`(\w+)`", names)}
    return found


def exposed() -> dict[str, Listed]:
    """What can be asked for: a histogram by its three parts."""
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + part: row for name, row in listed().items() for part in parts.get(row.kind, ("",))}


def rules() -> list[str]:
    """The expressions of the alerts, on one line or in a block."""
    return ["".join(parts) for parts in EXPRESSION.findall(ALERTS)]


def panels() -> Iterator[dict[str, Any]]:
    """Those that show something."""
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def shown() -> list[str]:
    """The expressions of the dashboard, those of its variables included."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    return found


def promtool(*words: str | Path) -> None:
    """It succeeds, or the test fails with what it says."""
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_the_rules_can_be_read() -> None:
    """By Prometheus's own tool."""
    promtool("check", "rules", "alerts.yml")


@pytest.mark.needs("promtool")
def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    """Every case of alerts_test.yml, and no second alert for one cause."""
    promtool("test", "rules", "alerts_test.yml")


@pytest.mark.needs("promtool")
def test_the_dashboards_expressions_can_be_read(tmp_path: Path) -> None:
    """As rules, with Grafana's variables filled in."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    records = [{"record": f"shown:{number}", "expr": expression} for number, expression in enumerate(found)]
    file = tmp_path / "shown.yml"
    file.write_text(json.dumps({"groups": [{"name": "shown", "rules": records}]}))
    promtool("check", "rules", file)


@pytest.mark.parametrize("expressions", [rules(), shown()], ids=["alerts", "dashboard"])
def test_only_metrics_that_exist_are_asked_for(expressions: list[str]) -> None:
    """With labels that they have, and values that these can have."""
    known = exposed()
    assert expressions
    for expression in expressions:
        asked = METRIC.findall(expression)
        assert asked, expression
        for name, selector in asked:
            assert name in known or name in OTHERS, expression
            labels = known[name].labels if name in known else {}
            for label, text in MATCHER.findall(selector):
                assert label in EVERYWHERE or label in labels, expression
                if values := labels.get(label):
                    assert set(text.split("|")) <= values, expression


@pytest.mark.parametrize("expressions", [rules(), shown()], ids=["alerts", "dashboard"])
def test_groups_are_made_by_labels_that_exist(expressions: list[str]) -> None:
    """Of one of the metrics in the expression."""
    known = exposed()
    for expression in expressions:
        there = {label for name, _ in METRIC.findall(expression) if name in known for label in known[name].labels}
        for group in GROUPING.findall(expression):
            assert set(group.split(", ")) <= there | EVERYWHERE, expression


def test_the_page_lists_every_metric() -> None:
    """And no other."""
    assert set(listed()) == set(NAMES)


def test_the_page_lists_every_alert() -> None:
    """With its severity and how long it waits, and every alert has a test in which it fires."""
    tested = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`Larkdrop.*?) \| (.*?) \|", PAGE, re.MULTILINE)
    told = {name: how for names, how in cells for name in re.findall(r"`(\w+)`", names)}
    rows = re.findall(r"alert: (\w+)\n.*?for: (\d+)([mh])\n.*?severity: (\w+)", ALERTS, re.DOTALL)
    units = {"m": "min", "h": "h"}
    assert told == {name: f"{severity}, {number} {units[unit]}" for name, number, unit, severity in rows}
    for name in told:
        assert f'alertname="{name}"' in tested, name


def test_every_alert_leads_to_a_heading() -> None:
    """In one of the documents."""
    found = re.findall(r"^ {10}runbook: (\S+)#(\S+)$", ALERTS, re.MULTILINE)
    assert len(found) == len(rules())
    for page, anchor in found:
        headings = HEADING.findall((ROOT / page).read_text(encoding="utf-8"))
        assert anchor in {slug(heading) for heading in headings}, f"{page}#{anchor}"


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """Each panel asks the data source that is chosen, has an id of its own, and lies beside the others."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
