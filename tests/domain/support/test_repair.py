"""Repairs of what a user no longer has: staff bring no old basket back by accident. The pages are tested with the admin."""

import pytest

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.support import basket_repairs, checkout_repairs, guards
from baskets.models import Basket, CheckoutSession, Event
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import ProductFactory

STAFF = Actor(kind=ActorKind.STAFF, name="rita")


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user who aborted a checkout of a shirt, saved a song, and has not come back for a month."""
    ProductFactory(product_id="shirt", unsold=5)
    ProductFactory(product_id="song")
    shopper = User(owner)
    shopper.place("shirt", 2)
    shopper.start()
    shopper.finish(ordered=False)
    shopper.place("song", 0)
    shopper.wait(days=31)
    assert shopper.basket() is None
    return shopper


def test_a_late_order_by_staff_does_not_bring_a_basket_back_that_is_past_its_time(shopper: User) -> None:
    session, basket = CheckoutSession.objects.get(), Basket.objects.get()
    runner.run(
        checkout_repairs.order_late, session=session, accept_short=False, expected_events=basket.events, reason="was paid", actor=STAFF
    )
    assert shopper.basket() is None
    kinds = list(Event.objects.order_by("number").values_list("kind", flat=True))
    assert kinds[-3:] == ["basket_expired", "checkout_ordered_late", "repaired"]


def test_a_basket_past_its_time_is_not_extended(shopper: User) -> None:
    basket = Basket.objects.get()
    with pytest.raises(guards.RepairNotApplicable):
        runner.run(basket_repairs.extend, basket=basket, days=60, expected_events=basket.events, reason="requested", actor=STAFF)
    assert shopper.basket() is None
    basket.refresh_from_db()
    assert basket.events == Event.objects.count()
