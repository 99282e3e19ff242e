"""What one user or one partner may keep from everybody else, where an operator sets a limit; without one, nothing is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from baskets.domain.access import partners
from baskets.domain.errors import OutOfStock, Throttled
from baskets.models import ApiKey, Partner
from baskets.models.basket_snapshot import Owner
from tests.conftest import APP
from tests.domain.scenarios import User, available, reservations
from tests.factories import TESTER, PartnerFactory, ProductFactory

Stored = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user; ten shirts and unlimited songs are in stock."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="song")
    return User(owner)


@pytest.fixture
def other_shopper(shopper: User) -> User:
    """A user of another partner."""
    return User(Owner(partner_id=PartnerFactory().pk, user_id="ben-ben"))


def start_and_abort(user: User) -> None:
    user.start()
    user.finish(False)


# --- Starts within an hour -----------------------------------------------------------------------


def test_a_user_may_start_as_often_as_they_like_by_default(shopper: User) -> None:
    shopper.place("shirt")
    for _ in range(30):
        start_and_abort(shopper)


def test_a_user_starts_no_more_checkouts_within_an_hour_than_may_be(shopper: User, settings: Settings, stored_rows: Stored) -> None:
    settings.BASKETS_STARTS_PER_HOUR = 2
    shopper.place("shirt")
    start_and_abort(shopper)
    shopper.wait(minutes=20)
    start_and_abort(shopper)
    before = stored_rows()
    with pytest.raises(Throttled) as refused:
        shopper.start()
    assert 39 * 60 < refused.value.seconds <= 40 * 60
    assert stored_rows() == before
    # It limits the user, not the partner, and does not count test checkouts.
    other = shopper.beside("other-user")
    other.place("shirt")
    start_and_abort(other)
    shopper.start(test_mode=True)
    shopper.finish(False)
    shopper.wait(minutes=40)
    start_and_abort(shopper)


# --- Pieces in one checkout ------------------------------------------------------------------------


def test_a_checkout_holds_no_more_pieces_of_a_product_than_may_be(shopper: User, settings: Settings) -> None:
    settings.BASKETS_PIECES_PER_CHECKOUT = 3
    shopper.place("shirt", 5)
    shopper.place("song", 5)
    order_no = shopper.start().session.order_no
    assert shopper.lists()["checkout"] == [("shirt", 5, -2), ("song", 5, None)]
    assert reservations(order_no) == [("shirt", "FAILED", 5)]
    assert available("shirt") == (10, 0)
    shopper.finish(True)
    assert shopper.lists()["cart"] == [("shirt", 5)]
    shopper.place("shirt", 3)
    shopper.start()
    assert shopper.lists()["checkout"] == [("shirt", 3, 3)]


def test_a_checkout_of_too_many_pieces_alone_is_refused_by_number(shopper: User, settings: Settings, stored_rows: Stored) -> None:
    settings.BASKETS_PIECES_PER_CHECKOUT = 3
    shopper.place("shirt", 5)
    before = stored_rows()
    with pytest.raises(OutOfStock) as refused:
        shopper.start()
    assert [(item.wanted, item.available) for item in refused.value.shortages] == [(5, 3)]
    assert stored_rows() == before


# --- The share of a partner --------------------------------------------------------------------------


def test_a_partner_holds_no_more_of_a_product_than_its_share(shopper: User, other_shopper: User, settings: Settings) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 50
    third_shopper, fourth_shopper = shopper.beside("carl-carl"), shopper.beside("dora-dora")
    for user, count in ((shopper, 3), (third_shopper, 2), (fourth_shopper, 1), (other_shopper, 5)):
        user.place("shirt", count)
        user.place("song")
    shopper.start()
    third_shopper.start()
    order_no = fourth_shopper.start().session.order_no
    assert fourth_shopper.lists()["checkout"] == [("shirt", 1, -1), ("song", 1, None)]
    assert reservations(order_no) == [("shirt", "FAILED", 1)]
    assert available("shirt") == (5, 0)
    other_shopper.start()
    assert other_shopper.lists()["checkout"][0] == ("shirt", 5, 5)
    assert available("shirt") == (0, 0)


@pytest.mark.parametrize(
    ("of_service", "first", "second", "stocked"),
    [
        (0, 20, None, (-1, 3)),
        (20, None, 100, (-1, 3)),
        (20, 0, None, (3, -1)),
        (20, 30, 20, (3, -1)),
    ],
)
def test_share_of_a_partner_holds_in_place_of_that_of_the_service(
    of_service: int,
    first: int | None,
    second: int | None,
    stocked: tuple[int, int],
    shopper: User,
    other_shopper: User,
    settings: Settings,
) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = of_service
    for user, percent in ((shopper, first), (other_shopper, second)):
        name = Partner.objects.get(pk=user.owner.partner_id).name
        partners.change_settings(partner_name=name, values={"share_percent": percent}, reason="contract", actor=TESTER)
        user.place("shirt", 3)
        user.place("song")
        user.start()
    held = tuple(user.lists()["checkout"][0][2] for user in (shopper, other_shopper))
    assert held == stocked


def test_a_refusal_beyond_the_share_states_the_rest_of_it(shopper: User, settings: Settings, stored_rows: Stored) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 40
    third_shopper = shopper.beside("carl-carl")
    shopper.place("shirt", 3)
    shopper.start()
    third_shopper.place("shirt", 2)
    before = stored_rows()
    with pytest.raises(OutOfStock) as refused:
        third_shopper.start()
    assert [(item.product_id, item.wanted, item.available) for item in refused.value.shortages] == [("shirt", 2, 1)]
    assert stored_rows() == before
    third_shopper.place("shirt", 1)
    third_shopper.start()


def test_the_last_piece_can_be_had(shopper: User, settings: Settings) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 10
    ProductFactory(product_id="last", unsold=1)
    shopper.place("last")
    shopper.start()
    assert shopper.lists()["checkout"] == [("last", 1, 1)]


def test_what_is_sold_or_lapsed_or_unlimited_is_not_held(shopper: User, settings: Settings) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 50
    third_shopper, fourth_shopper = shopper.beside("carl-carl"), shopper.beside("dora-dora")
    shopper.place("shirt", 4)
    shopper.start()
    shopper.finish(True)
    third_shopper.place("shirt", 3)
    third_shopper.start()
    third_shopper.wait(minutes=31)
    fourth_shopper.place("shirt", 3)
    fourth_shopper.place("song", 500)
    fourth_shopper.start()
    assert fourth_shopper.lists()["checkout"] == [("shirt", 3, 3), ("song", 500, None)]


def test_a_late_order_is_nobodys_hoarding(shopper: User, settings: Settings) -> None:
    shopper.place("shirt", 9)
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    settings.BASKETS_PARTNER_SHARE_PERCENT = settings.BASKETS_PIECES_PER_CHECKOUT = settings.BASKETS_STARTS_PER_HOUR = 1
    shopper.finish(True, order_no)
    assert reservations(order_no)[-1] == ("shirt", "SOLD", 9)


def test_what_client_keys_have_sold_within_the_hour_counts_in_the_share(shopper: User, settings: Settings) -> None:
    """Twice: sold by a client key it counts, and by a server key it does not."""
    settings.BASKETS_PARTNER_SHARE_PERCENT = 50
    partner = Partner.objects.get(pk=shopper.owner.partner_id)
    ApiKey.objects.create(partner=partner, prefix=APP.name, digest=bytes(32), kind="client", created_by="tests")
    third_shopper = shopper.beside("carl-carl")
    shopper.place("shirt", 4)
    shopper.start()
    shopper.finish(True)
    third_shopper.place("shirt", 2)
    with pytest.raises(OutOfStock) as refused:
        third_shopper.start()
    assert [(item.wanted, item.available) for item in refused.value.shortages] == [(2, 1)]
    ApiKey.objects.update(kind="server")
    third_shopper.place("shirt", 3)
    third_shopper.start()
    third_shopper.finish(False)
    ApiKey.objects.update(kind="client")
    shopper.wait(minutes=61)
    third_shopper.start()
    assert third_shopper.lists()["checkout"] == [("shirt", 3, 3)]
