"""The life of a checkout session: the table of its outcomes, cell by cell."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from baskets.domain import errors
from baskets.domain.stock import supply
from baskets.models import Attention, CheckoutSession, Event, Partner, Product
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User, available, reservations
from tests.factories import TESTER, ProductFactory

Stored = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user with 2 of a limited shirt (5 unsold) and 1 unlimited song in the cart."""
    ProductFactory(product_id="shirt", unsold=5)
    ProductFactory(product_id="song", price=99)
    user = User(owner)
    user.place("shirt", 2)
    user.place("song", 1)
    return user


def test_start_moves_the_whole_cart_and_holds_its_stock(shopper: User) -> None:
    """Checkout lists what is held, the price is over what can be ordered, the end of the hold is half an hour away."""
    started = shopper.start()
    assert shopper.lists() == {"cart": [], "saved": [], "checkout": [("shirt", 2, 2), ("song", 1, None)]}
    assert available("shirt") == (3, 0)
    assert (started.session.full_price, started.session.currency) == (2 * 1999 + 99, "EUR")
    assert started.session.expires_at - started.session.started_at == timedelta(minutes=30)
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", started.session.order_no)
    assert reservations(started.session.order_no) == [("shirt", "HELD", 2)]


def test_order_sells_what_is_held_and_writes_no_stock(shopper: User) -> None:
    """Held becomes sold; the counters stay; checkout is empty."""
    order_no = shopper.start().session.order_no
    shopper.finish(True)
    assert shopper.lists() == {"cart": [], "saved": [], "checkout": []}
    assert available("shirt") == (3, 0)
    assert reservations(order_no) == [("shirt", "SOLD", 2)]


def test_abort_returns_every_item_to_its_old_place_and_releases_the_hold(shopper: User) -> None:
    """Counts are added to items added since; a product that was saved since leaves saved."""
    ProductFactory(product_id="cap")
    order_no = shopper.start().session.order_no
    shopper.place("cap", 1)
    shopper.place("shirt", 3)
    shopper.place("song", 0)
    answered = shopper.finish(False)
    assert shopper.lists() == {"cart": [("shirt", 5), ("song", 1), ("cap", 1)], "saved": [], "checkout": []}
    # What is answered was not read again.
    assert ([line.product_id for line in answered.cart], answered.saved, answered.checkout) == (["shirt", "song", "cap"], (), ())
    assert available("shirt") == (5, 0)
    assert reservations(order_no) == [("shirt", "RELEASED", 2)]


def test_an_item_that_cannot_be_held_whole_is_not_bought_and_returns_on_order(shopper: User) -> None:
    """The missing number is shown as a negative; the rest is ordered; the failed item is in the cart again."""
    ProductFactory(product_id="last-ones", unsold=3, price=100_000)
    shopper.place("last-ones", 5)
    started = shopper.start()
    assert shopper.lists()["checkout"] == [("shirt", 2, 2), ("song", 1, None), ("last-ones", 5, -2)]
    assert started.session.full_price == 2 * 1999 + 99
    assert CheckoutSession.objects.get().full_price == 2 * 1999 + 99
    assert reservations(started.session.order_no) == [("last-ones", "FAILED", 5), ("shirt", "HELD", 2)]
    assert available("last-ones") == (3, 0)
    shopper.finish(True)
    assert shopper.lists() == {"cart": [("last-ones", 5)], "saved": [], "checkout": []}


def test_a_start_with_nothing_to_order_changes_nothing(owner: Owner, stored_rows: Stored) -> None:
    """Out of stock names wanted and available."""
    ProductFactory(product_id="gone", unsold=1)
    ProductFactory(product_id="unlisted")
    user = User(owner)
    user.place("gone", 2)
    user.place("unlisted", 1)
    Product.objects.filter(pk="unlisted").update(listed=False)
    before = stored_rows()
    with pytest.raises(errors.OutOfStock) as refusal:
        user.start()
    assert [(m.product_id, m.wanted, m.available) for m in refusal.value.shortages] == [
        ("gone", 2, 1),
        ("unlisted", 1, 0),
    ]
    assert refusal.value.attention is None
    assert stored_rows() == before


def test_an_unlisted_product_fails_in_a_start_and_stays_in_the_cart_after_the_order(shopper: User) -> None:
    """Even an unlimited one."""
    Product.objects.filter(pk="song").update(listed=False)
    shopper.start()
    assert shopper.lists()["checkout"] == [("shirt", 2, 2), ("song", 1, -1)]
    shopper.finish(True)
    assert shopper.lists()["cart"] == [("song", 1)]


def test_the_refusal_of_a_second_start_names_the_session(shopper: User, stored_rows: Stored) -> None:
    """One active checkout per basket."""
    started = shopper.start()
    before = stored_rows()
    with pytest.raises(errors.CheckoutActive) as refusal:
        shopper.start()
    assert refusal.value.active.order_no == started.session.order_no
    assert stored_rows() == before


