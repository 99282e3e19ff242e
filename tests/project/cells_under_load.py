"""Buyers and a consumer before a demo with cells. Their answers are compared with the rows of all cells, by SQL of the tests alone."""

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.project.demo_client import Client, users_of
from tests.threads import beside

BUYERS_PER_CELL = 2
# Answers of a proxy or a service whose cell is away: the call is repeated with its Idempotency-Key.
AWAY = {502, 503, 504}
PATIENCE_SECONDS = 200.0
# Of each product: pieces for sale, held, sold, and short.
PIECES = """
SELECT s.product_id, s.available, coalesce(sum(r.pieces) FILTER (WHERE r.status = 'HELD'), 0)::bigint,
       coalesce(sum(r.pieces) FILTER (WHERE r.status = 'SOLD'), 0)::bigint, s.shortfall
FROM baskets_stock s LEFT JOIN baskets_stockreservation r USING (product_id) WHERE s.product_id = ANY(%s) GROUP BY s.product_id
"""
CHECKOUTS = """
SELECT b.user_id, s.order_no, s.status, i.product_id, i.count::int
FROM baskets_checkoutsession s JOIN baskets_basket b ON b.id = s.basket_id JOIN baskets_checkoutitem i ON i.session_id = s.id
WHERE starts_with(b.user_id, 'buyer-')
"""
EVENTS = """
SELECT count(*) FROM baskets_event e JOIN baskets_basket b ON b.id = e.basket_id JOIN baskets_partner p ON p.id = b.partner_id
WHERE p.name = 'demo'
"""


class Checkout(NamedTuple):
    """A checkout as a buyer knows it: it ended with this status."""

    user: str
    order_no: str
    status: str
    product: str
    pieces: int


@dataclass
class Buyers:
    """Buyers of each cell. They repeat an unanswered call until it has an answer, so that they know the end of each checkout.

    :param most: pieces of one checkout.
    :param pause: seconds after each checkout.
    :ivar checkouts: by cell.
    :ivar sold_out: starts that found too little, by product.
    :ivar repeated: calls that had no answer, by cell.
    :ivar surprises: answers that no buyer should get.
    """

    client: Client
    cells: int
    products: Sequence[str]
    most: int = 1
    pause: float = 0.0
    checkouts: list[list[Checkout]] = field(init=False)
    sold_out: Counter[str] = field(default_factory=Counter)
    repeated: Counter[int] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checkouts = [[] for _ in range(self.cells)]

    @contextlib.contextmanager
    def buying(self) -> Iterator[None]:
        """Buy in every cell until the block ends, then end the checkouts that have begun."""
        with background(*(self._buyer(cell, number) for cell in range(self.cells) for number in range(BUYERS_PER_CELL))):
            yield

    def _buyer(self, cell: int, number: int) -> Callable[[], None]:
        users = islice(users_of(cell + 1, cells=self.cells), number, None, BUYERS_PER_CELL)
        rng = random.Random(f"{cell} {number}")

        def step() -> None:
            self._buy(cell, next(users), rng)
            time.sleep(self.pause)

        return step

    def _buy(self, cell: int, user: str, rng: random.Random) -> None:
        product, pieces, basket = rng.choice(self.products), rng.randint(1, self.most), f"/baskets/users/{user}"
        if self._call(cell, f"{basket}/products/{product}", {"count": pieces})[0] != 200:
            return
        status, started = self._call(cell, f"{basket}/checkout/sessions", None, sold_out=product)
        if status == 200:
            body = {"ordered": rng.random() < 0.9, "orderNo": started["data"]["orderNo"]}
            if self._call(cell, f"{basket}/checkout/sessions/finish-active", body)[0] == 200:
                ended = "ORDERED" if body["ordered"] else "ABORTED"
                self.checkouts[cell].append(Checkout(user, body["orderNo"], ended, product, pieces))

    def _call(self, cell: int, path: str, body: Any, *, sold_out: str = "") -> tuple[int, Any]:
        """Call until there is an answer, with one Idempotency-Key.

        :param sold_out: the product that may be sold out.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                status, answer = self.client.call("POST", path, body, headers={"Idempotency-Key": path})
                if status == 422 and sold_out and answer["error"]["details"]["reason"] == "out_of_stock":
                    self.sold_out[sold_out] += 1
                    return status, answer
                if status not in AWAY:
                    if status != 200:
                        self.surprises.append(f"{path}: {status} {answer}")
                    return status, answer
            self.repeated[cell] += 1
            time.sleep(0.2)
        self.surprises.append(f"{path}: no answer in {PATIENCE_SECONDS} s")
        return 0, None

    def numbers(self) -> list[int]:
        """Return how many checkouts each cell has ended."""
        return [len(ended) for ended in self.checkouts]


@dataclass
class Consumer:
    """Reads the feed of each cell with its own token, as the guide for partners says."""

    client: Client
    cells: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _tokens: dict[int, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Read until the block ends, then once more until nothing is left."""

        def read() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self.read()
            time.sleep(0.2)

        with background(read):
            yield
        self.read()

    def read(self) -> None:
        """Read what is new in each cell; what a cell that is away has comes later."""
        for cell in range(1, self.cells + 1):
            while True:
                token = f"&nextToken={self._tokens[cell]}" if cell in self._tokens else ""
                status, page = self.client.call("GET", f"/baskets/events?limit=200{token}", cell=cell)
                if status != 200:
                    break
                self._tokens[cell] = page["nextToken"]
                self.events += page["data"]
                if not page["data"]:
                    break


