"""Shops in the states that repairs begin with."""

from typing import Any

import pytest

from baskets.domain import idempotency, runner
from baskets.domain.access import guest_tokens
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets import guests, transfers
from baskets.domain.checkout import expiry
from baskets.domain.stock import supply
from baskets.domain.support import assignments, attention_repairs, erasure, reservation_repairs
from baskets.models import (
    Attention,
    Basket,
    BrokenRule,
    CheckoutSession,
    Event,
    GuestToken,
    Product,
    Stock,
    StockReservation,
)
from baskets.models.basket_snapshot import Owner
from tests.admin.conftest import Shop
from tests.conftest import APP

OTHER = Actor(kind=ActorKind.STAFF, name="otto")


REASON = "ticket 4711: the customer called"


OLDER_ID = "\u00a0a/b\u2028\u200b "


def active(shop: Shop) -> CheckoutSession:
    shop.product("lamp", 5)
    shop.product("song")
    shop.product("rare", 0)
    buyer = shop.buyer("ann")
    buyer.place("lamp", 2)
    buyer.place("song")
    buyer.place("rare")
    return buyer.start().session


def lapsed(shop: Shop) -> CheckoutSession:
    session = active(shop)
    shop.buyer("ann").wait(hours=1)
    return session


def nearly_over(shop: Shop) -> CheckoutSession:
    session = active(shop)
    shop.buyer("ann").wait(minutes=28)
    return session


def extended_before(shop: Shop) -> CheckoutSession:
    """A checkout whose hold was extended as often as is allowed, by six minutes each time."""
    session = nearly_over(shop)
    for _ in range(2):
        events = Basket.objects.get().events
        values: Any = {"expected_events": events, "reason": REASON, "actor": OTHER}
        runner.run(reservation_repairs.extend_hold, session=session, minutes=6, **values)
        shop.buyer("ann").wait(minutes=5)
    return session


def aborted(shop: Shop) -> CheckoutSession:
    session = active(shop)
    shop.buyer("ann").finish(False)
    shop.buyer("ann").wait(days=3)
    return session


def ordered(shop: Shop) -> CheckoutSession:
    session = active(shop)
    shop.buyer("ann").finish(True)
    return session


def sold_out_since(shop: Shop) -> CheckoutSession:
    session = aborted(shop)
    supply.set_unsold(reports={"lamp": 1}, as_of=None, reason="feed", actor=Actor.system("feed"))
    return session


def hold(shop: Shop) -> StockReservation:
    active(shop)
    return StockReservation.objects.get(product_id="lamp")


def failed_but_there_now(shop: Shop) -> CheckoutSession:
    session = active(shop)
    supply.set_unsold(reports={"rare": 3}, as_of=None, reason="feed", actor=Actor.system("feed"))
    return session


def failed_but_unlimited_now(shop: Shop) -> CheckoutSession:
    session = active(shop)
    supply.set_unsold(reports={"rare": None}, as_of=None, reason="feed", actor=Actor.system("feed"))
    return session


def released_before(shop: Shop) -> StockReservation:
    made = hold(shop)
    events = made.basket.events
    runner.run(reservation_repairs.release, reservation=made, expected_events=events, reason=REASON, actor=APP)
    return made


def only_one(shop: Shop) -> StockReservation:
    return only_session(shop).reservations.get()


def device(shop: Shop) -> GuestToken:
    """A guest on two devices; the second took the basket over."""
    shop.product("lamp", 5)

    def begin() -> Owner:
        owner = guests.new_guest(partner_id=shop.partner.pk)
        snapshot = guests.create_guest_basket(owner=owner, counts={"lamp": 1}, actor=APP)
        guest_tokens.issue_guest_token(owner=owner, at=snapshot.at)
        guest_tokens.issue_guest_token(owner=owner, transferred=True, at=snapshot.at)
        return owner

    runner.run(begin)
    return GuestToken.objects.get(transferred=True)


def is_shut_out(shop: Shop) -> None:
    assert dict(GuestToken.objects.values_list("transferred", "revoked_by")) == {True: "rita", False: ""}
    out = str(GuestToken.objects.get(transferred=True).pk)
    events = Event.objects.order_by("number").values_list("kind", "data__deviceId", "data__repair")
    assert list(events)[1:] == [("device_revoked", out, None), ("repaired", out, "revoke_device")]


def only_session(shop: Shop) -> CheckoutSession:
    shop.product("lamp", 5)
    shop.buyer("ann").place("lamp")
    return shop.buyer("ann").start().session


def unlisted_now(shop: Shop) -> CheckoutSession:
    session = failed_but_there_now(shop)
    Product.objects.filter(pk="rare").update(listed=False)
    return session


