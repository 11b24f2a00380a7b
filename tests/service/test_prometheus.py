"""A real Prometheus scrapes larkdrop, and answers what the alerts and the dashboard ask with the right numbers."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from larkdrop.sandbox.server import Sandbox
from tests.docs.test_monitoring import FOLDER, VARIABLES, panels
from tests.helpers import Daemon, free_port, picture, wait_for_sidecar, wait_until
from tests.service.test_monitoring import listening

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus")]
MakeDaemon = Callable[..., Daemon]
# What the dashboard shows only while something is wrong.
EMPTY_WHEN_WELL = {"Can't be written, read or found"}


class Prometheus:
    """One that scrapes ``target`` twice a second and knows the alerts."""

    def __init__(self, home: Path, target: int) -> None:
        self._port = free_port()
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(FOLDER / "alerts.yml")],
            "scrape_configs": [
                {"job_name": "larkdrop", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]},
            ],
        }
        file = home / "prometheus.yml"
        file.write_text(json.dumps(config))
        words = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={home / 'data'}", "--log.level=error"]
        self.process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{self._port}"])

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, expression: str) -> list[float]:
        """The values of what it finds; none while it starts."""
        try:
            found = self._get("query", query=expression)["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        except urllib.error.URLError:
            return []
        return [float(one["value"][1]) for one in found]

    def alerts(self) -> set[str]:
        """Those that fire, or will if it stays like this."""
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"]}


@pytest.fixture
def daemon(make_daemon: MakeDaemon, port: int) -> Daemon:
    """Served on ``port``."""
    return make_daemon(metrics=listening(port), lark={"probe_seconds": 0.3, "calls_per_month": 10_000})


@pytest.fixture
def prometheus(tmp_path: Path, port: int) -> Iterator[Prometheus]:
    """It looks at ``port``."""
    made = Prometheus(tmp_path, port)
    yield made
    made.process.kill()
    made.process.wait()


def test_the_dashboard_under_load(prometheus: Prometheus, daemon: Daemon) -> None:
    """Each panel has something to show, and the numbers are those of the result log."""
    with daemon:
        wait_until(lambda: prometheus.ask("larkdrop_healthy") == [1], what="the first scrape")
        for number in range(60):
            daemon.drop(f"{number}.png", picture(number % 50))
        daemon.drop("no.png", b"no picture")
        done = 'sum(larkdrop_outcomes_total{outcome="%s"})'
        wait_until(lambda: prometheus.ask("sum(larkdrop_outcomes_total)") == [61], what="all to be counted")
        events = [line["event"] for line in daemon.results()]
        for outcome in ("uploaded", "reused", "rejected"):
            assert prometheus.ask(done % outcome) == [events.count(outcome)]
        assert prometheus.ask('larkdrop_calls_total{result="ok"}') == [50]
        assert prometheus.ask("larkdrop_month_calls / larkdrop_month_calls_limit") == [0.005]
        for panel in panels():
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in VARIABLES.items():
                    expression = expression.replace(variable, value)
                found = prometheus.ask(expression)
                assert bool(found) is (panel["title"] not in EMPTY_WHEN_WELL), (panel["title"], expression)
        assert prometheus.alerts() == set()


@pytest.mark.parametrize(("fault", "alert"), [("down", "LarkdropOutage"), ("bot_off", "LarkdropSetUpHeld")])
def test_an_alert_and_its_end(prometheus: Prometheus, daemon: Daemon, lark: Sandbox, fault: str, alert: str) -> None:
    """It names the cause, and no other alert comes with it; it ends with the cause."""
    with daemon:
        wait_until(lambda: prometheus.ask("larkdrop_healthy") == [1], what="the first scrape")
        setattr(lark.faults, fault, True)
        paths = [daemon.drop(f"{number}.png", picture(number)) for number in range(8)]
        wait_until(lambda: prometheus.alerts() == {alert}, what=f"{alert} alone")
        waiting = 'sum(larkdrop_queue_files{lane!="settling"})'
        wait_until(lambda: prometheus.ask(waiting) == [8], what="the queue")
        setattr(lark.faults, fault, False)
        for path in paths:
            wait_for_sidecar(path)
        wait_until(lambda: prometheus.alerts() == set(), what=f"{alert} to end")
    wait_until(lambda: prometheus.alerts() == {"LarkdropDown"}, what="LarkdropDown")
