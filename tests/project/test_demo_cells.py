"""Two cells behind the real HAProxy: calls reach their cell, one is killed while the other sells, and everything adds up over both."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from basket_project.launcher.processes import group_members, started_at
from tests.project.demo_client import PRODUCT, Client, free_ports, users_of
from tests.project.test_demo import Demo, demo, eventually, pytestmark  # noqa: F401 (a fixture, and its condition)
from tests.project.test_haproxy import require_haproxy

CELLS = 2
SUPPLY = "SELECT sum(delta)::bigint FROM baskets_stockadjustment"
PIECES = """
SELECT (SELECT sum(available - shortfall)::bigint FROM baskets_stock)
     + (SELECT sum(pieces)::bigint FROM baskets_stockreservation WHERE status IN ('HELD', 'SOLD'))
"""
ORDERS = "SELECT count(*) FROM baskets_checkoutsession WHERE status = 'ORDERED' AND order_no = ANY(%s)"
EVENTS = """
SELECT count(*)::int FROM baskets_event e JOIN baskets_basket b ON b.id = e.basket_id
WHERE b.partner_id = (SELECT id FROM baskets_partner WHERE name = 'demo')
"""


@dataclass
class Buyers:
    """A buyer of each cell, who buys until the block ends."""

    client: Client
    orders: list[list[str]] = field(default_factory=lambda: [[] for _ in range(CELLS)])
    failures: list[int] = field(default_factory=lambda: [0] * CELLS)

    @contextlib.contextmanager
    def buying(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._buy, args=(cell, stop)) for cell in range(CELLS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _buy(self, cell: int, stop: threading.Event) -> None:
        users = users_of(cell + 1, cells=CELLS)
        while not stop.is_set():
            order_no = self.client.buy(next(users))
            if order_no:
                self.orders[cell].append(order_no)
            else:
                self.failures[cell] += 1
                time.sleep(0.2)


@dataclass
class Consumer:
    """Reads the feed of each cell with its own token, as the guide for partners says, and keeps the ids that it has seen."""

    client: Client
    tokens: list[str] = field(default_factory=lambda: [""] * CELLS)
    seen: list[str] = field(default_factory=list)

    def read(self) -> None:
        for cell in range(CELLS):
            while True:
                token = f"&nextToken={self.tokens[cell]}" if self.tokens[cell] else ""
                status, page = self.client.call("GET", f"/baskets/events?limit=200{token}", cell=cell + 1)
                if status != 200:
                    break
                self.tokens[cell] = page["nextToken"]
                self.seen += [event["id"] for event in page["data"]]
                if not page["data"]:
                    break


def sum_over_cells(databases: list[str], query: str) -> list[int]:
    """Add up the columns of a row of each database."""
    rows = []
    for url in databases:
        with psycopg.connect(url) as connection:
            rows.append(connection.execute(query).fetchone())
    return [sum(column) for column in zip(*rows, strict=True)]


def check_that_calls_reach_their_cell(client: Client) -> None:
    one, two = next(users_of(1, cells=CELLS)), next(users_of(2, cells=CELLS))
    # The key is valid in both cells.
    for cell, user in ((1, one), (2, two)):
        assert client.buy(user)
        assert client.call("GET", f"/baskets/users/{user}", port=client.port + cell)[0] == 200
        status, refused = client.call("GET", f"/baskets/users/{user}", port=client.port + 3 - cell)
        assert (status, refused["error"]["details"]["reason"]) == (421, "wrong_cell")
    # A guest's id, and the token of a transfer, lead to their cell.
    for cell in (1, 2):
        guest = client.call("POST", "/baskets/guests", port=client.port + cell)[1]["data"]["userId"]
        assert client.call("GET", f"/baskets/users/{guest}")[0] == 200
    offered = client.call("POST", f"/baskets/users/{two}/transfer", {"url": "https://shop.example/"})[1]["data"]
    assert client.call("POST", f"/baskets/guests?jayToken={offered['jayToken']}")[1]["data"]["userId"] == two
    # Lists and the feed are those of one cell; product details are of any.
    assert client.call("GET", "/baskets/events")[0] == client.call("GET", "/baskets")[0] == 421
    products = client.call("POST", "/baskets/products/details", [PRODUCT])[1]["data"]["products"]
    assert 0 < products[0]["currentStockCount"] <= 500


def kill_second_cell(data: Path, client: Client, buyers: Buyers) -> None:
    """Kill the database and the service of one cell; the other sells on, and the killed one comes back."""
    assert eventually(lambda: all(len(orders) > 1 for orders in buyers.orders))
    second = data / "cell-2"
    os.kill(int((second / "postgres/data/postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    os.killpg(int(json.loads((second / "service.json").read_text())["pid"]), signal.SIGKILL)
    sold = [len(orders) for orders in buyers.orders]
    status, refused = client.call("GET", f"/baskets/users/{next(users_of(2, cells=CELLS))}")
    assert (status in {502, 503}, refused["error"]["details"]["reason"]) == (True, "database_unavailable")
    assert eventually(lambda: len(buyers.orders[0]) > sold[0] + 2), "the other cell has stopped selling"
    assert eventually(lambda: len(buyers.orders[1]) > sold[1] + 2), "the killed cell was not brought back"


def check_sums(databases: list[str], supply: list[int], buyers: Buyers) -> None:
    """Nothing is sold twice, no acknowledged order is lost, no supply appears or vanishes."""
    assert sum_over_cells(databases, SUPPLY) == supply
    assert sum_over_cells(databases, PIECES) == supply
    acknowledged = [order_no for orders in buyers.orders for order_no in orders]
    assert len(acknowledged) == len(set(acknowledged))
    for cell, url in enumerate(databases):
        with psycopg.connect(url) as connection:
            stored = connection.execute(ORDERS, [buyers.orders[cell]]).fetchone()
        assert stored == (len(buyers.orders[cell]),)


def test_cells_sell_on_while_one_is_killed_and_add_up(demo: Demo) -> None:  # noqa: F811 (the fixture)
    require_haproxy()
    demo.options, demo.port = ("--cells", str(CELLS)), free_ports(CELLS + 1)
    process, summary = demo.start()
    databases = [cell["database_url"] for cell in summary["cells"]]
    client = Client(demo.port, summary["api_key"])
    consumer, buyers = Consumer(client), Buyers(client)
    supply = sum_over_cells(databases, SUPPLY)
    check_that_calls_reach_their_cell(client)
    with buyers.buying():
        consumer.read()
        kill_second_cell(demo.data, client, buyers)
        moved = demo.manage("move_stock", PRODUCT, "7", "--from", "1", "--to", "2", cell=1)
        assert moved[0] == 0, moved
    check_sums(databases, supply, buyers)
    # The consumer has seen every event of both cells, each once.
    consumer.read()
    assert sum_over_cells(databases, EVENTS) == [len(consumer.seen)] == [len(set(consumer.seen))]

    # The launcher is killed: nothing that serves is left, and the next demo finds everything again.
    groups = [int(json.loads(path.read_text())["pid"]) for path in (demo.data / "proxy.json", *demo.data.glob("cell-*/service.json"))]
    process.kill()
    process.wait()
    assert eventually(lambda: not any(map(group_members, groups)))
    process, again = demo.start()
    assert again == summary
    assert client.buy(next(users_of(2, cells=CELLS)))
    servers = [int(path.read_text().splitlines()[0]) for path in demo.data.glob("cell-?/postgres/data/postmaster.pid")]
    process.terminate()
    assert process.wait(60) == 0
    assert len(servers) == CELLS
    assert not any(map(started_at, servers))