def basket_in_checkout(shop: Shop) -> Basket:
    return active(shop).basket


def erased_before(shop: Shop) -> Basket:
    made = basket(shop)
    events = made.events
    return runner.run(erasure.erase_user, basket=made, expected_events=events, reason=REASON, actor=APP)


def remembered(shop: Shop) -> Basket:
    """A basket with an order, a comfort setting and a remembered answer."""
    ordered(shop)
    made = Basket.objects.get()

    def remember() -> None:
        idempotency.claim(basket_id=made.pk, key="key-1", fingerprint=b"0" * 32)
        idempotency.remember(basket_id=made.pk, key="key-1", status=200, body="{}")

    runner.run(remember)
    runner.run(lambda: transfers.offer_transfer(owner=shop.buyer("ann").owner, actor=APP))
    return made


def matter(shop: Shop) -> Attention:
    aborted(shop)
    with pytest.raises(Exception, match="aborted"):
        shop.buyer("ann").finish(True)
    return Attention.objects.get()


def taken(shop: Shop) -> Attention:
    made = matter(shop)
    events = Basket.objects.get().events
    runner.run(attention_repairs.assign, session=made.session, expected_events=events, reason=REASON, actor=OTHER)
    return made


def taken_by_repairer(shop: Shop) -> Attention:
    made = matter(shop)
    events = Basket.objects.get().events
    repairer = Actor(kind=ActorKind.STAFF, name="rita")
    runner.run(attention_repairs.assign, session=made.session, expected_events=events, reason=REASON, actor=repairer)
    return made


def settled_before(shop: Shop) -> Attention:
    made = matter(shop)
    events = Basket.objects.get().events
    runner.run(attention_repairs.resolve, attention=made, expected_events=events, reason=REASON, actor=OTHER)
    return made


def gone(shop: Shop) -> BrokenRule:
    made = broken(shop)
    runner.run(lambda: assignments.record_check(checked=40, found=[], actor=Actor.system("check_baskets")))
    return made


def short_of_supply(shop: Shop) -> Any:
    made = product(shop)
    supply.set_unsold(reports={"lamp": 1}, as_of=None, reason="feed", actor=Actor.system("feed"))
    return made


def taken_product(shop: Shop) -> Any:
    made = short_of_supply(shop)
    runner.run(assignments.assign, about="product", subject="lamp", expected_step=0, reason=REASON, actor=OTHER)
    return made


def broken(_: Shop) -> BrokenRule:
    found = [{"slug": "supply_equation", "rule": 1, "sentence": "It adds up.", "total": 2, "examples": [{"product_id": "lamp"}]}]
    runner.run(lambda: assignments.record_check(checked=40, found=found, actor=Actor.system("check_baskets")))
    return BrokenRule.objects.get()


def taken_rule(shop: Shop) -> BrokenRule:
    made = broken(shop)
    runner.run(assignments.assign, about="brokenrule", subject=made.pk, expected_step=0, reason=REASON, actor=OTHER)
    return made


def basket(shop: Shop) -> Basket:
    shop.product("lamp", 5)
    shop.product("song")
    buyer = shop.buyer("ann")
    buyer.place("lamp", 2)
    buyer.place("song", 0)
    return Basket.objects.get(pk=buyer.owner.basket_id)


def deleted(shop: Shop) -> Basket:
    made = basket(shop)
    shop.buyer("ann").delete()
    return made


def expired(shop: Shop) -> Basket:
    """A basket that a sweep has expired, and a product of it that is not listed any more."""
    made = basket(shop)
    shop.buyer("ann").wait(days=31)
    expiry.sweep_baskets()
    Product.objects.filter(pk="lamp").update(listed=False)
    return made


def not_swept(shop: Shop) -> Basket:
    made = basket(shop)
    shop.buyer("ann").wait(days=31)
    return made


def deleted_empty(shop: Shop) -> Basket:
    made = basket(shop)
    for product_id in ("lamp", "song"):
        shop.buyer("ann").remove(product_id)
    shop.buyer("ann").delete()
    return made


def begun_again(shop: Shop) -> Basket:
    made = deleted(shop)
    shop.buyer("ann").place("song")
    return made


def basket_with_older_id(shop: Shop) -> Basket:
    """A basket with a product from before the rule for product ids."""
    record = basket(shop)
    shop.product(OLDER_ID, listed=False)
    record.items.filter(product_id="song").update(product_id=OLDER_ID)
    return record


def product(shop: Shop) -> Any:
    active(shop)
    return Stock.objects.get(pk="lamp").product


def unlimited(shop: Shop) -> Any:
    shop.product("song")
    return Product.objects.get(pk="song")
