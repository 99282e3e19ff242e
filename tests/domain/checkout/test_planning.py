"""What a checkout buys and reserves, by cart and catalog. Pure: no test here uses the database."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from pytest_django import Settings

from baskets.domain.checkout.planning import CheckoutPlan, plan_checkout
from baskets.domain.checkout.pricing import CatalogEntry
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BASKET = BasketSnapshot(
    basket_id=UUID(int=1),
    at=NOW,
    revision=1,
    events=1,
    created_at=NOW,
    last_changed_at=NOW,
    expires_at=NOW + timedelta(days=30),
    hidden_at=None,
    guest=False,
    hold_override=None,
    late_orders="",
)
LIMITED = CatalogEntry(listed=True, limited=True, available=0, price=250, currency="EUR")
UNLIMITED = LIMITED._replace(limited=False)
UNLISTED = LIMITED._replace(listed=False)
FREE_OF_PRICE = UNLIMITED._replace(price=None, currency="")
IN_DOLLARS = UNLIMITED._replace(currency="USD")


def plan(*lines: tuple[CatalogEntry, int], test_mode: bool = False, by_client_key: bool = False, guest: bool = False) -> CheckoutPlan:
    """Plan the checkout of products `p1`, `p2` and so on, each with its catalog entry and count."""
    names = [f"p{number}" for number, _ in enumerate(lines, start=1)]
    cart = tuple(
        BasketLine(product_id=name, count=count, position=i) for i, (name, (_, count)) in enumerate(zip(names, lines, strict=True))
    )
    entries = {name: entry for name, (entry, _) in zip(names, lines, strict=True)}
    return plan_checkout(BASKET._replace(cart=cart, guest=guest), entries, test_mode=test_mode, by_client_key=by_client_key)


@pytest.mark.parametrize(
    ("entry", "test_mode", "stocked", "to_reserve", "full_price"),
    [
        (LIMITED, False, 3, {"p1": 3}, 750),
        (UNLIMITED, False, None, {}, 750),
        (UNLISTED, False, -3, {}, None),
        (UNLISTED._replace(limited=False), False, -3, {}, None),
        (FREE_OF_PRICE, False, None, {}, None),
        (LIMITED, True, None, {}, 750),
        (UNLISTED, True, None, {}, 750),
    ],
)
def test_one_line_is_planned_by_its_entry(
    entry: CatalogEntry,
    test_mode: bool,
    stocked: int | None,
    to_reserve: dict[str, int],
    full_price: int | None,
) -> None:
    planned = plan((entry, 3), test_mode=test_mode)
    assert [line.stocked for line in planned.lines] == [stocked]
    assert planned.to_reserve == to_reserve
    assert planned.full_price == full_price


def test_the_price_counts_the_lines_that_can_be_ordered() -> None:
    planned = plan((LIMITED, 2), (UNLISTED, 1), (UNLIMITED, 1))
    assert [line.stocked for line in planned.lines] == [2, -1, None]
    assert (planned.full_price, planned.currency) == (750, "EUR")


def test_two_currencies_have_no_sum() -> None:
    planned = plan((UNLIMITED, 1), (IN_DOLLARS, 1))
    assert (planned.full_price, planned.currency) == (None, "")


def test_a_line_over_the_limit_of_one_checkout_fails_as_a_whole(settings: Settings) -> None:
    settings.BASKETS_PIECES_PER_CHECKOUT = 4
    planned = plan((LIMITED, 4), (LIMITED, 6), (UNLIMITED, 9))
    assert planned.to_reserve == {"p1": 4}
    assert [line.stocked for line in planned.lines] == [4, -2, None]
    assert [(item.product_id, item.wanted, item.available) for item in planned.refused_lines()] == [("p2", 6, 4)]


def test_a_new_guest_of_a_client_key_gets_few_pieces_in_all(settings: Settings) -> None:
    settings.BASKETS_NEW_GUEST_PIECES = 5
    lines = ((LIMITED, 3), (LIMITED, 3))
    assert plan(*lines, by_client_key=True, guest=True).to_reserve == {"p1": 3}
    assert plan(*lines, by_client_key=False, guest=True).to_reserve == {"p1": 3, "p2": 3}
    assert plan(*lines, by_client_key=True, guest=False).to_reserve == {"p1": 3, "p2": 3}
