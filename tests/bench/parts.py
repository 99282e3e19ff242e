"""What the benchmark measures, part by part. Each prints a table; each compares with the floor, or with itself, in the same run."""

import cProfile
import itertools
import json
import pstats
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from baskets.domain.events import activity
from baskets.management.load_client import Measurements, Request, send_all
from tests.bench import floor, seeding
from tests.bench.background import Background
from tests.bench.one_process import answer
from tests.bench.servers import database_seconds, processor_seconds, resident_megabytes, service, workers_of
from tests.bench.servers import floor as served_floor
from tests.bench.sweep import APPLICATION_NAME

TIMEOUT_SECONDS = 60
# An idle server process reports its statistics after ten seconds at the latest.
STATISTICS_SECONDS = 11
OPERATIONS = ("finish", "start", "abort", "add", "get")
FINISH, ABORT = b'{"ordered": true}', b'{"ordered": false}'
_runs = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where to measure, and how much."""

    database_url: str
    partner: int
    key: str
    baskets: int
    requests: int
    ten_million: bool
    minutes: int = 0
    record: str = ""

    def users(self, number: int) -> list[str]:
        """Return user ids that have no basket yet."""
        run = next(_runs)
        return [f"bench-{run}-{n}" for n in range(number)]


def _calls(operation: str, users: Sequence[str]) -> list[Request]:
    at = [f"/baskets/users/{user}" for user in users]
    match operation:
        case "get":
            return [Request(method="GET", path=path) for path in at]
        case "add":
            return [Request(method="POST", path=f"{path}/products/bench-5", body=b'{"count": 2}') for path in at]
        case "start":
            return [Request(method="POST", path=f"{path}/checkout/sessions", body=b"{}") for path in at]
        case "finish" | "abort":
            body = FINISH if operation == "finish" else ABORT
            return [Request(method="POST", path=f"{path}/checkout/sessions/finish-active", body=body) for path in at]
    raise ValueError(operation)


def measure(bench: Bench, url: str, calls: Iterable[Request], clients: int) -> Measurements:
    refused: list[int] = []
    measured = send_all(
        url,
        calls,
        clients=clients,
        headers={"X-API-Key": bench.key},
        timeout_seconds=TIMEOUT_SECONDS,
        on_response=lambda response: None if response.status == 200 else refused.append(response.status or 0),
    )
    if refused:
        message = f"{len(refused)} calls were not answered with 200: {sorted(set(refused))}, {measured.failed}"
        raise SystemExit(message)
    return measured


class Cost(NamedTuple):
    """The cost of calls: how many a second, and the processor time of each in the service and in PostgreSQL, in seconds."""

    per_second: float
    service: float
    database: float


def measure_cost(bench: Bench, url: str, calls: Sequence[Request], *, service: int, server_process: int) -> Cost:
    """Make calls from 8 clients and measure their cost; Linux, with the database on this machine.

    :param service: the main process of the service.
    :param server_process: a process of the database server that stays connected.
    """

    def spent() -> tuple[float, float]:
        return processor_seconds(workers_of(service)), database_seconds(server_process)

    service_before, database_before = spent()
    measured = measure(bench, url, calls, 8)
    service_after, database_after = spent()
    return Cost(measured.per_second, (service_after - service_before) / len(calls), (database_after - database_before) / len(calls))


def prepare_calls(
    bench: Bench, operation: str, *, items: int = 3, hot: bool = False, number: int = 0, vacuum: bool = True
) -> list[Request]:
    users = bench.users(number or bench.baskets)
    checkout = operation in ("finish", "abort", "get")
    seeding.fill(bench.database_url, partner=bench.partner, users=users, items=items, hot=hot, checkout=checkout, vacuum=vacuum)
    return _calls(operation, users)


def measure_service(
    bench: Bench, url: str, operation: str, *, clients: int, items: int = 3, hot: bool = False, number: int = 0
) -> Measurements:
    return measure(bench, url, prepare_calls(bench, operation, items=items, hot=hot, number=number), clients)


def _floor(bench: Bench, url: str, *, clients: int) -> Measurements:
    number = bench.baskets * 3
    floor.load(bench.database_url, baskets=number, items=3)
    calls = [Request(method="POST", path=f"/finish/u{n}", body=FINISH) for n in range(1, number + 1)]
    return measure(bench, url, calls, clients)


def print_row(*columns: object) -> None:
    """Print one row of a table."""
    sys.stdout.write("| " + " | ".join(map(_format, columns)) + " |\n")
    sys.stdout.flush()


def _format(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 10 else f"{value:.0f}"
    return str(value)


def print_head(title: str, *columns: str) -> None:
    """Print the title and the head of a table."""
    sys.stdout.write(f"\n{title}\n\n")
    print_row(*columns)
    print_row(*("---" for _ in columns))


def speed(bench: Bench) -> None:
    """Measure each operation for 1, 8 and 32 clients, uniform and on one hot product, each beside the floor."""
    print_head("Speed, 3 items", "Call", "Products", "Clients", "A second", "p50 ms", "p99 ms", "Ratio to the floor")
    floor.load(bench.database_url, baskets=1, items=1)
    with service() as (url, _), served_floor() as (floor_url, _):
        for operation in ("finish", "finish", "start", "add", "get", "abort"):  # The first warms everything up.
            measure_service(bench, url, operation, clients=8, number=200)
        for clients in (1, 8, 32):
            for operation, hot in itertools.product(OPERATIONS, (False, True)):
                if hot and operation in ("add", "get"):
                    continue
                minimum = _floor(bench, floor_url, clients=clients)
                ours = measure_service(bench, url, operation, clients=clients, hot=hot)
                ratio = ours.per_second / minimum.per_second
                print_row(
                    operation, "one hot" if hot else "uniform", clients, ours.per_second, ours.percentile(0.5), ours.percentile(0.99), ratio
                )
            print_row("the floor", "uniform", clients, minimum.per_second, minimum.percentile(0.5), minimum.percentile(0.99), 1)


def items(bench: Bench) -> None:
    """Measure how finish and start grow with the items of a basket."""
    print_head("Growth by items, 8 clients", "Call", "Items", "A second", "Time, as a multiple of that with 1 item")
    with service() as (url, _):
        for operation in ("finish", "start"):
            measure_service(bench, url, operation, clients=8, items=3, number=200)
            base = 0.0
            for number in (1, 5, 20):
                measured = measure_service(bench, url, operation, clients=8, items=number)
                base = base or measured.per_second
                print_row(operation, number, measured.per_second, base / measured.per_second)


def baskets(bench: Bench) -> None:
    """Measure how finish, start and GET grow with the baskets. The statistics of the planner are older than the last hundredth of them."""
    print_head("Growth by baskets, 8 clients", "Call", "Baskets", "A second", "Service, ms", "PostgreSQL, ms", "Pages")
    seeding.stop_autovacuum(bench.database_url)
    there = 0
    with service() as (url, main), psycopg.connect(bench.database_url, autocommit=True) as asking:
        for total in (10_000, 100_000, 1_000_000, *([10_000_000] if bench.ten_million else [])):
            there = _grow(bench, there, total - total // 100)
            seeding.vacuum_and_analyze(bench.database_url)
            there = _grow(bench, there, total)
            for operation in ("finish", "start", "get"):
                measure(bench, url, prepare_calls(bench, operation, number=200, vacuum=False), 8)
                calls = prepare_calls(bench, operation, vacuum=False)
                time.sleep(STATISTICS_SECONDS)
                before = seeding.pages_read(bench.database_url)
                cost = measure_cost(bench, url, calls, service=main, server_process=asking.info.backend_pid)
                time.sleep(STATISTICS_SECONDS)
                pages = (seeding.pages_read(bench.database_url) - before) / len(calls)
                print_row(operation, f"{total:,}", cost.per_second, cost.service * 1000, cost.database * 1000, pages)


def _grow(bench: Bench, there: int, total: int) -> int:
    """Add baskets of one product until there are so many; one in ten is in a checkout."""
    while there < total:
        step = min(total - there, 50_000)
        seeding.fill(
            bench.database_url, partner=bench.partner, users=bench.users(step), items=1, checkout=there % 500_000 == 0, vacuum=False
        )
        there += step
    return there


def expiry(bench: Bench) -> None:
    """Measure `expire_baskets` on lapsed checkouts of 3 items: alone, of three numbers, and beside 8 clients that finish others."""
    columns = (
        "Beside",
        "Checkouts",
        "A second",
        "Command, µs each",
        "PostgreSQL, µs each",
        "Processors",
        "Finishes a second",
        "Their p99, ms",
    )
    print_head("Expiry", *columns)
    for number in (bench.baskets * 2, bench.baskets * 10, bench.baskets * 40):
        _lapse(bench, number)
        print_row("nothing", *_costs(_sweep(bench), number), "-", "-")
    number = bench.baskets * 4
    with service() as (url, _):
        measure_service(bench, url, "finish", clients=8, number=200)
        finished = measure_service(bench, url, "finish", clients=8)
        print_row("8 clients", 0, "-", "-", "-", "-", finished.per_second, finished.percentile(0.99))
        calls, swept = prepare_calls(bench, "finish", number=number), threading.Event()
        _lapse(bench, number)
        with ThreadPoolExecutor(1) as others:
            # The clients stop with the sweep, so that all their times are from beside it.
            load = others.submit(measure, bench, url, itertools.takewhile(lambda _: not swept.is_set(), calls), 8)
            beside = _sweep(bench)
            swept.set()
            finished = load.result()
        print_row("8 clients", *_costs(beside, number), finished.per_second, finished.percentile(0.99))


def _lapse(bench: Bench, number: int) -> None:
    seeding.fill(bench.database_url, partner=bench.partner, users=bench.users(number), items=3, checkout=True, lapsed=True)
    activity.count_events(stop=lambda: False)  # As earlier sweeps have done: a sweep counts its own events only.


class Swept(NamedTuple):
    """What a sweep has taken, in seconds: of the clock, and of the processors for the command and for its server processes."""

    seconds: float
    command: float
    database: float


class ServerProcesses(Background):
    """Reads the processor time of a sweep's server processes while they run; misses the last moment of each.

    :ivar seconds: by process.
    """

    def __init__(self, asking: psycopg.Connection[Any]) -> None:
        super().__init__(0.02)
        self.seconds: dict[int, float] = {}
        self._asking = asking

    def _look(self) -> None:
        for (pid,) in self._asking.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", [APPLICATION_NAME]):
            self.seconds[pid] = max(processor_seconds([pid]), self.seconds.get(pid, 0))


def _sweep(bench: Bench) -> Swept:
    """Sweep in another program, as an operator does."""
    with psycopg.connect(bench.database_url, autocommit=True) as asking, ServerProcesses(asking) as processes:
        printed = subprocess.run([sys.executable, "-m", "tests.bench.sweep"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return Swept(*json.loads(printed.stdout), sum(processes.seconds.values()))


def _costs(swept: Swept, number: int) -> tuple[object, ...]:
    """Return the columns of a sweep. The rate depends on how many processors other programs left to it; the cost of each does so less."""
    command, database = swept.command * 1e6 / number, swept.database * 1e6 / number
    return number, number / swept.seconds, command, database, (swept.command + swept.database) / swept.seconds


def memory(bench: Bench) -> None:
    """Measure a worker's memory before and after many requests. Linux only."""
    print_head("Memory of the workers, 8 clients, GET", "Requests", "MB")
    users = bench.users(bench.baskets)
    seeding.fill(bench.database_url, partner=bench.partner, users=users, items=3, checkout=True)
    calls = _calls("get", users)
    with service() as (url, main):
        done = 0
        for target in (bench.requests // 100, bench.requests // 10, bench.requests):
            measure(bench, url, [calls[n % len(calls)] for n in range(target - done)], 8)
            done = target
            print_row(f"{done:,}", ", ".join(f"{resident_megabytes(pid):.0f}" for pid in workers_of(main)))


def profile(bench: Bench) -> None:
    """Profile finish-active inside one process, by package."""
    from basket_project.wsgi import application  # noqa: PLC0415 (loads all of Django)

    users = bench.users(bench.baskets)
    seeding.fill(bench.database_url, partner=bench.partner, users=users, items=3, checkout=True)
    calls = _calls("finish", users)
    for call in calls[:50]:
        answer(application, key=bench.key, method=call.method, path=call.path, body=call.body.decode())
    profiler = cProfile.Profile()
    started = time.process_time()
    for call in calls[50 : len(calls) // 2]:
        answer(application, key=bench.key, method=call.method, path=call.path, body=call.body.decode())
    spent = (time.process_time() - started) / (len(calls) // 2 - 50)
    profiler.enable()
    for call in calls[len(calls) // 2 :]:
        answer(application, key=bench.key, method=call.method, path=call.path, body=call.body.decode())
    profiler.disable()
    print_head(f"Profile of finish-active in one process: {spent * 1000:.2f} ms of processor time a call", "Package", "Share of the time")
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined] # Its stub hides it.
    shares: dict[str, float] = {}
    for (path, _, name), (_, _, own, _, _) in stats.items():
        package = "talking to the database" if name in ("wait", "_exchange") else _package(path)
        shares[package] = shares.get(package, 0) + own
    total = sum(shares.values())
    for package, own in sorted(shares.items(), key=lambda share: -share[1])[:15]:
        print_row(package, f"{own / total:.0%}")


def _package(path: str) -> str:
    """Name the package a file belongs to."""
    if "site-packages/" in path:
        return path.partition("site-packages/")[2].partition("/")[0]
    return "baskets" if "/baskets/" in path or "basket_project" in path else "Python"


PARTS: dict[str, Callable[[Bench], None]] = {
    "speed": speed,
    "items": items,
    "expiry": expiry,
    "profile": profile,
    "memory": memory,
    "baskets": baskets,
}