def test_a_start_without_a_basket_or_with_an_empty_cart_is_refused(shopper: User, stored_rows: Stored) -> None:
    """And creates nothing."""
    shopper.remove("shirt")
    shopper.place("song", 0)
    before = stored_rows()
    for user in (shopper, shopper.beside("unknown")):
        with pytest.raises(errors.CartEmpty):
            user.start()
    assert stored_rows() == before


def test_the_hold_is_as_long_as_the_partners_own(shopper: User) -> None:
    Partner.objects.update(hold_seconds=60)
    session = shopper.start().session
    assert session.expires_at - session.started_at == timedelta(seconds=60)


def test_a_test_session_buys_unlisted_products_too(shopper: User) -> None:
    Product.objects.update(listed=False)
    shopper.start(test_mode=True)
    assert shopper.lists()["checkout"] == [("shirt", 2, None), ("song", 1, None)]


def test_a_test_session_touches_no_stock(shopper: User) -> None:
    """Nothing is held, ordered late or not."""
    started = shopper.start(test_mode=True)
    assert shopper.lists()["checkout"] == [("shirt", 2, None), ("song", 1, None)]
    shopper.finish(False)
    shopper.finish(True, started.session.order_no)
    assert available("shirt") == (5, 0)
    assert reservations(started.session.order_no) == []


@pytest.mark.parametrize("named", [False, True])
def test_finishing_twice_says_the_same_and_changes_nothing(shopper: User, stored_rows: Stored, *, named: bool) -> None:
    """Ordered is final: a repeat succeeds, an abort is refused."""
    order_no = shopper.start().session.order_no
    name = order_no if named else None
    first = shopper.finish(True, name)
    before = stored_rows()
    second = shopper.finish(True, name)
    assert second.last_changed_at == first.last_changed_at
    with pytest.raises(errors.CheckoutAlreadyOrdered):
        shopper.finish(False, name)
    assert stored_rows() == before


def test_an_aborted_session_is_ordered_only_by_its_name(shopper: User) -> None:
    """The partner's abort is not overruled by accident, but the customer may have paid."""
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    revision = shopper.finish(False).revision
    for _ in range(2):
        with pytest.raises(errors.CheckoutAborted):
            shopper.finish(True)
    assert list(Attention.objects.values_list("session__order_no", "reason")) == [(order_no, "checkout_aborted")]
    assert Event.objects.filter(kind="attention_needed").count() == 1
    after = shopper.finish(True, order_no)
    assert after.revision == revision + 1
    assert shopper.lists() == {"cart": [], "saved": [], "checkout": []}
    assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 2)]
    assert available("shirt") == (3, 0)
    assert CheckoutSession.objects.values_list("status", "late").get() == ("ORDERED", True)


def test_a_lapsed_session_is_still_finished_as_held(shopper: User) -> None:
    """Lapsed or not: what is held is a right until it is swept."""
    order_no = shopper.start().session.order_no
    shopper.wait(minutes=31)
    shopper.finish(True)
    assert reservations(order_no) == [("shirt", "SOLD", 2)]
    assert CheckoutSession.objects.values_list("status", "late").get() == ("ORDERED", False)


def test_no_active_checkout_names_the_last_one_and_flags_it(shopper: User) -> None:
    """Once the basket has changed, an old order is not mistaken for a new one."""
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    shopper.place("song", 7)
    for ordered in (True, False):
        with pytest.raises(errors.NoActiveCheckout) as refusal:
            shopper.finish(ordered)
        assert refusal.value.last is not None
        assert (refusal.value.last.order_no, refusal.value.last.status) == (order_no, "ABORTED")
    assert list(Attention.objects.values_list("session__order_no", "reason")) == [(order_no, "basket_changed")]


def test_a_call_that_changes_nothing_does_not_hide_the_last_session(shopper: User) -> None:
    """The same count again changes nothing, so the repeat of the finish is still understood."""
    shopper.start()
    snapshot = shopper.finish(False)
    assert shopper.place("shirt", 2).revision == snapshot.revision
    assert shopper.change("shirt", None).revision == snapshot.revision
    assert shopper.finish(False).revision == snapshot.revision


def test_an_unknown_order_number_differs_from_no_basket(shopper: User, stored_rows: Stored) -> None:
    """Nothing is created."""
    before = stored_rows()
    with pytest.raises(errors.NoActiveCheckout) as refusal:
        shopper.finish(True)
    assert refusal.value.last is None
    with pytest.raises(errors.OrderNotFound):
        shopper.finish(True, "0000-0000-0000-0000")
    with pytest.raises(errors.BasketNotFound):
        shopper.beside("unknown").finish(True)
    assert stored_rows() == before


def test_an_order_number_of_another_user_is_unknown(shopper: User) -> None:
    """Sessions belong to their basket."""
    order_no = shopper.start().session.order_no
    other_shopper = shopper.beside("ben")
    other_shopper.place("song")
    with pytest.raises(errors.OrderNotFound):
        other_shopper.finish(True, order_no)


