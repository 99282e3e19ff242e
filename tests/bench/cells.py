"""Orders a second of one, two and three cells behind HAProxy, each cell with the same share of a processor, by a cgroup. Linux, as root."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from basket_project.launcher.environment import PROJECT
from basket_project.launcher.processes import group_members
from baskets.domain.maintenance.demo_data import PRODUCTS
from tests.bench.parts import Bench
from tests.bench.servers import processor_seconds, workers_of
from tests.project.demo_client import PRODUCT, Client, free_ports, users_of

CELLS = 3
CALLERS = 4
WARM_UP_SECONDS, SECONDS = 1.0, 8.0
# So small a share leaves room for the callers and HAProxy on a machine of two cores.
PROCESSORS_PER_CELL = 0.15
PERIOD_MICROSECONDS = 50_000
LEAST = 0.9
LAUNCHER = (sys.executable, "-m", "basket_project")
CGROUPS = Path("/sys/fs/cgroup")


def cells(_: Bench) -> None:
    """Measure how the orders a second grow with the number of cells."""
    with tempfile.TemporaryDirectory(prefix="baskets-bench-") as folder:
        data = Path(folder)
        data.chmod(0o755)
        with _demo(data) as client:
            _supply(data)
            with contextlib.ExitStack() as caps:
                for cell in range(1, CELLS + 1):
                    caps.enter_context(_capped(cell, _processes_of(data / f"cell-{cell}")))
                proxy = group_members(int(json.loads((data / "proxy.json").read_text())["pid"]))
                used, begun = processor_seconds(proxy), client.calls
                _measure(client, range(1, CELLS + 1))  # What is run first is slower.
                rates = [sum(_measure(client, [cell]) for cell in range(1, CELLS + 1)) / CELLS]
                rates += [_measure(client, range(1, number + 1)) for number in range(2, CELLS + 1)]
                cost_of_call = 1e6 * (processor_seconds(proxy) - used) / (client.calls - begun)
    shares = f"each cell with {PROCESSORS_PER_CELL:.0%} of a core by a cgroup, and {CALLERS} callers"
    sys.stdout.write(f"\nCells: orders a second, {shares}; the proxy takes {cost_of_call:.0f} us of a call\n")
    for number, rate in enumerate(rates, 1):
        sys.stdout.write(f"  {number} cell(s): {rate:6.1f}, {rate / rates[0]:.2f} times one\n")
    if too_slow := [number for number, rate in enumerate(rates, 1) if rate < LEAST * number * rates[0]]:
        sys.exit(f"{too_slow[0]} cells carry less than {LEAST} times as many times the orders of one.")


@contextlib.contextmanager
def _demo(data: Path) -> Iterator[Client]:
    """Run the demo with cells; yield a back end of its partner."""
    port = free_ports(CELLS + 1)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DJANGO_"))}
    command = [
        sys.executable,
        "-m",
        "basket_project",
        "demo",
        "--json",
        "--cells",
        str(CELLS),
        "--port",
        str(port),
        "--data-dir",
        str(data),
    ]
    with subprocess.Popen(command, cwd=PROJECT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            summary = json.loads(process.stdout.readline() or "{}")
            if not summary.get("proxy"):
                sys.exit("The demo with cells does not run, or HAProxy is not installed.")
            yield Client(port, summary["api_key"], keep_alive=True)
        finally:
            process.terminate()
            process.wait(60)


def _supply(data: Path) -> None:
    """Give each cell more pieces than it can sell in the time."""
    product = next(row for row in PRODUCTS if row.product_id == PRODUCT)
    file = data / "supply.csv"
    with file.open("w", newline="") as rows:
        writer = csv.writer(rows)
        writer.writerow(["product_id", "name", "brand", "variant", "main_product_id", "price", "currency", "stock"])
        writer.writerow([product.product_id, product.name, product.brand, "", "", product.price, product.currency, 100_000])
    for cell in range(1, CELLS + 1):
        command = [*LAUNCHER, "manage", "--data-dir", str(data / f"cell-{cell}"), "import_products", str(file)]
        subprocess.run(command, cwd=PROJECT, env=_variables(), check=True, capture_output=True)


def _variables() -> dict[str, str]:
    """Return the environment without what the benchmark's database needs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DJANGO_"))}


def _processes_of(folder: Path) -> list[int]:
    """Return the processes of the service and the database of a cell."""
    service = int(json.loads((folder / "service.json").read_text())["pid"])
    home = json.loads((folder / "database.json").read_text())["home"] if (folder / "database.json").exists() else folder / "postgres"
    postmaster = int((Path(home) / "data/postmaster.pid").read_text().splitlines()[0])
    return [*group_members(service), postmaster, *workers_of(postmaster)]


@contextlib.contextmanager
def _capped(cell: int, pids: Iterable[int]) -> Iterator[None]:
    """Limit processes and their later children to a share of a processor."""
    second_version = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if second_version else CGROUPS / "cpu") / f"baskets-bench-{os.getpid()}-{cell}"
    quota = int(PERIOD_MICROSECONDS * PROCESSORS_PER_CELL)
    try:
        group.mkdir()
        if second_version:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        sys.exit(f"The cgroup {group} cannot be used: {error.strerror}.")
    try:
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def _measure(client: Client, chosen: Sequence[int]) -> float:
    """Let callers buy in some of the cells.

    :returns: acknowledged orders a second.
    """
    begin = time.monotonic() + WARM_UP_SECONDS
    orders: list[int] = []

    def buy(cell: int, caller: int) -> None:
        users = (name for number, name in enumerate(users_of(cell, cells=CELLS)) if number % CALLERS == caller)
        while (now := time.monotonic()) < begin + SECONDS:
            if client.buy(next(users)) and now >= begin and time.monotonic() < begin + SECONDS:
                orders.append(cell)

    threads = [threading.Thread(target=buy, args=(cell, caller)) for cell in chosen for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(orders) / SECONDS