@contextlib.contextmanager
def background(*steps: Callable[[], None]) -> Iterator[None]:
    """Repeat each step in a thread until the block ends."""
    stop = threading.Event()

    def repeat(step: Callable[[], None]) -> None:
        while not stop.is_set():
            step()

    with beside(*(partial(repeat, step) for step in steps), stop=stop.set):
        yield


def kill_cell(data: Path, cell: int) -> None:
    """Kill the database server and the service of a cell, whichever runs."""
    folder = data / f"cell-{cell}"
    with contextlib.suppress(OSError, ValueError, IndexError):
        os.kill(int((folder / "postgres/data/postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    with contextlib.suppress(OSError, ValueError):
        os.killpg(int(json.loads((folder / "service.json").read_text())["pid"]), signal.SIGKILL)


def read_rows(url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as client:
        return client.execute(query, parameters or None).fetchall()


def pieces(databases: Sequence[str], products: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Add up the pieces of all cells that are for sale, held, sold and short."""
    found: dict[str, tuple[int, ...]] = {}
    for url in databases:
        for product, *numbers in read_rows(url, PIECES, list(products)):
            assert min(numbers) >= 0
            found[product] = tuple(map(sum, zip(numbers, found.get(product, (0,) * 4), strict=True)))
    return found


def service_groups(data: Path) -> list[int]:
    """Return the process groups of the proxy and the services."""
    return [int(json.loads(path.read_text())["pid"]) for path in (data / "proxy.json", *data.glob("cell-*/service.json"))]


def database_servers(data: Path) -> list[int]:
    return [int(path.read_text().splitlines()[0]) for path in data.glob("cell-?/postgres/data/postmaster.pid")]


def failed_connections(data: Path) -> list[str]:
    """Return the lines of the services' logs about connections that failed by a defect of the server."""
    return [line for log in data.glob("cell-*/service.log") for line in log.read_text().splitlines() if '"connection_failed"' in line]


def compare(databases: Sequence[str], before: dict[str, tuple[int, ...]], buyers: Buyers, consumer: Consumer) -> None:
    """Compare the rows of all cells, and the events that the consumer has seen, with what the buyers know.

    :param before: the pieces before the buyers came.
    """
    assert buyers.surprises == []
    known = [checkout for cell in buyers.checkouts for checkout in cell]
    ordered = Counter[str]()
    for checkout in known:
        ordered[checkout.product] += checkout.pieces if checkout.status == "ORDERED" else 0
    expected = {product: (free - ordered[product], held, sold + ordered[product], 0) for product, (free, held, sold, _) in before.items()}
    assert pieces(databases, buyers.products) == expected
    for url, of_cell in zip(databases, buyers.checkouts, strict=True):
        assert Counter(read_rows(url, CHECKOUTS)) == Counter(of_cell)
    ids = [event["id"] for event in consumer.events]
    assert len(ids) == len(set(ids)) == sum(read_rows(url, EVENTS)[0][0] for url in databases)
    timelines: dict[str, list[tuple[int, str, str | None]]] = {}
    for event in consumer.events:
        timelines.setdefault(event["userId"], []).append((event["number"], event["kind"], event["orderNo"]))
    for checkout in known:
        kinds = [("item_placed", None), ("checkout_started", checkout.order_no), (f"checkout_{checkout.status.lower()}", checkout.order_no)]
        assert timelines[checkout.user] == [(number, *kind) for number, kind in zip(count(1), kinds, strict=False)]
