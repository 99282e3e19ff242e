"""What one user or one partner may keep from everybody else, where an operator sets a limit; without one, nothing is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from baskets.domain.errors import OutOfStock, Throttled
from baskets.models import ApiKey, Partner
from baskets.models.basket_snapshot import Owner
from tests.conftest import APP
from tests.domain.scenarios import User, available, reservations
from tests.factories import PartnerFactory, ProductFactory

Stored = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def anna(owner: Owner) -> User:
    """A user; ten shirts and as many songs as anybody wants are there."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="song")
    return User(owner)


@pytest.fixture
def ben(anna: User) -> User:
    """A user of another partner."""
    return User(Owner(partner_id=PartnerFactory().pk, user_id="ben-ben"))


def start_and_abort(user: User) -> None:
    user.start()
    user.finish(False)


# --- Starts within an hour -----------------------------------------------------------------------


def test_a_user_may_start_as_often_as_they_like_by_default(anna: User) -> None:
    anna.place("shirt")
    for _ in range(30):
        start_and_abort(anna)


def test_a_user_starts_no_more_checkouts_within_an_hour_than_may_be(anna: User, settings: Settings, everything_stored: Stored) -> None:
    settings.BASKETS_STARTS_PER_HOUR = 2
    anna.place("shirt")
    start_and_abort(anna)
    anna.wait(minutes=20)
    start_and_abort(anna)
    before = everything_stored()
    with pytest.raises(Throttled) as refused:
        anna.start()
    assert 39 * 60 < refused.value.seconds <= 40 * 60
    assert everything_stored() == before
    # It is a limit of the user, not of the partner; and the test of an app is no hoarding.
    other = anna.beside("other-user")
    other.place("shirt")
    start_and_abort(other)
    anna.start(test_mode=True)
    anna.finish(False)
    anna.wait(minutes=40)
    start_and_abort(anna)


# --- Pieces in one checkout ------------------------------------------------------------------------


def test_a_checkout_holds_no_more_pieces_of_a_product_than_may_be(anna: User, settings: Settings) -> None:
    settings.BASKETS_PIECES_PER_CHECKOUT = 3
    anna.place("shirt", 5)
    anna.place("song", 5)
    order_no = anna.start().session.order_no
    assert anna.lists()["checkout"] == [("shirt", 5, -2), ("song", 5, None)]
    assert reservations(order_no) == [("shirt", "FAILED", 5)]
    assert available("shirt") == (10, 0)
    anna.finish(True)
    assert anna.lists()["cart"] == [("shirt", 5)]
    anna.place("shirt", 3)
    anna.start()
    assert anna.lists()["checkout"] == [("shirt", 3, 3)]


def test_a_checkout_of_too_many_pieces_alone_is_refused_by_number(anna: User, settings: Settings, everything_stored: Stored) -> None:
    settings.BASKETS_PIECES_PER_CHECKOUT = 3
    anna.place("shirt", 5)
    before = everything_stored()
    with pytest.raises(OutOfStock) as refused:
        anna.start()
    assert [(item.wanted, item.available) for item in refused.value.missing] == [(5, 3)]
    assert everything_stored() == before


# --- The share of a partner --------------------------------------------------------------------------


def test_a_partner_holds_no_more_of_a_product_than_its_share(anna: User, ben: User, settings: Settings) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 50
    carl, dora = anna.beside("carl-carl"), anna.beside("dora-dora")
    for user, count in ((anna, 3), (carl, 2), (dora, 1), (ben, 5)):
        user.place("shirt", count)
        user.place("song")
    anna.start()
    carl.start()
    order_no = dora.start().session.order_no
    assert dora.lists()["checkout"] == [("shirt", 1, -1), ("song", 1, None)]
    assert reservations(order_no) == [("shirt", "FAILED", 1)]
    assert available("shirt") == (5, 0)
    ben.start()
    assert ben.lists()["checkout"][0] == ("shirt", 5, 5)
    assert available("shirt") == (0, 0)


def test_beyond_its_share_a_partner_is_told_what_is_left_of_it(anna: User, settings: Settings, everything_stored: Stored) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 40
    carl = anna.beside("carl-carl")
    anna.place("shirt", 3)
    anna.start()
    carl.place("shirt", 2)
    before = everything_stored()
    with pytest.raises(OutOfStock) as refused:
        carl.start()
    assert [(item.product_id, item.wanted, item.available) for item in refused.value.missing] == [("shirt", 2, 1)]
    assert everything_stored() == before
    carl.place("shirt", 1)
    carl.start()


def test_the_last_piece_can_be_had(anna: User, settings: Settings) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 10
    ProductFactory(product_id="last", unsold=1)
    anna.place("last")
    anna.start()
    assert anna.lists()["checkout"] == [("last", 1, 1)]


def test_what_is_sold_or_lapsed_or_unlimited_is_not_held(anna: User, settings: Settings) -> None:
    settings.BASKETS_PARTNER_SHARE_PERCENT = 50
    carl, dora = anna.beside("carl-carl"), anna.beside("dora-dora")
    anna.place("shirt", 4)
    anna.start()
    anna.finish(True)
    carl.place("shirt", 3)
    carl.start()
    carl.wait(minutes=31)
    dora.place("shirt", 3)
    dora.place("song", 500)
    dora.start()
    assert dora.lists()["checkout"] == [("shirt", 3, 3), ("song", 500, None)]


def test_a_late_order_is_nobodys_hoarding(anna: User, settings: Settings) -> None:
    anna.place("shirt", 9)
    order_no = anna.start().session.order_no
    anna.finish(False)
    settings.BASKETS_PARTNER_SHARE_PERCENT = settings.BASKETS_PIECES_PER_CHECKOUT = settings.BASKETS_STARTS_PER_HOUR = 1
    anna.finish(True, order_no)
    assert reservations(order_no)[-1] == ("shirt", "SOLD", 9)


def test_what_client_keys_have_sold_within_the_hour_counts_in_the_share(anna: User, settings: Settings) -> None:
    """Twice: sold by a client key it counts, and by a server key it does not."""
    settings.BASKETS_PARTNER_SHARE_PERCENT = 50
    partner = Partner.objects.get(pk=anna.owner.partner_id)
    ApiKey.objects.create(partner=partner, prefix=APP.name, digest=bytes(32), kind="client", created_by="tests")
    carl = anna.beside("carl-carl")
    anna.place("shirt", 4)
    anna.start()
    anna.finish(True)
    carl.place("shirt", 2)
    with pytest.raises(OutOfStock) as refused:
        carl.start()
    assert [(item.wanted, item.available) for item in refused.value.missing] == [(2, 1)]
    ApiKey.objects.update(kind="server")
    carl.place("shirt", 3)
    carl.start()
    carl.finish(False)
    ApiKey.objects.update(kind="client")
    anna.wait(minutes=61)
    carl.start()
    assert carl.lists()["checkout"] == [("shirt", 3, 3)]
