"""The import of products: all or nothing, set by set, and stock only through adjustments that say something new."""

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from baskets.domain.errors import OutOfStock
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import catalog
from baskets.domain.stock.catalog import UNSPECIFIED, DuplicateProduct, ImportResult, ProductRow
from baskets.domain.stock.supply import FutureMoment, ReportsApplied
from baskets.models import DeskEntry, Product, Stock, StockAdjustment, StockReservation
from baskets.models.basket_snapshot import Owner
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User, available
from tests.factories import TESTER, PartnerFactory, ProductFactory

pytestmark = pytest.mark.django_db(transaction=True)


def take_over(*rows: ProductRow, as_of: datetime | None = None, dry_run: bool = False) -> ImportResult:
    return catalog.import_products(rows=rows, as_of=as_of, reason="test import", actor=TESTER, dry_run=dry_run)


def applied(changed: int, **named: list[str]) -> ReportsApplied:
    return ReportsApplied(**{"changed": changed, "became_unlimited": [], "older": [], **named})


def adjustments() -> list[tuple[Any, ...]]:
    return list(StockAdjustment.objects.order_by("pk").values_list("product_id", "kind", "delta", "reported", "reason", "actor"))


def row(product_id: str, **values: Any) -> ProductRow:
    return ProductRow(**{"product_id": product_id, "name": f"Name of {product_id}", **values})


@pytest.fixture
def shopper() -> User:
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


def test_new_products_are_stored_with_their_stock_and_one_adjustment_each() -> None:
    shirt = row("shirt", brand="B", variant="M", main_product_id="shirts", price=1999, currency="EUR", stock=5)
    assert take_over(shirt, row("song", stock=None), row("cap")) == ImportResult(created=3, changed=0, unchanged=0, stock=applied(1))
    stored = Product.objects.get(pk="shirt")
    assert (stored.name, stored.brand, stored.variant, stored.main_product_id, stored.price, stored.currency, stored.listed) == (
        "Name of shirt",
        "B",
        "M",
        "shirts",
        1999,
        "EUR",
        True,
    )
    assert adjustments() == [("shirt", "unsold", 5, 5, "test import", "tests")]
    assert sorted(Stock.objects.values_list("pk", "limited", "available", "shortfall")) == [("shirt", True, 5, 0), ("song", False, 0, 0)]
    assert invariant_checker.check() == []


