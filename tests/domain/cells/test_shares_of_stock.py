"""One report and one stock for three cells: divided, rebalanced, killed at each step, beside buyers, and with a cell that is down."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connections
from django.db.utils import OperationalError
from pytest_django import Settings

from baskets.domain.cells import divided_report, rebalancing, stock_moves, supply_check
from baskets.models import Partner
from baskets.models.basket_snapshot import Owner
from tests.cells import close, copies, end_replication, running
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User
from tests.factories import TESTER, ProductFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("replication")]

DAY = timedelta(days=1)
# Independent of the code under test: everything that was ever supplied is free, held or sold somewhere.
ACCOUNT = """
SELECT available - shortfall, (SELECT coalesce(sum(pieces), 0)::int FROM baskets_stockreservation r
                               WHERE r.product_id = s.product_id AND status IN ('HELD', 'SOLD'))
FROM baskets_stock s WHERE product_id = %s
"""
SELL = """
INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at)
VALUES (gen_random_uuid(), 1, %(product)s, 'SOLD', %(pieces)s, now(), now(), now());
UPDATE baskets_stock SET available = available - %(pieces)s WHERE product_id = %(product)s
"""


@pytest.fixture(scope="module")
def other_databases(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[str]]:
    with copies(3, django_db_blocker) as names:
        yield names


@pytest.fixture
def shopper(partner: Partner) -> User:
    """A user; 10 shirts and 10 caps are there."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="cap", unsold=10)
    return User(Owner(partner_id=partner.pk, user_id="anna"))


