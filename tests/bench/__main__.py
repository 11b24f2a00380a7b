"""``python -m tests.bench``: prints a table, and writes it as JSON. ``--help`` lists the parts."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from larkdrop.pipeline.measure import Durations, Tally
from tests.bench.plot import plot
from tests.bench.server import Server
from tests.helpers import Daemon, free_port, picture, wait_until
from tests.pipeline.crowds import FOUND, MOVED_IN, SMALL_LIMITS, contents, play

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or a start would be measured that compiles larkdrop first
HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
LIFTED = {"requests_per_second": 10_000, "requests_per_minute": 600_000}
Row = dict[str, Any]


def quiet(home: Path, url: str, **sections: Any) -> Daemon:
    """A daemon as it is installed, apart from the limits."""
    lark = {"base_url": url, "app_id": "cli_sandbox", "app_secret": "sandbox-secret"} | sections.pop("lark", {})
    defaults: dict[str, Any] = {
        "upload": {"workers": 16, "settle_seconds": 2.0, "backoff_initial": 1.0, "backoff_max": 300.0}
    }
    return Daemon(home, None, lark=lark, log={"level": "info", "format": "json"}, **(defaults | sections))


def cpu_of(pid: int) -> float:
    """CPU seconds that a process used so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid: int, name: str = "VmRSS") -> float:
    """MiB of a process; ``VmHWM`` is its peak."""
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def wakeups_of(pid: int) -> int:
    """How often any thread of a process was switched to."""
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


def lines(path: Path) -> int:
    """Lines of a log."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the file system of the temporary folder, emptied at once and removed at the end.

    For minutes after files were removed, ext4 takes longer to make one, since it passes over their inodes one by one.
    """
    made = Path(tempfile.mkdtemp(prefix="larkdrop-bench-"))
    atexit.register(shutil.rmtree, made)
    try:
        yield made
    finally:
        for path in made.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


@contextmanager
def running(daemon: Daemon) -> Iterator[int]:
    """The pid of the daemon, ready."""
    with daemon:
        assert daemon.process
        yield daemon.process.pid
        daemon.stop()


def pictures(where: Path, count: int, size: int, first: int = 0) -> list[Path]:
    """Different pictures of about ``size`` bytes."""
    where.mkdir(parents=True)
    base = picture(0, "PNG", noise=size)
    made = []
    for number in range(first, first + count):
        # A chunk that no other picture has, before the end mark, is cheaper than another picture.
        path = where / f"{number:06}.png"
        path.write_bytes(base[:-12] + chunk(number) + base[-12:])
        made.append(path)
    return made