def test_the_same_again_changes_nothing_but_the_moment_of_the_reports(stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    rows = [row("shirt", stock=5), row("song", stock=None), row("none", stock=0)]
    take_over(*rows)
    before, reported = stored_rows(), dict(Stock.objects.values_list("pk", "reported_as_of"))
    assert take_over(*rows) == ImportResult(created=0, changed=0, unchanged=3, stock=applied(0))
    DeskEntry.objects.latest("pk").delete()  # The audit log has an entry for each import.
    for stored in Stock.objects.all():
        assert stored.reported_as_of > reported[stored.pk]
        Stock.objects.filter(pk=stored.pk).update(reported_as_of=reported[stored.pk])
    assert stored_rows() == before


def test_only_what_differs_is_written_and_products_not_named_are_left_alone() -> None:
    take_over(row("a", stock=1), row("b", stock=2), row("c", stock=3))
    before = dict(Product.objects.values_list("pk", "updated_at"))
    assert take_over(row("a", stock=9), row("b", name="B", stock=2)) == ImportResult(created=0, changed=1, unchanged=1, stock=applied(1))
    after = dict(Product.objects.values_list("pk", "updated_at"))
    assert [pk for pk in after if after[pk] != before[pk]] == ["b"]
    assert adjustments()[3:] == [("a", "unsold", 8, 9, "test import", "tests")]
    assert available("c") == (3, 0)


def test_a_row_may_leave_stock_and_listing_alone() -> None:
    take_over(row("a", stock=1, listed=False))
    take_over(row("a", name="other", stock=UNSPECIFIED, listed=None))
    stored = Product.objects.get(pk="a")
    assert (stored.name, stored.listed, available("a")) == ("other", False, (1, 0))
    take_over(row("a", listed=True))
    assert Product.objects.get(pk="a").listed is True


def test_limited_becomes_unlimited_and_back() -> None:
    take_over(row("a", stock=4))
    assert take_over(row("a", stock=None)).stock == applied(0, became_unlimited=["a"])
    assert Stock.objects.get(pk="a").limited is False
    assert take_over(row("a", stock=4)).stock.changed == 1
    assert [line[1:4] for line in adjustments()] == [("unsold", 4, 4), ("unlimited", 0, None), ("unsold", 0, 4)]
    assert invariant_checker.check() == []


def test_what_is_held_stays_held_and_a_lower_report_becomes_shortfall(shopper: User) -> None:
    take_over(row("shirt", stock=5))
    shopper.place("shirt", 4)
    shopper.start()
    take_over(row("shirt", stock=5))
    assert (available("shirt"), len(adjustments())) == ((1, 0), 1)
    take_over(row("shirt", stock=3))
    assert available("shirt") == (0, 1)
    shopper.finish(ordered=False)
    assert available("shirt") == (3, 0)
    assert invariant_checker.check() == []


def test_pieces_sold_after_the_moment_of_the_report_are_subtracted(shopper: User) -> None:
    take_over(row("shirt", stock=10))
    shopper.place("shirt", 4)
    shopper.start()
    shopper.finish(ordered=True)
    sold_at = StockReservation.objects.get().ended_at
    assert sold_at is not None
    take_over(row("shirt", stock=10), as_of=sold_at - timedelta(microseconds=1))
    assert available("shirt") == (6, 0)
    take_over(row("shirt", stock=10), as_of=sold_at)
    assert available("shirt") == (10, 0)
    assert StockAdjustment.objects.order_by("-pk")[0].as_of == sold_at


def test_a_moment_to_come_is_refused(stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    before = stored_rows()
    with pytest.raises(FutureMoment):
        take_over(row("a", stock=1), as_of=datetime(2999, 1, 1, tzinfo=UTC))
    assert stored_rows() == before


def test_a_product_that_comes_twice_is_refused(stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    before = stored_rows()
    with pytest.raises(DuplicateProduct):
        take_over(row("a", stock=1), row("a", stock=2))
    assert stored_rows() == before


def test_a_rehearsal_tells_what_would_change_and_changes_nothing(
    stored_rows: Callable[[], dict[str, list[Any]]],
) -> None:
    take_over(row("a", stock=1))
    before = stored_rows()
    result = take_over(row("a", name="A", stock=2), row("b", stock=1), dry_run=True)
    assert result == ImportResult(created=1, changed=1, unchanged=0, stock=applied(2))
    assert stored_rows() == before


def test_all_or_nothing(monkeypatch: pytest.MonkeyPatch, stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    before = stored_rows()

    def fail(**_: Any) -> int:
        raise DatabaseError

    monkeypatch.setattr(catalog.supply, "set_unsold", fail)
    with pytest.raises(DatabaseError):
        take_over(row("a", stock=1))
    assert stored_rows() == before


def test_stock_is_locked_in_order_after_everything_else_and_statements_do_not_grow_with_the_rows() -> None:
    def statements(count: int) -> list[str]:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            take_over(*(row(f"p{n}", stock=n) for n in range(count)))
        return [query["sql"].strip() for query in captured.captured_queries]

    few, many = statements(2), statements(300)
    assert len(few) == len(many)
    locks = [number for number, sql in enumerate(many) if "FOR NO KEY UPDATE" in sql]
    products = [number for number, sql in enumerate(many) if "baskets_product " in sql and sql.startswith(("INSERT", "UPDATE"))]
    # Once for what changes no number, once for the rest.
    assert len(locks) == 2
    assert locks[0] < min(products) <= max(products) < locks[1]
    assert all("ORDER BY product_id" in many[lock] for lock in locks)


def test_reports_that_change_no_number_are_remembered_before_and_beside_no_other_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CONFIRM_BATCH", 2)
    take_over(*(row(f"p{n}", stock=n) for n in range(5)), row("song", stock=None))
    moment = Stock.objects.order_by("-reported_as_of")[0].reported_as_of + timedelta(microseconds=1)
    with CaptureQueriesContext(connection) as captured:
        done = take_over(*(row(f"p{n}", stock=max(n, 1)) for n in range(5)), row("song", stock=None), row("new", stock=3), as_of=moment)
    assert done == ImportResult(created=1, changed=0, unchanged=6, stock=applied(2))
    locked = [query["sql"] for query in captured.captured_queries if "FOR NO KEY UPDATE" in query["sql"]]
    assert [sorted(re.findall(r"[^,{}]+", sql.split("'")[1])) for sql in locked] == [
        *[["new", "p0"], ["p1", "p2"], ["p3", "p4"], ["song"]],
        ["new", "p0"],
    ]
    assert set(Stock.objects.values_list("reported_as_of", flat=True)) == {moment}
    assert invariant_checker.check() == []


def test_two_imports_in_opposite_order_take_turns() -> None:
    rows = [row(f"p{n}", stock=n) for n in range(500)]
    calls = [partial(catalog.import_products, rows=mine, as_of=None, reason="race", actor=TESTER) for mine in (rows, rows[::-1])]
    ended = run_concurrently(calls)
    assert sorted(done.created for done in ended) == [0, 500]
    assert sorted(done.stock.changed for done in ended) == [0, 500]
    assert invariant_checker.check() == []


def test_a_product_that_was_made_otherwise_is_changed_like_any_other() -> None:
    ProductFactory(product_id="a", unsold=2)
    assert take_over(row("a", price=5, currency="USD", stock=3)) == ImportResult(created=0, changed=1, unchanged=0, stock=applied(1))


def test_reports_about_held_and_free_products_in_one_file(shopper: User) -> None:
    take_over(row("cap", stock=5), row("shirt", stock=5))
    shopper.place("shirt", 4)
    shopper.start()
    assert take_over(row("cap", stock=6), row("shirt", stock=7)).stock.changed == 2
    assert (available("cap"), available("shirt")) == ((6, 0), (3, 0))
    assert invariant_checker.check() == []


def buy(user: User, turn: int) -> None:
    for n in range(5):
        user.place(f"p{n}", 1 + n)
    with contextlib.suppress(OutOfStock):
        user.start()
        user.finish(ordered=turn % 2 == 0)


def report(turn: int) -> None:
    numbers = [None, 0, 3, 40, 7, 100, 2, 30]
    take_over(*(row(f"p{n}", stock=numbers[(turn + n) % 8]) for n in reversed(range(5))))


def test_imports_beside_buyers_keep_every_rule() -> None:
    partner = PartnerFactory()
    report(turn=3)
    users = [User(Owner(partner_id=partner.pk, user_id=f"user-{n}")) for n in range(4)]

    def turns(work: Callable[[int], None]) -> None:
        for turn in range(8):
            work(turn)

    works = [report, *(partial(buy, user) for user in users)]
    assert run_concurrently([partial(turns, work) for work in works]) == [None] * 5
    assert invariant_checker.check() == []