def test_naming_an_old_session_leaves_the_active_one_alone(shopper: User) -> None:
    """A late repeat can never hit the next one; a late order takes its own pieces and touches no newer session."""
    first = shopper.start().session.order_no
    shopper.finish(False)
    second = shopper.start().session.order_no
    shopper.finish(True, first)
    assert shopper.lists()["checkout"] == [("shirt", 2, 2), ("song", 1, None)]
    assert available("shirt") == (1, 0)
    shopper.finish(True)
    assert reservations(second) == [("shirt", "SOLD", 2)]
    assert available("shirt") == (1, 0)


def test_a_late_order_after_the_grace_period_is_refused_and_flagged(shopper: User) -> None:
    """24 hours from the abort."""
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    shopper.wait(hours=24, minutes=1)
    with pytest.raises(errors.CheckoutExpired):
        shopper.finish(True, order_no)
    assert list(Attention.objects.values_list("reason", flat=True)) == ["checkout_expired"]


@pytest.mark.parametrize("policy", Partner.LateOrders.values)
def test_a_late_order_without_stock_follows_the_partners_setting(shopper: User, policy: str) -> None:
    """Refuse: nothing changed but the flag. Accept: what is there is sold, the rest is short."""
    Partner.objects.update(late_orders=policy)
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 4)
    other_shopper.start()
    if policy == "refuse":
        with pytest.raises(errors.OutOfStock) as refusal:
            shopper.finish(True, order_no)
        assert [(m.product_id, m.wanted, m.available) for m in refusal.value.shortages] == [("shirt", 2, 1)]
        assert shopper.lists()["cart"] == [("shirt", 2), ("song", 1)]
        assert available("shirt") == (1, 0)
        assert list(Attention.objects.values_list("reason", flat=True)) == ["out_of_stock"]
    else:
        shopper.finish(True, order_no)
        assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 1), ("shirt", "SHORT", 1)]
        assert shopper.lists()["cart"] == []
        assert available("shirt") == (0, 0)
        assert list(Attention.objects.values_list("reason", flat=True)) == ["short"]


def test_a_late_order_takes_from_the_cart_no_more_than_came_back(shopper: User) -> None:
    """Pieces added since stay; what was saved since stays saved; failed items stay."""
    ProductFactory(product_id="gone", unsold=0)
    shopper.place("gone", 1)
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    shopper.place("shirt", 5)
    shopper.place("song", 0)
    shopper.finish(True, order_no)
    assert shopper.lists() == {"cart": [("shirt", 3), ("gone", 1)], "saved": [("song", 1)], "checkout": []}


@pytest.mark.parametrize(("then", "today", "sold"), [(5, None, []), (None, 5, [("shirt", "SOLD", 2)])])
def test_a_late_order_goes_by_todays_stock_setting(
    owner: Owner, then: int | None, today: int | None, sold: list[tuple[str, str, int]]
) -> None:
    """Limited then and unlimited now needs no stock; unlimited then and limited now takes it."""
    ProductFactory(product_id="shirt", unsold=then)
    user = User(owner)
    user.place("shirt", 2)
    order_no = user.start().session.order_no
    user.finish(False)
    supply.set_unsold(reports={"shirt": today}, as_of=None, reason="feed", actor=TESTER)
    user.finish(True, order_no)
    assert [row for row in reservations(order_no) if row[1] == "SOLD"] == sold


def test_deleting_keeps_what_an_order_number_names(shopper: User) -> None:
    """The basket is gone for its user; a call by order number still gets its answer; an addition brings it back."""
    order_no = shopper.start().session.order_no
    shopper.finish(False)
    shopper.delete()
    assert shopper.basket() is None
    with pytest.raises(errors.BasketNotFound):
        shopper.delete()
    with pytest.raises(errors.BasketNotFound):
        shopper.finish(True)
    shopper.finish(True, order_no)
    assert shopper.basket() is None
    assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 2)]
    shopper.place("song", 1)
    assert shopper.lists() == {"cart": [("song", 1)], "saved": [], "checkout": []}


def test_deleting_is_refused_while_a_checkout_is_active_and_expires_a_lapsed_one(shopper: User) -> None:
    """A dead sweep blocks no user."""
    shopper.start()
    with pytest.raises(errors.CheckoutActive):
        shopper.delete()
    shopper.wait(minutes=31)
    shopper.delete()
    assert available("shirt") == (5, 0)
    assert CheckoutSession.objects.get().status == "EXPIRED"


def test_timeline_counts_every_change_once(shopper: User) -> None:
    """Numbers without gaps, the actor, the request and the attribution in each line."""
    shopper.start()
    shopper.finish(True)
    shopper.finish(True)
    events = list(Event.objects.order_by("number").values_list("number", "revision", "kind", "actor", "request_id"))
    assert events == [
        (1, 1, "item_placed", "testkey", "request-1"),
        (2, 2, "item_placed", "testkey", "request-1"),
        (3, 3, "checkout_started", "testkey", "request-1"),
        (4, 4, "checkout_ordered", "testkey", "request-1"),
    ]
    assert set(Event.objects.values_list("tracking__session_id", flat=True)) == {"s-1"}