def chunk(number: int) -> bytes:
    """A PNG text chunk."""
    import zlib  # noqa: PLC0415

    data = b"tEXtnumber\0" + f"{number:020}".encode()
    return (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")


def larkdrop_burst(url: str, count: int, size: int) -> tuple[float, float]:
    """Seconds and CPU seconds from the first drop to the last sidecar."""
    with folder() as home:
        ready = pictures(home / "ready", count, size)
        daemon = quiet(home, url, lark=LIFTED)
        with running(daemon) as pid:
            before, began = cpu_of(pid), time.monotonic()
            for path in ready:
                path.rename(daemon.inbox / path.name)
            log, seen = (daemon.state / "results.jsonl").open("rb"), 0
            while seen < count:
                time.sleep(0.01)
                seen += log.read().count(b"\n")
            log.close()
            wait_until(lambda: sum(name.endswith(".lark.json") for name in os.listdir(daemon.inbox)) == count)
            took = time.monotonic() - began
            return took, cpu_of(pid) - before


def rival_burst(name: str, url: str, count: int, size: int) -> tuple[float, float]:
    """The same by a pool of threads."""
    with folder() as home:
        pictures(home / "ready", count, size)
        words = [sys.executable, "-W", "ignore", "-m", "tests.bench.rivals", name, url, str(home / "ready")]
        took, cpu = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        return took, cpu


def shell_burst(_name: str, url: str, count: int, size: int) -> tuple[float, float]:
    """The same by inotifywait and curl, one after the other."""
    with folder() as home:
        ready = pictures(home / "ready", count, size)
        inbox = home / "inbox"
        keys = home / "keys"
        inbox.mkdir()
        keys.mkdir()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(
            [str(HERE / "shell.sh"), url, str(inbox), str(count), str(keys)], stderr=subprocess.PIPE
        )
        assert process.stderr
        while b"Watches established" not in process.stderr.readline():
            pass
        began = time.monotonic()
        for path in ready:
            path.rename(inbox / path.name)
        wait_until(lambda: len(os.listdir(keys)) >= count and all(path.stat().st_size for path in keys.iterdir()), 60)
        took = time.monotonic() - began
        while process.poll() is None:
            (inbox / "end").write_bytes(b"")  # lets inotifywait notice that nobody listens
            time.sleep(0.01)
        process.stderr.close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def burst(server: Server, rounds: int, count: int = 1200, size: int = 100_000) -> list[Row]:
    """End to end, limits lifted: larkdrop and the others in turn."""
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "larkdrop": lambda: larkdrop_burst(server.url, count, size),
        "bare requests pool, 8 threads": lambda: rival_burst("bare", server.url, count, size),
        "official SDK, 8 threads": lambda: rival_burst("sdk", server.url, count, size),
        "inotifywait + curl": lambda: shell_burst("", server.url, count, size),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(way())
            print(f"  {name}: {count / measured[name][-1][0]:.0f}/s", file=sys.stderr)
    rows = []
    for name, runs in measured.items():
        speed = statistics.median(count / took for took, _ in runs)
        cpu = statistics.median(1000 * cpu / count for _, cpu in runs)
        rows.append(
            {"what": f"uploads a second, {count} × {size // 1000} KB", "who": name, "value": round(speed), "unit": "/s"}
        )
        rows.append({"what": "CPU a picture", "who": name, "value": round(cpu, 2), "unit": "ms"})
    with folder() as home:
        limit = server.limit(pictures(home / "one", 1, size)[0], count)
    rows.append({"what": "the server's own limit", "who": "curl -Z", "value": round(limit), "unit": "/s"})
    return rows


def latency(server: Server, rounds: int) -> list[Row]:
    """One drop at a time, until its sidecar is there; and one bare POST of the same bytes."""
    count = 200 * rounds
    with folder() as home:
        ready = pictures(home / "ready", count, 50_000)
        daemon = quiet(home, server.url, lark=LIFTED)
        session, drops, posts = requests.Session(), [], []
        with running(daemon):
            for path in ready:
                content = path.read_bytes()
                began = time.perf_counter()
                session.post(
                    f"{server.url}/open-apis/image/v4/put/", data={"image_type": "message"}, files={"image": content},
                    timeout=60,
                ).json()  # fmt: skip
                posts.append(time.perf_counter() - began)
                beside = f"{daemon.inbox}/{path.name}.lark.json"
                target = daemon.inbox / path.name
                began = time.perf_counter()
                path.rename(target)
                while not os.path.exists(beside):
                    time.sleep(0.0002)
                drops.append(time.perf_counter() - began)
    rows = []
    for who, times in (("larkdrop", drops), ("bare POST", posts)):
        ranked = sorted(1000 * took for took in times)
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            what = f"drop to durable sidecar, 50 KB, {name}"
            rows.append({"what": what, "who": who, "value": round(ranked[int(part * count)], 2), "unit": "ms"})
    return rows


def rate(server: Server, rounds: int) -> list[Row]:
    """CPU a picture at the rates that Lark allows: in its best second, and over minutes."""
    return [
        {
            "what": f"CPU a picture of 100 KB, {per_second} dropped a second",
            "who": "larkdrop",
            "value": round(statistics.median(cpu_at(server, per_second) for _ in range(rounds)), 2),
            "unit": "ms",
        }
        for per_second in (50, 17)
    ]


def cpu_at(server: Server, per_second: int) -> float:
    """CPU milliseconds a picture, over ten seconds of single drops."""
    count = 10 * per_second
    with folder() as home:
        ready = pictures(home / "ready", count, 100_000)
        daemon = quiet(home, server.url, lark=LIFTED)
        with running(daemon) as pid:
            before, began = cpu_of(pid), time.monotonic()
            for number, path in enumerate(ready):
                time.sleep(max(0.0, began + number / per_second - time.monotonic()))
                path.rename(daemon.inbox / path.name)
            wait_until(lambda: lines(daemon.state / "results.jsonl") == count)
            return 1000 * (cpu_of(pid) - before) / count


def limits(_server: Server, _rounds: int) -> list[Row]:
    """Crowds under the real limits and a server that takes 200 ms, all at the same time; and drops meanwhile."""
    rows: list[Row] = []
    crowds = (SMALL_LIMITS, MOVED_IN, FOUND)
    contents(MOVED_IN.pictures)
    with folder() as home, ThreadPoolExecutor() as pool:
        playing = [pool.submit(play, crowd, home / str(number)) for number, crowd in enumerate(crowds)]
        for crowd, future in zip(crowds, playing, strict=True):
            played = future.result()
            for minute in range(1, 1 + int(crowd.seconds // 60)):
                done, allowed = played.done_by(60 * minute), crowd.per_minute * minute
                value = f"{done} of {allowed}, {done / allowed:.1%}"
                rows.append({"what": f"{crowd.name}: finished after {60 * minute} s", "value": value})
            waits = sorted(played.waits.values())
            value = f"{statistics.median(waits):.2f} s, {waits[-1]:.2f} s"
            rows.append({"what": f"{crowd.name}: a drop meanwhile waits, median and longest", "value": value})
            rows.append({"what": f"{crowd.name}: throttled calls", "value": played.throttled})
            if crowd is MOVED_IN:
                plot(played.finished, played.waits, crowd.per_minute, HERE.parents[1] / "docs" / "throughput.svg")
    return [{"who": "larkdrop", "unit": "", **row} for row in rows]


def finish(home: Path, url: str, count: int) -> Daemon:
    """A folder of ``count`` finished pictures, by a real run; contents repeat."""
    daemon = quiet(home, url, lark=LIFTED, upload={"settle_seconds": 0})
    contents = [picture(number) for number in range(100)]
    for number in range(count):
        where = daemon.inbox / f"{number // 1000:04}"
        where.mkdir(exist_ok=True)
        (where / f"{number:07}.png").write_bytes(contents[number % 100])
    subprocess.run(daemon.command("run", "--once", "--quiet"), check=True)
    return daemon


def restart(server: Server, rounds: int, count: int = 100_000) -> list[Row]:
    """A restart over finished pictures beside find over the same tree, caches warm."""
    with folder() as home:
        daemon = finish(home, server.url, count)
        times, finds, growth = [], [], []
        for _ in range(max(3, rounds)):
            began = time.monotonic()
            subprocess.run(
                ["find", str(daemon.inbox), "-printf", "%T@ %C@ %p\n"], check=True, stdout=subprocess.DEVNULL
            )
            finds.append(time.monotonic() - began)
            daemon.stderr.unlink(missing_ok=True)
            daemon.config.write_text(daemon.config.read_text().replace('level = "info"', 'level = "debug"'))
            with running(daemon) as pid:
                before = memory_of(pid)
                (looked,) = wait_until(lambda: daemon.events("looked"), 600)
                times.append(looked["seconds"])
                growth.append(memory_of(pid, "VmHWM") - before)
    what = f"restart over {count:,} finished pictures"
    ratio = statistics.median(times) / statistics.median(finds)
    return [
        {"what": what, "who": "larkdrop", "value": round(statistics.median(times), 2), "unit": "s"},
        {"what": what, "who": "find -printf", "value": round(statistics.median(finds), 2), "unit": "s"},
        {"what": f"{what}: larkdrop / find", "who": "larkdrop", "value": round(ratio, 2), "unit": "×"},
        {"what": f"{what}: RSS growth", "who": "larkdrop", "value": round(max(growth), 1), "unit": "MiB"},
    ]


def million(server: Server, rounds: int) -> list[Row]:
    """The same over a million; takes a quarter of an hour."""
    return restart(server, rounds, 1_000_000)


def flood(server: Server, _rounds: int, count: int = 20_000) -> list[Row]:
    """Many drops at once: lost, and the peak of memory."""
    with folder() as home:
        ready = pictures(home / "ready", count, 5_000)
        daemon = quiet(home, server.url, lark=LIFTED)
        with running(daemon) as pid:
            for path in ready:
                path.rename(daemon.inbox / path.name)
            log = daemon.state / "results.jsonl"
            wait_until(lambda: lines(log) >= count, 600)
            wait_until(lambda: sum(name.endswith(".lark.json") for name in os.listdir(daemon.inbox)) >= count, 60)
            peak = memory_of(pid, "VmHWM")
        lost = count - sum(name.endswith(".lark.json") for name in os.listdir(daemon.inbox))
    what = f"burst of {count:,} drops"
    return [
        {"what": f"{what}: lost", "who": "larkdrop", "value": lost, "unit": ""},
        {"what": f"{what}: peak RSS", "who": "larkdrop", "value": round(peak, 1), "unit": "MiB"},
    ]


def idle(server: Server, _rounds: int) -> list[Row]:
    """A minute of nothing."""
    with folder() as home, running(quiet(home, server.url)) as pid:
        time.sleep(5)
        cpu, wakeups, began = cpu_of(pid), wakeups_of(pid), time.monotonic()
        time.sleep(60)
        took = time.monotonic() - began
        return [
            {"what": "idle: CPU", "who": "larkdrop", "value": round(100 * (cpu_of(pid) - cpu) / took, 3), "unit": "%"},
            {
                "what": "idle: wake-ups",
                "who": "larkdrop",
                "value": round((wakeups_of(pid) - wakeups) / took, 2),
                "unit": "/s",
            },
            {"what": "idle: RSS", "who": "larkdrop", "value": round(memory_of(pid), 1), "unit": "MiB"},
        ]


def start(server: Server, rounds: int) -> list[Row]:
    """``--help``, and ``run`` until READY, over an empty Python."""
    python, helped, ready = [], [], []
    for _ in range(5 * rounds):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        python.append(time.monotonic() - began)
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "larkdrop", "--help"], check=True, stdout=subprocess.DEVNULL)
        helped.append(time.monotonic() - began)
        with folder() as home, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(home / "notify"))
            daemon = quiet(home, server.url)
            began = time.monotonic()
            daemon.start(ready=False, NOTIFY_SOCKET=str(home / "notify"))
            while notify.recv(4096) != b"READY=1":
                pass
            ready.append(time.monotonic() - began)
            daemon.kill()
    base = statistics.median(python)
    return [
        {"what": "larkdrop --help, over python -c pass", "who": "larkdrop",
         "value": round(1000 * (statistics.median(helped) - base)), "unit": "ms"},
        {"what": "larkdrop run to READY, over python -c pass", "who": "larkdrop",
         "value": round(1000 * (statistics.median(ready) - base)), "unit": "ms"},
    ]  # fmt: skip


