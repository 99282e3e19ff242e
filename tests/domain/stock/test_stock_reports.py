"""What shops and staff report of stock means the same in whatever order it arrives: compared with what happened in the world."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction

from baskets.domain.checkout import expiry
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import guards
from baskets.models import CheckoutSession, Stock, StockAdjustment
from baskets.models.basket_snapshot import Owner
from tests.domain.maintenance.test_retention import purged
from tests.domain.scenarios import User, available
from tests.domain.stock.reporting import count, deliver, now, order, report, reverse
from tests.factories import PartnerFactory, ProductFactory
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shopper() -> User:
    """A user; product x is limited, with 20 pieces."""
    ProductFactory(product_id="x", unsold=20)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


# --- One report after the other -----------------------------------------------------


@pytest.mark.usefixtures("shopper")
def test_a_report_of_an_earlier_moment_changes_nothing_and_is_named() -> None:
    earlier = now()
    later = now()
    assert report(2, later) == supply.ReportsApplied(changed=1, became_unlimited=[], older=[])
    assert report(20, earlier) == supply.ReportsApplied(changed=0, became_unlimited=[], older=["x"])
    assert available("x") == (2, 0)
    assert report(3, later).changed == 1
    assert available("x") == (3, 0)
    assert invariant_checker.check() == []


@pytest.mark.usefixtures("shopper")
def test_a_report_that_changes_no_number_is_remembered() -> None:
    earlier = now()
    assert report(20, now()) == supply.ReportsApplied(changed=0, became_unlimited=[], older=[])
    assert report(5, earlier).older == ["x"]
    assert available("x") == (20, 0)
    assert StockAdjustment.objects.count() == 1


def test_an_unlimited_product_that_was_never_limited_remembers_that_it_was_reported() -> None:
    ProductFactory(product_id="x")
    earlier = now()
    assert report(None) == supply.ReportsApplied(changed=0, became_unlimited=[], older=[])
    assert report(5, earlier).older == ["x"]
    assert Stock.objects.values_list("limited", "reported").get() == (False, None)


@pytest.mark.parametrize(
    ("act", "limited", "free"),
    [
        (lambda: report(None), False, None),
        (lambda: count(None, None), False, None),
        (lambda: count(1, None), True, 1),
        (lambda: deliver(10), True, 15),
        (lambda: deliver(-3), True, 2),
        (lambda: None, True, 5),
    ],
    ids=["unlimited", "unlimited by staff", "counted by staff", "added", "taken out", "none"],
)
@pytest.mark.usefixtures("shopper")
def test_what_staff_and_feeds_did_after_the_moment_counts(act: Callable[[], object], limited: bool, free: int | None) -> None:
    moment = now()
    act()
    report(5, moment)
    row = Stock.objects.get()
    assert row.limited is limited
    assert free is None or (row.available, row.shortfall) == (free, 0)
    assert invariant_checker.check() == []


def test_an_order_from_before_the_moment_that_is_reversed_after_it_comes_back(shopper: User) -> None:
    session = order(shopper, 2)
    moment = now()
    reverse(session)
    report(3, moment)
    assert available("x") == (5, 0)
    assert invariant_checker.check() == []


def test_an_order_that_is_made_and_reversed_after_the_moment_changes_nothing(shopper: User) -> None:
    moment = now()
    reverse(order(shopper, 2))
    report(5, moment)
    assert available("x") == (5, 0)
    assert invariant_checker.check() == []


def test_what_was_supplied_before_the_moment_is_in_the_number(shopper: User) -> None:
    deliver(10)
    report(7, now())
    assert available("x") == (7, 0)


def test_supply_that_comes_in_pays_off_the_shortfall_first(shopper: User) -> None:
    shopper.place("x", 8)
    shopper.start()
    report(5)
    assert available("x") == (0, 3)
    deliver(2)
    assert available("x") == (0, 1)
    deliver(4)
    assert available("x") == (3, 0)
    deliver(-4)
    assert available("x") == (0, 1)
    assert invariant_checker.check() == []


def test_a_stock_take_subtracts_what_is_sold_between_counting_and_confirming(shopper: User) -> None:
    """20 are there, 8 are held; 15 are counted, held ones included. Three of the held ones are ordered before it is confirmed."""
    holders = [shopper.beside(f"holder-{number}") for number in range(2)]
    for holder, pieces in zip(holders, (3, 5), strict=True):
        holder.place("x", pieces)
        holder.start()
    counted_at = now()
    holders[0].finish(ordered=True)
    count(15, counted_at)
    assert available("x") == (7, 0)
    assert invariant_checker.check() == []


@pytest.mark.usefixtures("shopper")
def test_a_stock_take_that_confirms_the_number_is_recorded() -> None:
    counted_at = now()
    count(20, counted_at)
    last = StockAdjustment.objects.order_by("pk").last()
    assert last is not None
    assert (last.delta, last.reported, last.as_of, last.actor) == (0, 20, counted_at, "rita")
    assert report(5, counted_at - timedelta(microseconds=1)).older == ["x"]


@pytest.mark.usefixtures("shopper")
def test_a_stock_take_from_before_the_latest_report_is_refused() -> None:
    counted_at = now()
    report(20)
    with pytest.raises(guards.RepairNotApplicable, match="A report of a later time exists"), transaction.atomic():
        count(15, counted_at)
    assert available("x") == (20, 0)


@pytest.mark.usefixtures("shopper")
def test_no_report_speaks_of_a_moment_to_come() -> None:
    with pytest.raises(supply.FutureMoment), transaction.atomic():
        count(15, now() + timedelta(minutes=1))
    assert available("x") == (20, 0)


@pytest.mark.usefixtures("shopper")
def test_a_report_of_now_counts_even_where_the_clock_has_gone_back() -> None:
    ahead = now() + timedelta(hours=1)
    Stock.objects.update(reported_as_of=ahead)
    assert report(4).changed == 1
    assert available("x") == (4, 0)
    assert Stock.objects.get().reported_as_of == ahead


# --- While a product is unlimited -----------------------------------------------------


def test_what_was_ordered_without_a_hold_after_the_moment_is_subtracted_once(shopper: User) -> None:
    report(None)
    order(shopper, 1)
    first = now()
    order(shopper, 2)
    second = now()
    order(shopper, 4)
    report(10, first)
    assert available("x") == (4, 0)
    report(9, second)
    assert available("x") == (5, 0)
    report(5)
    assert available("x") == (5, 0)
    unheld = StockAdjustment.objects.filter(kind="unheld").order_by("as_of")
    assert list(unheld.values_list("delta", flat=True)) == [-2, -4]
    assert invariant_checker.check() == []


def test_what_is_ordered_without_a_hold_is_recorded_once_however_often_the_product_turns(shopper: User) -> None:
    first = now()
    second = now()
    report(None, first)
    order(shopper, 2)
    report(10, first)
    report(None, second)
    report(10, second)
    assert available("x") == (8, 0)
    assert StockAdjustment.objects.filter(kind="unheld").count() == 1
    assert invariant_checker.check() == []


def test_an_order_without_a_hold_that_is_reversed_after_the_moment_changes_nothing(shopper: User) -> None:
    report(None)
    moment = now()
    reverse(order(shopper, 2))
    report(10, moment)
    assert available("x") == (10, 0)
    assert invariant_checker.check() == []


def test_an_order_without_a_hold_from_before_the_moment_comes_back(shopper: User) -> None:
    report(None)
    session = order(shopper, 2)
    moment = now()
    reverse(session)
    report(10, moment)
    assert available("x") == (12, 0)
    assert invariant_checker.check() == []


def test_an_order_without_a_hold_that_was_counted_comes_back_to_a_limited_product(shopper: User) -> None:
    report(None)
    moment = now()
    session = order(shopper, 2)
    report(10, moment)
    assert available("x") == (8, 0)
    reverse(session)
    assert available("x") == (10, 0)
    assert invariant_checker.check() == []


def test_a_checkout_that_began_while_the_product_was_unlimited_neither_takes_nor_brings_pieces(shopper: User) -> None:
    report(None)
    shopper.place("x", 2)
    order_no = shopper.start().session.order_no
    report(10)
    shopper.finish(ordered=True)
    assert available("x") == (10, 0)
    reverse(CheckoutSession.objects.get(order_no=order_no))
    assert available("x") == (10, 0)
    assert invariant_checker.check() == []


def test_more_ordered_without_a_hold_than_was_there_is_shortfall(shopper: User) -> None:
    report(None)
    moment = now()
    session = order(shopper, 5)
    report(1, moment)
    assert available("x") == (0, 4)
    assert invariant_checker.check() == []
    reverse(session)
    assert available("x") == (1, 0)
    assert invariant_checker.check() == []


def test_a_test_checkout_sells_nothing_of_an_unlimited_product(shopper: User) -> None:
    report(None)
    moment = now()
    shopper.place("x", 2)
    shopper.start(test_mode=True)
    shopper.finish(ordered=True)
    report(10, moment)
    assert available("x") == (10, 0)


# --- What a purge leaves ---------------------------------------------------------------


def test_purged_sales_before_and_after_the_report_are_counted_apart(shopper: User) -> None:
    order(shopper, 2)
    report(18)
    order(shopper.beside("ben"), 3)
    age_all_rows(timedelta(days=31))
    expiry.sweep_baskets()
    age_all_rows(timedelta(days=400))
    assert purged()["sessions"] == 2
    rows = StockAdjustment.objects.filter(kind="purged").order_by("as_of")
    assert list(rows.values_list("delta", flat=True)) == [-2, -3]
    assert available("x") == (15, 0)
    assert invariant_checker.check() == []


def test_a_report_from_before_purged_sales_without_a_hold_is_refused(shopper: User) -> None:
    """Reversed or not: the report could not allow for a sale that is not known any more."""
    report(None)
    sessions = [order(shopper, 2), order(shopper.beside("ben"), 3)]
    reverse(sessions[0])
    age_all_rows(timedelta(days=31))
    expiry.sweep_baskets()
    age_all_rows(timedelta(days=400))
    moment = Stock.objects.get().reported_as_of
    assert purged()["sessions"] == 2
    with pytest.raises(supply.SalesPurged), transaction.atomic():
        report(10, moment)
    assert Stock.objects.get().limited is False
    report(10)
    assert available("x") == (10, 0)
    assert invariant_checker.check() == []
