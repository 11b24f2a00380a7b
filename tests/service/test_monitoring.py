"""What Prometheus and a health check are told: counted right, by the rules of ``status``, and with nothing private."""

from __future__ import annotations

import os
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from larkdrop.sandbox.server import Sandbox
from tests.asking import ask
from tests.docs.test_monitoring import listed
from tests.helpers import Daemon, free_port, picture, wait_for_sidecar, wait_until

MakeDaemon = Callable[..., Daemon]
Samples = dict[tuple[str, ...], float]


def get(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and text of an answer; 0 where there is none."""
    asked = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()
    except OSError:  # whatever ends the connection
        return 0, ""


def samples(port: int) -> Samples:
    """Every sample, by its name and the values of its labels in the order of their names."""
    families = text_string_to_metric_families(wait_until(lambda: get(port, "/metrics")[1], what="an answer"))
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def listening(port: int) -> dict[str, str]:
    """The section of the config."""
    return {"listen": f"127.0.0.1:{port}"}


def test_what_happens_to_pictures_is_counted(lark: Sandbox, make_daemon: MakeDaemon, port: int) -> None:
    """Outcomes, bytes and times by folder; calls by result and code; retries."""
    with make_daemon(metrics=listening(port)) as daemon:
        folder = str(daemon.inbox)
        before = samples(port)
        assert before["larkdrop_outcomes_total", folder, "uploaded"] == 0
        wait_for_sidecar(daemon.drop("a.png", picture()))
        wait_for_sidecar(daemon.drop("same.png", picture()))
        wait_for_sidecar(daemon.drop("no.png", b"no picture"))
        lark.faults.down = True
        waiting = daemon.drop("b.png", picture(1))
        wait_until(lambda: samples(port)["larkdrop_retries_total", "lark"] > 0, what="a call that fails")
        wait_until(lambda: samples(port)["larkdrop_oldest_waiting_seconds", folder] > 0, what="the picture to wait")
        lark.faults.down = False
        wait_for_sidecar(waiting)
        wait_until(lambda: samples(port)["larkdrop_record_seconds_count", folder] == 4, what="all to be recorded")
        after = samples(port)
    for event, count in (("uploaded", 2), ("reused", 1), ("rejected", 1)):
        assert after["larkdrop_outcomes_total", folder, event] == count
    assert after["larkdrop_uploaded_bytes_total", folder] == len(picture()) + len(picture(1))
    assert after["larkdrop_calls_total", "", "ok"] == 2
    failed = after["larkdrop_calls_total", "", "moment"]
    assert failed == after["larkdrop_retries_total", "lark"] > 0
    assert after["larkdrop_call_seconds_count",] == 2 + failed
    assert 0 < after["larkdrop_call_seconds_sum",] < 60
    assert after["larkdrop_month_calls",] == 2
    assert after["larkdrop_token_age_seconds",] >= 0
    assert (after["larkdrop_rate_limit", "second"], after["larkdrop_rate_limit", "minute"]) == (50, 1000)
    assert after["larkdrop_rate_used", "minute"] >= 2
    assert after["process_resident_memory_bytes",] > 1e6


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("bot_off", "setup"), ("quota_used_up", "quota"), ("down", "outage"), ("refused", "call")],
)
def test_the_gate_by_reason(lark: Sandbox, make_daemon: MakeDaemon, port: int, fault: str, reason: str) -> None:
    """Held for one reason at a time; where a person has to act, /healthz says what, as status does."""
    with make_daemon(metrics=listening(port), lark={"probe_seconds": 0.3}) as daemon:
        assert get(port, "/healthz") == (200, "All is well.\n")
        before = getattr(lark.faults, fault)
        lark.faults.set({fault: type(before)(1)})
        paths = [daemon.drop(f"{number}.png", picture(number)) for number in range(8)]
        wait_until(lambda: samples(port)["larkdrop_gate_held", reason], what="the gate")
        found = samples(port)
        assert sum(value for name, value in found.items() if name[0] == "larkdrop_gate_held") == 1
        status, text = get(port, "/healthz")
        needs = ask(daemon, "status", code=None)["needs"]
        assert (status, [text.strip()]) == ((503, needs) if needs else (200, ["All is well."]))
        assert found["larkdrop_healthy",] == (not needs)
        lark.faults.set({fault: before})
        for path in paths:
            assert wait_for_sidecar(path)["image_key"]
        wait_until(lambda: not samples(port)["larkdrop_gate_held", reason], what="the gate to open")
    assert get(port, "/healthz") == (0, "")


def test_ready_is_what_systemd_is_told(lark: Sandbox, make_daemon: MakeDaemon, port: int) -> None:
    """Not before the first answer of Lark, and not while it stops."""
    lark.faults.token_delay = 1.0
    daemon = make_daemon(metrics=listening(port), upload={"drain_seconds": 20})
    daemon.start(ready=False)
    wait_until(lambda: get(port, "/readyz")[0] == 503, what="the server")
    assert get(port, "/metrics")[0] == 200
    wait_until(lambda: get(port, "/readyz")[0] == 200, what="larkdrop to be ready")
    lark.faults.delay = 3.0
    daemon.drop("a.png", picture())
    wait_until(lambda: samples(port)["larkdrop_queue_files", str(daemon.inbox), "in_hand"], what="the call")
    assert daemon.process
    daemon.process.terminate()
    wait_until(lambda: get(port, "/readyz")[0] == 503, what="larkdrop to stop")
    assert daemon.process.wait(60) == 0


def test_a_port_that_is_taken(make_daemon: MakeDaemon, port: int) -> None:
    """Said once, and uploads go on; once it is free, it is used."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        daemon = make_daemon(metrics=listening(port)).start()
        (said,) = daemon.events("no_metrics")
        assert (said["listen"], "in use" in said["reason"]) == (f"127.0.0.1:{port}", True)
        assert "metrics.listen" in said["hint"]
        assert wait_for_sidecar(daemon.drop("a.png", picture()))["image_key"]
    wait_until(lambda: get(port, "/readyz")[0] == 200, what="the port to be used")
    assert len(daemon.events("no_metrics")) == 1


def test_the_page_tells_of_the_metrics_as_they_are(make_daemon: MakeDaemon, port: int) -> None:
    """Types and labels, from a real scrape."""
    nowhere = f"postgresql://larkdrop@127.0.0.1:{free_port()}/larkdrop"
    with make_daemon(metrics=listening(port), lark={"calls_per_month": 10_000}, fleet={"url": nowhere}):
        found = {}
        for family in text_string_to_metric_families(get(port, "/metrics")[1]):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, labels)
    own = {name: row for name, row in found.items() if name.startswith("larkdrop_")}
    assert own == {name: (row.kind, set(row.labels)) for name, row in listed().items()}


