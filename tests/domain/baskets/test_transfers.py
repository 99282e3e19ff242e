"""Transfers: one minute, one use, the very same basket, and a line in its timeline for each step."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets.transfers import TOKEN_LIFETIME, TransferNotFound, TransferOffer, is_redeemable, offer_transfer, redeem_transfer
from baskets.domain.errors import BasketNotFound
from baskets.domain.maintenance import invariant_checker
from baskets.models import Event, Transfer
from baskets.models.basket_snapshot import Owner
from tests.conftest import APP
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory

Stored = Callable[[], dict[str, list[Any]]]
TELEVISION = Actor(kind=ActorKind.KEY, name="television", request_id="request-2")


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user with something in the cart."""
    ProductFactory(product_id="a", unsold=5)
    user = User(owner)
    user.place("a", 2)
    return user


def offer(user: User) -> TransferOffer:
    return runner.run(offer_transfer, owner=user.owner, actor=APP)


def redeem(token: str, *, partner_id: int) -> Owner:
    return runner.run(redeem_transfer, partner_id=partner_id, token=token, actor=TELEVISION).owner


def pass_time(by: timedelta) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE baskets_transfer SET created_at = created_at - %s, expires_at = expires_at - %s", [by, by])


def test_the_other_device_gets_the_very_same_basket(shopper: User) -> None:
    before = shopper.lists()
    made = offer(shopper)
    assert redeem(made.token, partner_id=shopper.owner.partner_id) == shopper.owner
    assert shopper.lists() == before


def test_each_step_is_in_the_timeline_and_moves_no_list(shopper: User) -> None:
    before = shopper.basket()
    assert before is not None
    redeem(offer(shopper).token, partner_id=shopper.owner.partner_id)
    after = shopper.basket()
    assert after is not None
    assert (after.revision, after.last_changed_at, after.expires_at) == (before.revision, before.last_changed_at, before.expires_at)
    recorded = list(Event.objects.order_by("-number").values_list("kind", "actor", "data")[:2])
    assert recorded == [("transfer_redeemed", "television", {}), ("transfer_offered", APP.name, {})]
    assert invariant_checker.check_invariants() == []


def test_a_token_is_good_once(shopper: User, stored_rows: Stored) -> None:
    token = offer(shopper).token
    redeem(token, partner_id=shopper.owner.partner_id)
    before = stored_rows()
    with pytest.raises(TransferNotFound):
        redeem(token, partner_id=shopper.owner.partner_id)
    assert stored_rows() == before


def test_a_token_is_good_for_a_minute(shopper: User, stored_rows: Stored) -> None:
    made = offer(shopper)
    assert is_redeemable(made.token)
    pass_time(TOKEN_LIFETIME)
    before = stored_rows()
    assert not is_redeemable(made.token)
    with pytest.raises(TransferNotFound):
        redeem(made.token, partner_id=shopper.owner.partner_id)
    assert stored_rows() == before


@pytest.mark.parametrize("token", ["", "x", "x" * 10_000, "\u00e4", "\ud800"])
def test_a_token_of_nobodys_is_unknown(shopper: User, token: str) -> None:
    offer(shopper)
    with pytest.raises(TransferNotFound):
        redeem(token, partner_id=shopper.owner.partner_id)
    assert not is_redeemable(token)


def test_another_partner_gets_nothing_and_spoils_nothing(shopper: User) -> None:
    token = offer(shopper).token
    with pytest.raises(TransferNotFound):
        redeem(token, partner_id=PartnerFactory().pk)
    assert redeem(token, partner_id=shopper.owner.partner_id) == shopper.owner


def test_the_token_is_stored_as_its_digest_only(shopper: User) -> None:
    made = offer(shopper)
    with connection.cursor() as cursor:
        cursor.execute("SELECT row::text FROM baskets_transfer row UNION ALL SELECT row::text FROM baskets_event row")
        stored = "".join(row for (row,) in cursor.fetchall())
    assert made.token not in stored
    assert made.token.encode().hex() not in stored


def test_there_is_nothing_to_offer_without_a_basket(shopper: User, stored_rows: Stored) -> None:
    before = stored_rows()
    with pytest.raises(BasketNotFound):
        offer(User(replace(shopper.owner, user_id="unknown")))
    assert stored_rows() == before


def test_a_basket_closed_after_the_offer_is_not_transferred(shopper: User) -> None:
    token = offer(shopper).token
    shopper.delete()
    with pytest.raises(TransferNotFound):
        redeem(token, partner_id=shopper.owner.partner_id)
    with pytest.raises(BasketNotFound):
        offer(shopper)


def test_a_basket_past_its_time_is_not_handed_on(shopper: User, stored_rows: Stored) -> None:
    token = offer(shopper).token
    shopper.wait(days=31)
    before = stored_rows()
    with pytest.raises(TransferNotFound):
        redeem(token, partner_id=shopper.owner.partner_id)
    assert stored_rows() == before


def test_a_checkout_goes_along(shopper: User) -> None:
    shopper.start()
    redeem(offer(shopper).token, partner_id=shopper.owner.partner_id)
    assert shopper.lists()["checkout"] == [("a", 2, 2)]


def test_offers_of_long_ago_are_cleared_away_by_the_next(shopper: User) -> None:
    offer(shopper)
    pass_time(timedelta(days=2))
    offer(shopper)
    assert Transfer.objects.count() == 1
