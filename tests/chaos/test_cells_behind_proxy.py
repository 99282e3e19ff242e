"""Three cells behind HAProxy under load: two are killed in turn, moves of stock are killed, and everything adds up over all cells."""

import json
import os
import signal
import sys
import time

import pytest

from basket_project.launcher.processes import group_members
from tests.conftest import LongRun
from tests.project.cells_under_load import Buyers, Consumer, background, compare, failed_connections, kill_cell, pieces, service_groups
from tests.project.demo_client import Client, free_ports, users_of
from tests.project.test_demo import Demo, demo, eventually  # noqa: F401 (a fixture)
from tests.project.test_demo import pytestmark as in_environment
from tests.project.test_haproxy import require_haproxy

pytestmark = [pytest.mark.long, in_environment]

CELLS = 3
# One of them sells out.
SUPPLY = {"shirt": 5000, "cap": 200}
COLUMNS = {"name": "", "brand": "", "variant": "", "main_product_id": "", "price": 1000, "currency": "EUR"}
SECONDS = 60


def import_supply(demo: Demo) -> None:  # noqa: F811
    file = demo.data / "catalog.jsonl"
    file.write_text(
        "".join(json.dumps(COLUMNS | {"product_id": product, "name": product, "stock": n}) + "\n" for product, n in SUPPLY.items())
    )
    imported = demo.manage("import_products", str(file), "--cells", "--equally", cell=1)
    assert imported[0] == 0, imported


class Mover:
    """Moves stock between any two cells, and kills every other move at any moment."""

    def __init__(self, demo: Demo, long_run: LongRun) -> None:  # noqa: F811
        self.demo, self.rng = demo, long_run.rng
        self.outcomes = {"moved": 0, "killed": 0, "refused": 0}

    def step(self) -> None:
        source, target = self.rng.sample(range(1, CELLS + 1), 2)
        product, number = self.rng.choice([("shirt", "50"), ("cap", "3")])
        arguments = ["move_stock", product, number, "--from", str(source), "--to", str(target)]
        process = self.demo.command("manage", "--data-dir", str(self.demo.data / "cell-1"), *arguments)
        if self.rng.random() < 0.5:
            time.sleep(self.rng.uniform(1, 5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.outcomes["moved" if process.returncode == 0 else "killed" if process.returncode < 0 else "refused"] += 1


def kill_and_wait(demo: Demo, buyers: Buyers, cell: int, *, again: int) -> None:  # noqa: F811
    """Kill a cell, and once more as often as it comes back; the others sell on, and it sells again once it is left alone.

    :param again: how often.
    """
    before = buyers.numbers()
    for _ in range(again):
        kill_cell(demo.data, cell)
        time.sleep(3)
    kill_cell(demo.data, cell)
    killed = buyers.numbers()
    others = [number for number in range(CELLS) if number != cell - 1]
    assert eventually(lambda: all(buyers.numbers()[other] > before[other] + 3 for other in others)), "another cell has stopped selling"
    assert eventually(lambda: buyers.numbers()[cell - 1] > killed[cell - 1] + 3), "the killed cell was not brought back"


def test_cells_under_load_lose_nothing_and_sell_nothing_twice(demo: Demo, long_run: LongRun) -> None:  # noqa: F811
    require_haproxy()
    demo.options, demo.port = ("--cells", str(CELLS)), free_ports(CELLS + 1)
    process, summary = demo.start()
    databases = [cell["database_url"] for cell in summary["cells"]]
    client = Client(demo.port, summary["api_key"])
    import_supply(demo)
    before = {product: (supplied, 0, 0, 0) for product, supplied in SUPPLY.items()}
    assert pieces(databases, list(SUPPLY)) == before
    consumer, buyers, mover = Consumer(client, CELLS), Buyers(client, CELLS, list(SUPPLY), most=3, pause=0.05), Mover(demo, long_run)
    end = time.monotonic() + SECONDS
    with consumer.following(), buyers.buying(), background(mover.step):
        assert eventually(lambda: min(buyers.numbers()) > 3)
        kill_and_wait(demo, buyers, 2, again=2)
        rebalanced = demo.manage("rebalance_stock", cell=1)
        assert rebalanced[0] == 0, rebalanced
        kill_and_wait(demo, buyers, 1, again=0)  # The publisher of what all cells share.
        time.sleep(max(0.0, end - time.monotonic()))
    resumed = demo.manage("move_stock", "--resume", cell=1)
    assert resumed[0] == 0, resumed
    compare(databases, before, buyers, consumer)
    assert failed_connections(demo.data) == []
    checked = demo.manage("check_baskets", "--cells", cell=1)
    assert checked[0] == 0, checked

    # The launcher is killed: nothing that serves is left, and the next demo finds everything again.
    groups = service_groups(demo.data)
    process.kill()
    process.wait()
    assert eventually(lambda: not any(map(group_members, groups)))
    _, again = demo.start()
    assert again == summary
    assert client.buy(next(users_of(2, cells=CELLS, name="late")))

    known = [checkout for cell in buyers.checkouts for checkout in cell]
    figures = {
        "checkouts": len(known),
        "orders": sum(checkout.status == "ORDERED" for checkout in known),
        "starts_sold_out": buyers.sold_out.total(),
        "calls_repeated": buyers.repeated.total(),
        "events": len(consumer.events),
        **{f"moves_{outcome}": number for outcome, number in mover.outcomes.items()},
    }
    long_run.record(**figures)
    sys.stdout.write(f"{figures} {buyers.numbers()} {pieces(databases, list(SUPPLY))}\n{resumed[1]}{checked[1]}")