@pytest.mark.slow
def test_slow_clients_keep_nobody_else_from_being_answered_for_long(make_daemon: MakeDaemon, port: int) -> None:
    """A few connections at a time, and none for more than some seconds, however its bytes trickle in; uploads go on."""
    with make_daemon(metrics=listening(port)) as daemon, ExitStack() as stack:
        assert daemon.process
        tasks = Path(f"/proc/{daemon.process.pid}/task")
        before = len(list(tasks.iterdir()))
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        for client in clients:
            with suppress(OSError):
                client.sendall(b"GET /metr")
        assert wait_for_sidecar(daemon.drop("a.png", picture()))["image_key"]
        assert len(list(tasks.iterdir())) < before + 20
        wait_until(lambda: get(port, "/readyz")[0] == 200, 30, "the slow ones to be ended")


def test_a_folder_whose_name_is_not_utf_8(make_daemon: MakeDaemon, tmp_path: Path, port: int) -> None:
    """Its label has backslashes instead, as has the sentence that it is gone."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    link = tmp_path / "link"
    link.symlink_to(odd)
    with make_daemon(metrics=listening(port), watch=[{"path": link}]):
        assert samples(port)["larkdrop_outcomes_total", f"{tmp_path}/caf\\xe9", "uploaded"] == 0
        odd.rmdir()
        wait_until(lambda: get(port, "/healthz")[0] == 503, what="the folder to be missed")
        assert "\\udce9" in get(port, "/healthz")[1]


def test_a_key_cache_that_is_gone_costs_one_number_only(make_daemon: MakeDaemon, port: int) -> None:
    """The rest is served."""
    daemon = make_daemon(metrics=listening(port))
    with daemon:
        wait_until(lambda: ("larkdrop_month_calls",) in samples(port), what="the number")
        with sqlite3.connect(daemon.state / "keys.sqlite3") as db:
            db.execute("ALTER TABLE uploads RENAME TO no_uploads")
        assert ("larkdrop_month_calls",) not in samples(port)
        assert samples(port)["larkdrop_healthy",] == 1


def test_nothing_private_is_served(make_daemon: MakeDaemon, port: int) -> None:
    """No secret, and no name of a picture."""
    with make_daemon(metrics=listening(port)) as daemon:
        (daemon.inbox / "hidden-name.png.lark.json").write_text("mine")
        wait_for_sidecar(daemon.drop("other-hidden-name.png", picture(1)))
        daemon.drop("hidden-name.png", picture())
        wait_until(lambda: daemon.events("sidecar_name_taken"), what="the picture")
        served = "".join(get(port, path)[1] for path in ("/metrics", "/healthz", "/readyz", "/hidden-name"))
    assert "larkdrop_outcomes_total" in served
    assert "hidden-name" not in served
    assert "sandbox-secret" not in served


@pytest.mark.needs("root", "setpriv")
def test_trouble_is_counted_by_kind(make_daemon: MakeDaemon, port: int) -> None:
    """A file that can't be read, and a folder that is gone; without the file's name."""
    daemon = make_daemon(metrics=listening(port))
    daemon.prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner")
    private = daemon.drop("private.png", picture())
    private.chmod(0)
    os.chown(private, 65534, 65534)
    with daemon:
        wait_until(lambda: samples(port)["larkdrop_trouble", "read"] == 1, what="the file")
        status, text = get(port, "/healthz")
        assert (status, text.startswith("larkdrop can't read 1 file; ")) == (503, True)
        private.unlink()
        wait_until(lambda: get(port, "/healthz")[0] == 200, what="all to be well")
        daemon.inbox.rename(daemon.home / "elsewhere")
        wait_until(lambda: samples(port)["larkdrop_trouble", "folder_gone"] == 1, what="the folder")
        assert get(port, "/healthz")[0] == 503


def test_other_questions(make_daemon: MakeDaemon, port: int) -> None:
    """HEAD gets the head only; what is not there, or not allowed, is said."""
    with make_daemon(metrics=listening(port)):
        assert get(port, "/readyz", "HEAD") == (200, "")
        assert get(port, "/readyz?full=1")[0] == 200
        assert get(port, "/") == (404, "There are /metrics, /healthz and /readyz.\n")
        assert get(port, "/metrics", "POST")[0] == 501


@pytest.mark.parametrize(("listen", "host"), [("[::1]", "[::1]"), ("localhost", "127.0.0.1")])
def test_other_addresses(make_daemon: MakeDaemon, port: int, listen: str, host: str) -> None:
    """IPv6 in brackets, and this machine by its name."""
    with make_daemon(metrics={"listen": f"{listen}:{port}"}):
        assert get(port, "/readyz", host=host)[0] == 200


def test_without_metrics_nothing_of_it_is_loaded(make_daemon: MakeDaemon) -> None:
    """Off by default."""
    daemon = make_daemon().start(PYTHONPROFILEIMPORTTIME="1")
    loaded = daemon.stderr.read_text()
    assert "larkdrop.service.daemon" in loaded
    assert "prometheus_client" not in loaded
