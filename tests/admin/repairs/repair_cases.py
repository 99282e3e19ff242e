"""Every repair with a state it fits, and what it makes of that. The tests are in `test_repairs`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from baskets.domain.support import assignments, attention_repairs
from baskets.models import (
    Attention,
    Basket,
    BasketItem,
    BrokenRule,
    CheckoutSession,
    DeskEntry,
    Event,
    IdempotencyRecord,
    Stock,
    StockAdjustment,
    StockReservation,
)
from tests.admin.conftest import Shop
from tests.admin.repairs.repair_states import (
    OLDER_ID,
    REASON,
    aborted,
    active,
    basket,
    basket_with_older_id,
    broken,
    deleted,
    device,
    expired,
    failed_but_there_now,
    failed_but_unlimited_now,
    hold,
    is_shut_out,
    lapsed,
    matter,
    nearly_over,
    not_swept,
    ordered,
    product,
    remembered,
    short_of_supply,
    sold_out_since,
    taken,
    taken_product,
    taken_rule,
    unlimited,
)
from tests.domain.scenarios import available, reservations


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