def scrape(server: Server, _rounds: int, count: int = 10_000) -> list[Row]:
    """What a scrape of the metrics takes, with nothing to do and with many files waiting; and counting, a picture."""
    rows: list[Row] = []
    port = free_port()

    def scraped() -> str:
        answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60)
        answer.raise_for_status()
        return answer.text

    def waiting() -> float:
        return sum(map(float, re.findall(r"^larkdrop_queue_files\{.*\} (\S+)", scraped(), re.MULTILINE)))

    with folder() as home:
        ready = pictures(home / "ready", count, 100)
        slow = {"requests_per_second": 1, "requests_per_minute": 1}
        with running(quiet(home, server.url, metrics={"listen": f"127.0.0.1:{port}"}, lark=slow)) as pid:
            for files in (0, count):
                for path in ready[:files]:
                    path.rename(home / "inbox" / path.name)
                wait_until(lambda: waiting() >= 0.99 * files, what="the queue")  # noqa: B023 - it waits here
                before = cpu_of(pid)
                for _ in range(100):
                    scraped()
                took = 10 * (cpu_of(pid) - before)
                rows.append(
                    {"what": f"CPU of a scrape, {files:,} files waiting", "value": round(took, 1), "unit": "ms"}
                )
    tally, durations, times = Tally(), Durations(1, 10), 100_000
    counted = timeit.timeit(lambda: tally.add("a", "b"), number=times)
    timed = timeit.timeit(lambda: durations.add(2), number=times)
    rows.append(
        {
            "what": "counting for the metrics, a picture",
            "value": round(1e6 * (3 * counted + 2 * timed) / times, 1),
            "unit": "µs",
        }
    )
    return [{"who": "larkdrop", **row} for row in rows]


