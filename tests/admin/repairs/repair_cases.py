"""States to repair, and what each repair makes of them. The tests are in `test_repairs`."""

from collections.abc import Callable
from dataclasses import dataclass
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
    BasketItem,
    BrokenRule,
    CheckoutSession,
    DeskEntry,
    Event,
    GuestToken,
    IdempotencyRecord,
    Product,
    Stock,
    StockAdjustment,
    StockReservation,
)
from baskets.models.basket_snapshot import Owner
from tests.admin.conftest import Shop
from tests.conftest import APP
from tests.domain.scenarios import available, reservations

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


def is_ordered(shop: Shop) -> None:
    session = CheckoutSession.objects.get()
    assert (session.status, session.late) == ("ORDERED", False)
    assert reservations(session.order_no) == [("lamp", "SOLD", 2), ("rare", "FAILED", 1)]
    assert shop.buyer("ann").lists() == {"cart": [("rare", 1)], "saved": [], "checkout": []}
    assert available("lamp") == (3, 0)


def is_aborted(shop: Shop) -> None:
    session = CheckoutSession.objects.get()
    assert session.status == "ABORTED"
    assert reservations(session.order_no) == [("lamp", "RELEASED", 2), ("rare", "FAILED", 1)]
    assert shop.buyer("ann").lists()["cart"] == [("lamp", 2), ("song", 1), ("rare", 1)]
    assert available("lamp") == (5, 0)


def is_ordered_late(shop: Shop) -> None:
    session = CheckoutSession.objects.get()
    assert (session.status, session.late) == ("ORDERED", True)
    assert ("lamp", "SOLD", 2) in reservations(session.order_no)
    assert shop.buyer("ann").lists()["cart"] == [("rare", 1)]
    assert available("lamp") == (3, 0)


def is_ordered_short(shop: Shop) -> None:
    session = CheckoutSession.objects.get()
    assert (session.status, session.late) == ("ORDERED", True)
    assert reservations(session.order_no)[1:3] == [("lamp", "SOLD", 1), ("lamp", "SHORT", 1)]
    assert Attention.objects.get().reason == "short"
    assert available("lamp") == (0, 0)


def is_reversed(shop: Shop) -> None:
    assert CheckoutSession.objects.get().status == "ORDERED"
    assert available("lamp") == (5, 0)
    last = StockAdjustment.objects.filter(product_id="lamp").latest("pk")
    assert (last.delta, last.kind, last.actor) == (2, "supply", "rita")
    assert REASON in last.reason


def is_released(shop: Shop) -> None:
    session = CheckoutSession.objects.get()
    assert session.status == "ACTIVE"
    assert reservations(session.order_no) == [("lamp", "RELEASED", 2), ("rare", "FAILED", 1)]
    assert shop.buyer("ann").lists()["checkout"] == [("lamp", 2, -2), ("song", 1, None), ("rare", 1, -1)]
    assert available("lamp") == (5, 0)


def is_held_again(shop: Shop) -> None:
    session = CheckoutSession.objects.get()
    assert reservations(session.order_no) == [("lamp", "HELD", 2), ("rare", "FAILED", 1), ("rare", "HELD", 1)]
    assert shop.buyer("ann").lists()["checkout"] == [("lamp", 2, 2), ("song", 1, None), ("rare", 1, 1)]
    assert available("rare") == (2, 0)


def has_nothing_to_hold(shop: Shop) -> None:
    assert shop.buyer("ann").lists()["checkout"][2] == ("rare", 1, None)
    assert reservations(CheckoutSession.objects.get().order_no)[1:] == [("rare", "FAILED", 1)]


def is_erased(shop: Shop) -> None:
    erased = Basket.objects.get()
    assert erased.user_id.startswith("erased-")
    assert erased.hidden_at is not None
    assert CheckoutSession.objects.get().basket_id == erased.pk
    assert not BasketItem.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    assert shop.buyer("ann").basket() is None
    assert available("lamp") == (3, 0)


def is_settled(shop: Shop) -> None:
    settled = Attention.objects.get()
    assert (settled.settled_by, settled.note) == ("rita", REASON)
    assert settled.settled_at is not None


def is_in_hand_of(name: str) -> Callable[[Shop], None]:
    def check(_: Shop) -> None:
        assert attention_repairs.assignee_of(CheckoutSession.objects.get()) == name

    return check


def subject_is_in_hand_of(about: str, subject: str, name: str) -> Callable[[Shop], None]:
    def check(_: Shop) -> None:
        assert assignments.assignees(about, [subject]).get(subject, "") == name
        assert DeskEntry.objects.get(about=about, number=assignments.last_step(about, subject).number).note == REASON

    return check


def rule_is_settled(_: Shop) -> None:
    rule = BrokenRule.objects.get()
    assert (rule.settled_by, rule.note) == ("rita", REASON)
    assert DeskEntry.objects.get(kind="settled").actor == "rita"


def lamp_is(*, free: int, shortfall: int) -> Callable[[Shop], None]:
    def check(shop: Shop) -> None:
        assert available("lamp") == (free, shortfall)
        last = StockAdjustment.objects.filter(product_id="lamp").latest("pk")
        assert (last.actor, last.reason) == ("rita", REASON)

    return check


