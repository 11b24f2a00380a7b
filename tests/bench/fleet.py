"""``python -m tests.bench.fleet``: what a ticket of a fleet costs, with 8 hosts and with 100, for hosts and database.

Each host is larkdrop's own part of a fleet, with a crowd that never ends and calls that take no time; all in a few
processes. A PostgreSQL of its own, with durable commits as by default. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import repeat
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import structlog

from larkdrop.config.settings import Fleet, Lark
from larkdrop.fleet.database import Database
from larkdrop.fleet.member import TAKE, Member
from larkdrop.fleet.sharing import Sharing
from larkdrop.lark.pace import Pace
from larkdrop.records.key_cache import KeyCache
from larkdrop.records.outbox import Outbox
from tests.bench.__main__ import cpu_of
from tests.fleet.postgres import Postgres

LARK = Lark(app_id="cli_bench", app_secret="bench")
# Processes in which the hosts run.
PROCESSES = 8
JOINING, MEASURED = 5.0, 180.0


def hosts(url: str, names: Sequence[str], home: Path, found: Queue[tuple[list[tuple[float, int]], int]]) -> None:
    """Some of the hosts: tells how long each question took, and how many tickets it got; and how many calls went."""
    begins = time.monotonic() + JOINING
    trips: list[tuple[float, int]] = []
    calls: list[float] = []
    ask = Database.ask

    def timed(self: Database, query: str, values: Any = (), *, seconds: float = 2) -> list[tuple[Any, ...]]:
        began = time.monotonic()
        rows = ask(self, query, values, seconds=seconds)
        if query == TAKE and began > begins:
            trips.append((time.monotonic() - began, len(rows[0][0]["ids"])))
        return rows

    Database.ask = timed  # type: ignore[method-assign]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    threads = [threading.Thread(target=crowd, args=(url, name, home, begins, calls), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put((trips, len(calls)))


def crowd(url: str, name: str, home: Path, begins: float, calls: list[float]) -> None:
    """One host that always has 10,000 pictures."""
    sharing, new = Sharing(LARK, Fleet(url=url, host=name)), threading.Event()
    pace = Pace(sharing.windows, probe_seconds=60, pauses=lambda: repeat(1.0))
    with KeyCache(home / f"{name}.sqlite3", shares=True) as cache:
        outbox = Outbox(cache)
        member = Member(sharing, LARK, pace=pace, outbox=outbox, calls=lambda: (0, 10_000, 10_000), wake=new.set)
        thread = threading.Thread(target=member.run, daemon=True)
        thread.start()
        time.sleep(max(0.0, begins - time.monotonic()))
        while (now := time.monotonic()) < begins + MEASURED:
            new.clear()
            if ticket := pace.ticket(fresh=False):
                pace.succeeded(ticket)
                if now > begins:
                    calls.append(now)
            else:
                new.wait(min(1.0, pace.delay(fresh=False)))
        member.stop()
        thread.join()


def measure(count: int) -> str:
    """A row of the table."""
    names = [f"host-{number}" for number in range(count)]
    with Postgres(max_connections=count + 10) as postgres, tempfile.TemporaryDirectory() as home:
        postgres.make_role("bench", "fleet")
        url = postgres.url("larkdrop", "bench", "fleet")
        found: Queue[Any] = multiprocessing.Queue()
        some = [names[number::PROCESSES] for number in range(PROCESSES)]
        running = [multiprocessing.Process(target=hosts, args=(url, one, Path(home), found)) for one in some]
        for process in running:
            process.start()
        time.sleep(JOINING)
        before, began = sum(map(cpu_of, postgres.processes())), time.monotonic()
        time.sleep(MEASURED - 2)
        cpu = (sum(map(cpu_of, postgres.processes())) - before) / (time.monotonic() - began)
        answers = [found.get() for _ in running]
        for process in running:
            process.join()
    trips = [trip for some, _ in answers for trip in some]
    useful = [trip for trip in trips if trip[1]]
    tickets = [seconds / tickets for seconds, tickets in trips for _ in range(tickets)]
    calls = sum(made for _, made in answers)
    of_limit = 60 * calls / MEASURED / LARK.requests_per_minute
    return (
        f"| {count} | {percentiles(tickets)} | {percentiles([seconds for seconds, _ in useful])} "
        f"| {len(trips) / MEASURED:.1f}, {len(useful) / MEASURED:.1f} | {of_limit:.1%} | {cpu:.1%} |"
    )


def percentiles(seconds: list[float]) -> str:
    """p50 and p99."""
    ordered = sorted(seconds)
    return f"{statistics.median(ordered) * 1000:.2f} ms, {ordered[int(len(ordered) * 0.99)] * 1000:.2f} ms"


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description="Measure what a ticket costs.")
    arguments.add_argument("hosts", nargs="*", type=int, default=[8, 100], help="how many (default: 8 100)")
    print("| hosts | a ticket, p50, p99 | the round trip | questions, with tickets, /s | limit | CPU of the database |")
    print("|---|---|---|---|---|---|")
    for count in arguments.parse_args().hosts:
        print(measure(count), flush=True)


if __name__ == "__main__":
    main()