PARTS: dict[str, Callable[[Server, int], list[Row]]] = {
    "burst": burst, "rate": rate, "latency": latency, "limits": limits, "restart": restart, "flood": flood,
    "idle": idle, "start": start, "scrape": scrape, "million": million,
}  # fmt: skip


def machine() -> str:
    """What this was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = model[1].strip() if model else platform.machine()
    system = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, {system}"


def main() -> None:
    """Measure, print and write."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure larkdrop beside others.")
    everything = [name for name in PARTS if name != "million"]
    arguments.add_argument(
        "parts", nargs="*", default=everything, help=f"of {', '.join(PARTS)}; default: all but million"
    )
    arguments.add_argument("--rounds", type=int, default=5, help="repetitions, of which the median counts (default: 5)")
    arguments.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="where to write it (default: bench.json)"
    )
    given = arguments.parse_args()
    for part in given.parts:
        if part not in PARTS:
            arguments.error(f"{part} is no part; there are: {', '.join(PARTS)}")
    if "burst" in given.parts and not (shutil.which("curl") and shutil.which("inotifywait")):
        arguments.error("the part burst needs curl and inotify-tools")
    rows: list[Row] = []
    for part in given.parts:
        print(f"{part} …", file=sys.stderr)
        with Server() as server:
            rows += PARTS[part](server, given.rounds)
    print(f"\n{machine()}\n\n| what | who | measured |\n|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {row['who']} | {row['value']} {row['unit']} |".replace("  |", " |"))
    given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