def lists_are(**wanted: Any) -> Callable[[Shop], None]:
    def check(shop: Shop) -> None:
        assert shop.buyer("ann").lists() == {"cart": [], "saved": [], "checkout": []} | wanted

    return check


def is_held_longer(shop: Shop) -> None:
    session, hold = CheckoutSession.objects.get(), StockReservation.objects.get(status="HELD")
    assert session.status == "ACTIVE"
    assert hold.expires_at == session.expires_at
    left = session.expires_at - Event.objects.latest("number").at
    assert (left.total_seconds(), available("lamp")) == (15 * 60, (3, 0))


def is_open_again(shop: Shop) -> None:
    lists_are(cart=[("lamp", 2)], saved=[("song", 1)])(shop)
    restored = shop.buyer("ann").basket()
    assert restored is not None
    assert (restored.expires_at - restored.last_changed_at).days == 30


def lasts_longer(shop: Shop) -> None:
    changed = Basket.objects.get()
    assert (changed.expires_at - changed.last_changed_at).days == 60
    assert changed.revision == 2


def is_noted(_: Shop) -> None:
    note = Event.objects.notes().get()
    assert (note.data, note.actor) == ({"repair": "note", "reason": REASON}, "rita")
    assert DeskEntry.objects.get().note == REASON


def is_hidden(shop: Shop) -> None:
    assert Basket.objects.get().hidden_at is not None
    assert shop.buyer("ann").basket() is None


def is_unlimited(shop: Shop) -> None:
    assert not Stock.objects.get(pk="lamp").limited


def song_is_limited(shop: Shop) -> None:
    assert Stock.objects.get(pk="song").limited
    assert available("song") == (8, 0)


@dataclass(frozen=True)
class Case:
    slug: str
    build: Callable[[Shop], Any]
    check: Callable[[Shop], None]
    values: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.slug} {self.build.__name__} {self.values}"


CASES = [
    Case("finish-as-ordered", active, is_ordered, {}),
    Case("finish-as-ordered", lapsed, is_ordered, {}),
    Case("abort", active, is_aborted, {}),
    Case("abort", lapsed, is_aborted, {}),
    Case("release", hold, is_released, {}),
    Case("extend-hold", nearly_over, is_held_longer, {"minutes": "15"}),
    Case("extend-hold", lapsed, is_held_longer, {"minutes": "15"}),
    Case("add-item", basket, lists_are(cart=[("lamp", 2), ("song", 3)]), {"product": "song", "count": "3"}),
    Case("restore", deleted, is_open_again, {}),
    Case("restore", expired, is_open_again, {}),
    Case("restore", not_swept, is_open_again, {}),
    Case("hold-again", failed_but_there_now, is_held_again, {}),
    Case("hold-again", failed_but_unlimited_now, has_nothing_to_hold, {}),
    Case("order-late", aborted, is_ordered_late, {}),
    Case("order-late", sold_out_since, is_ordered_short, {"accept_short": "on"}),
    Case("reverse-order", ordered, is_reversed, {}),
    Case("settle", matter, is_settled, {}),
    Case("take", matter, is_in_hand_of("rita"), {}),
    Case("take", taken, is_in_hand_of("rita"), {}),
    Case("hand-back", taken, is_in_hand_of(""), {}),
    Case("take", lapsed, is_in_hand_of("rita"), {}),
    Case("take", short_of_supply, subject_is_in_hand_of("product", "lamp", "rita"), {}),
    Case("hand-back", taken_product, subject_is_in_hand_of("product", "lamp", ""), {}),
    Case("take", broken, subject_is_in_hand_of("brokenrule", "supply_equation", "rita"), {}),
    Case("hand-back", taken_rule, subject_is_in_hand_of("brokenrule", "supply_equation", ""), {}),
    Case("settle-rule", broken, rule_is_settled, {}),
    Case("revoke-device", device, is_shut_out, {}),
    Case("set-unsold", product, lamp_is(free=5, shortfall=0), {"unsold": "7"}),
    Case("set-unsold", product, lamp_is(free=0, shortfall=1), {"unsold": "1"}),
    Case("set-unsold", product, is_unlimited, {"unlimited": "on"}),
    Case("set-unsold", unlimited, song_is_limited, {"unsold": "8"}),
    Case("adjust-supply", product, lamp_is(free=7, shortfall=0), {"pieces": "4"}),
    Case("adjust-supply", product, lamp_is(free=0, shortfall=1), {"pieces": "-4"}),
    Case(
        "change-item",
        basket,
        lists_are(cart=[("lamp", 4)], saved=[("song", 1)]),
        {"product": "lamp", "to": "cart", "count": "4"},
    ),
    Case("change-item", basket, lists_are(saved=[("song", 1), ("lamp", 2)]), {"product": "lamp", "to": "saved"}),
    Case("change-item", basket, lists_are(cart=[("lamp", 2)]), {"product": "song", "to": "out"}),
    Case("change-item", basket_with_older_id, lists_are(cart=[("lamp", 2)]), {"product": OLDER_ID, "to": "out"}),
    Case("extend", basket, lasts_longer, {"days": "60"}),
    Case("note", basket, is_noted, {}),
    Case("end", basket, is_hidden, {}),
    Case("erase", remembered, is_erased, {}),
]