@pytest.fixture
def cells(shopper: User, settings: Settings, other_databases: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Three cells with 10 shirts and 10 caps each; the first is the database of the test, and sells."""
    with running(other_databases, settings, monkeypatch) as urls:
        for address in urls[1:]:
            with psycopg.connect(address) as client:
                client.execute("DELETE FROM baskets_stockreservation")
        yield urls


def sell(address: str, pieces: int, product_id: str = "shirt") -> None:
    """Sell pieces in a cell, by rows alone."""
    with psycopg.connect(address, cursor_factory=psycopg.ClientCursor) as client:
        client.execute("SET session_replication_role = replica")
        client.execute(SELL, {"product": product_id, "pieces": pieces})


def account(cells: list[str], product_id: str = "shirt") -> list[tuple[int, int]]:
    """Read the free pieces, and those held or sold, of each cell."""
    found = []
    for address in cells:
        with psycopg.connect(address) as client:
            found += client.execute(ACCOUNT, [product_id]).fetchall()
    return found


def supply(cells: list[str], product_id: str = "shirt") -> int:
    return sum(map(sum, account(cells, product_id)))


def free(cells: list[str], product_id: str = "shirt") -> list[int]:
    return [pieces for pieces, _ in account(cells, product_id)]


def report(unsold: int | None, as_of: datetime, *, product_id: str = "shirt", equally: bool = True, **options: Any) -> Any:
    try:
        return divided_report.report_to_all_cells(
            reports={product_id: unsold}, as_of=as_of, equally=equally, within=DAY, reason="counted", actor=TESTER, **options
        )
    finally:
        close()


def rebalance(**options: Any) -> rebalancing.Rebalanced:
    try:
        return rebalancing.rebalance(**{"within": DAY, "max_moves": 100, "reason": "a test", "actor": TESTER} | options)
    finally:
        close()


def findings() -> dict[str, int]:
    try:
        return {finding.invariant.slug: finding.total for finding in supply_check.check().findings}
    finally:
        close()


@contextlib.contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, call: int) -> Iterator[None]:
    """Let the n-th call of a function end the block."""
    real, calls = getattr(owner, name), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise ZeroDivisionError
        return real(*arguments, **options)

    with monkeypatch.context() as patch, contextlib.suppress(ZeroDivisionError):
        patch.setattr(owner, name, counted)
        yield


def test_pieces_go_where_they_are_sold_and_each_line_says_why(cells: list[str], run: Run) -> None:  # noqa: F811
    sell(cells[0], 9)
    sell(cells[1], 1)
    plan = run("rebalance_stock", "--dry-run")
    assert plan.out.splitlines() == [
        "Would have moved 16 pieces in 2 moves between cells 1, 2, 3; sales of 24 h count.",
        "shirt: 9 from cell 3 (10 available, 0 sold) to cell 1 (1 available, 9 sold)",
        "shirt: 7 from cell 2 (9 available, 1 sold) to cell 1 (1 available, 9 sold)",
    ]
    assert free(cells) == [1, 9, 10]
    moved = run("rebalance_stock", "shirt", "--max-moves", "1", "--json").data
    assert (moved["moved"], moved["left"]) == ([{"product": "shirt", "pieces": 9, "from": 3, "to": 1}], 1)
    assert free(cells) == [10, 9, 1]
    assert run("rebalance_stock", "--json").code == 0
    assert run("rebalance_stock", "--json").data["moved"] == []
    assert supply(cells) == supply(cells, "cap") == 30
    with psycopg.connect(cells[0]) as client:
        elsewhere = dict(client.execute("SELECT product_id, available FROM baskets_stockelsewhere").fetchall())
    assert elsewhere == {"cap": 20, "shirt": sum(free(cells)[1:])}


def test_a_rebalance_killed_at_each_step_is_completed_by_the_next(cells: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sell(cells[0], 9)
    sell(cells[1], 9)
    for name in ("_take_out", "_complete", "_take_out", "_complete"):
        with killed_at(monkeypatch, stock_moves, name, call=1):
            rebalance(product_ids=["shirt"])
        close()
        assert supply(cells) <= 30
    assert rebalance(product_ids=["shirt"]).refused == []
    assert supply(cells) == 30
    assert min(free(cells)) > 0
    assert findings() == {}


def test_a_cell_that_is_down_keeps_its_pieces_and_stops_no_other(cells: list[str], settings: Settings) -> None:
    sell(cells[0], 10)
    working = connections.settings["cell_3"]
    connections["cell_3"].close()
    del connections["cell_3"]
    connections.settings["cell_3"] = working | {"PORT": "1"}
    try:
        done = rebalance()
        with pytest.raises(OperationalError):
            report(30, datetime.now(UTC))
    finally:
        del connections["cell_3"]
        connections.settings["cell_3"] = working
    assert (list(done.cells), [move.pieces for move in done.moved if move.product_id == "shirt"]) == ([1, 2], [9])
    assert free(cells) == [9, 1, 10]
    assert supply(cells) == 30


def test_a_report_is_divided_by_sales_or_equally(cells: list[str]) -> None:
    sell(cells[0], 3)
    divided = report(60, datetime.now(UTC), equally=False)
    assert sum(divided.shares["shirt"].values()) == 60
    assert free(cells) == [52, 4, 4]
    report(60, datetime.now(UTC))
    assert free(cells) == [20, 20, 20]
    report(None, datetime.now(UTC), product_id="cap")
    for address in cells:
        with psycopg.connect(address) as client:
            assert client.execute("SELECT limited FROM baskets_stock WHERE product_id = 'cap'").fetchone() == (False,)
    assert findings() == {}


def test_what_is_sold_and_moved_since_the_moment_counts(cells: list[str]) -> None:
    """A report of before: each cell keeps what it needs, wherever moves have brought pieces since."""
    as_of = datetime.now(UTC)
    sell(cells[0], 8)
    stock_moves.move_stock(move_id=uuid4(), product_id="shirt", pieces=9, source=2, target=3, reason="a test", actor=TESTER)
    close()
    for unsold in (30, 20, 9, 30):
        report(unsold, as_of)
        assert sum(free(cells)) == unsold - 8
        assert min(free(cells)) >= 0 or max(free(cells)) <= 0
    older = report(50, as_of - timedelta(seconds=1))
    assert older.older == ["shirt"]
    assert sum(free(cells)) == 22
    assert findings() == {}


@pytest.mark.parametrize("call", range(1, 8))
@pytest.mark.parametrize("unsold", [12, 60])
def test_a_report_killed_at_each_step_sells_nothing_twice_and_is_repeated(
    cells: list[str], monkeypatch: pytest.MonkeyPatch, call: int, unsold: int
) -> None:
    """In between no more is for sale than before, or by the report; afterwards exactly what was reported."""
    sell(cells[0], 5)
    as_of = datetime.now(UTC)
    with killed_at(monkeypatch, divided_report.supply, "set_unsold", call=call):
        report(unsold, as_of)
    close()
    assert sum(free(cells)) <= max(25, unsold)
    report(unsold, as_of)
    assert sum(free(cells)) == unsold
    assert findings() == {}


def test_buyers_beside_a_report_and_a_rebalance_get_every_piece_once(cells: list[str], shopper: User) -> None:
    buyers = [shopper.beside(f"buyer-{number}") for number in range(14)]
    for buyer in buyers:
        buyer.place("shirt", 1)
    as_of = datetime.now(UTC)
    calls: list[Callable[[], object]] = [buyer.start for buyer in buyers]
    outcomes = run_concurrently([*calls[:7], lambda: report(18, as_of), *calls[7:], rebalance])
    held = sum(1 for outcome in outcomes if type(outcome).__name__ == "StartedSession")
    assert {type(outcome).__name__ for outcome in outcomes} <= {"StartedSession", "OutOfStock", "DividedReport", "Rebalanced"}
    rebalance()
    assert supply(cells) == 18
    assert account(cells)[0][1] == held
    assert min(free(cells)) >= 0
    assert findings() == {}


def test_one_import_reaches_all_cells(cells: list[str], run: Run, tmp_path: Path, partner: Partner) -> None:  # noqa: F811
    file = tmp_path / "catalog.jsonl"
    rows = [
        {"product_id": "shirt", "name": "Shirt", "stock": 31},
        {"product_id": "poster", "name": "Poster", "stock": 7},
        {"product_id": "stream", "name": "Stream", "stock": None},
    ]
    empty = {"brand": "", "variant": "", "main_product_id": "", "price": None, "currency": ""}
    file.write_text("".join(json.dumps(empty | row) + "\n" for row in rows))
    try:
        assert run("replicate_catalog").code == 0
        assert run("import_products", str(file), "--equally").code == 2
        planned = run("import_products", str(file), "--cells", "--equally", "--dry-run", "--json").data
        assert planned["shares"] == {"shirt": {"1": 11, "2": 10, "3": 10}}  # The others exist in no cell yet.
        assert free(cells) == [10, 10, 10]
        ended = run("import_products", str(file), "--cells", "--equally", "--json")
        assert (ended.code, ended.data["created"], ended.data["unlimited"]) == (0, 2, ["stream"])
        assert free(cells) == [11, 10, 10]
        assert free(cells, "poster") == [3, 2, 2]
        again = run("import_products", str(file), "--cells", "--equally", "--as-of", ended.data["as_of"], "--json")
        assert again.data["shares"] == ended.data["shares"]
        assert run("check_baskets", "--cells", "--json").data["findings"] == []
    finally:
        close()
        end_replication(cells)
