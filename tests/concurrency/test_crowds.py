"""Many callers at one moment, on one basket and on one product."""

from collections import Counter

import pytest

from baskets.db.transactions import run_in_transaction
from baskets.domain import errors
from baskets.domain.checkout import expiry
from baskets.domain.stock import supply
from baskets.models import CheckoutSession, Event
from baskets.models.basket_snapshot import ShownBasket
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User, available, reservations
from tests.factories import TESTER

CROWD = 20


def kinds(outcomes: list[object]) -> Counter[str]:
    """How many calls came out how."""
    return Counter("ShownBasket" if isinstance(outcome, ShownBasket) else type(outcome).__name__ for outcome in outcomes)


@pytest.mark.parametrize("ordered", [True, False])
def test_identical_concurrent_finishes_make_one_transition(shopper: User, ordered: bool) -> None:
    """One event, every hold closed once, and all answers say the same."""
    shopper.place("shirt", 3)
    order_no = shopper.start().session.order_no
    outcomes = run_concurrently([lambda: shopper.finish(ordered)] * CROWD)
    assert kinds(outcomes) == {"ShownBasket": CROWD}
    assert len({(o.cart, o.checkout, o.last_changed_at) for o in outcomes}) == 1
    assert reservations(order_no) == [("shirt", "SOLD" if ordered else "RELEASED", 3)]
    assert Event.objects.filter(kind__startswith="checkout_").count() == 2
    assert available("shirt") == (7 if ordered else 10, 0)


def test_concurrent_order_and_abort_have_one_outcome(shopper: User) -> None:
    """The first to lock wins; the others get the refusal of the transition table."""
    shopper.place("shirt", 3)
    shopper.start()
    yes, no = [lambda: shopper.finish(True)] * 10, [lambda: shopper.finish(False)] * 10
    outcomes = run_concurrently([call for pair in zip(yes, no, strict=True) for call in pair])
    if CheckoutSession.objects.get().status == "ORDERED":
        assert kinds(outcomes[::2]) == {"ShownBasket": 10}
        assert kinds(outcomes[1::2]) == {"CheckoutAlreadyOrdered": 10}
    else:
        assert kinds(outcomes[1::2]) == {"ShownBasket": 10}
        assert kinds(outcomes[::2]) == {"CheckoutAborted": 10}


@pytest.mark.usefixtures("both_ways_to_start")
def test_concurrent_starts_of_one_basket_make_one_session(shopper: User) -> None:
    """The other calls are refused with `checkout_active`."""
    shopper.place("shirt", 1)
    outcomes = run_concurrently([shopper.start] * CROWD)
    assert kinds(outcomes) == {"StartedSession": 1, "CheckoutActive": CROWD - 1}
    assert available("shirt") == (9, 0)


def test_concurrent_first_additions_make_one_basket(shopper: User) -> None:
    """The unique key decides which call inserts the row; all calls succeed."""
    outcomes = run_concurrently([lambda: shopper.place("shirt", 1)] * 10 + [lambda: shopper.place("cap", 2)] * 10)
    assert kinds(outcomes) == {"ShownBasket": CROWD}
    assert sorted(shopper.lists()["cart"]) == [("cap", 2), ("shirt", 1)]


@pytest.mark.usefixtures("both_ways_to_start")
def test_twenty_concurrent_starts_sell_exactly_ten_pieces(shopper: User) -> None:
    """20 buyers for 10 pieces: 10 hold, 10 get the shortage."""
    buyers = [shopper.beside(f"buyer-{n}") for n in range(CROWD)]
    for buyer in buyers:
        buyer.place("shirt", 1)
    outcomes = run_concurrently([buyer.start for buyer in buyers])
    assert kinds(outcomes) == {"StartedSession": 10, "OutOfStock": 10}
    assert available("shirt") == (0, 0)


@pytest.mark.usefixtures("both_ways_to_start")
def test_carts_in_opposite_orders_do_not_deadlock(shopper: User) -> None:
    """Stock rows are locked by primary key, whatever the order of the cart."""
    buyers = [shopper.beside(f"buyer-{n}") for n in range(10)]
    for n, buyer in enumerate(buyers):
        for product_id in ("shirt", "cap") if n % 2 else ("cap", "shirt"):
            buyer.place(product_id, 1)
    assert kinds(run_concurrently([buyer.start for buyer in buyers])) == {"StartedSession": 10}
    assert kinds(run_concurrently([lambda b=buyer: b.finish(False) for buyer in buyers])) == {"ShownBasket": 10}
    assert (available("shirt"), available("cap")) == ((10, 0), (10, 0))


def test_finish_beside_a_sweep_sells_each_piece_once(shopper: User) -> None:
    """And a finish that comes second is a late order: the pieces are sold once either way."""
    for n in range(5):
        user = shopper.beside(f"user-{n}")
        user.place("shirt", 1)
        order_no = user.start().session.order_no
        user.wait(minutes=31)
        finished, _ = run_concurrently([lambda u=user: u.finish(True), expiry.sweep_sessions])
        assert isinstance(finished, ShownBasket)
        assert ("shirt", "SOLD", 1) in reservations(order_no)
        assert user.lists() == {"cart": [], "saved": [], "checkout": []}
    assert available("shirt") == (5, 0)


def test_concurrent_sweeps_expire_each_session_once(shopper: User) -> None:
    """They pass by what the other has locked."""
    for n in range(10):
        user = shopper.beside(f"user-{n}")
        user.place("shirt", 1)
        user.start()
        user.wait(minutes=31)
    expired = sum(batch.expired for batch in run_concurrently([expiry.sweep_sessions] * 4))
    assert expired + expiry.sweep_sessions().expired == 10
    assert Event.objects.filter(kind="checkout_expired").count() == 10
    assert available("shirt") == (10, 0)


def test_concurrent_reclaims_and_aborts_do_not_deadlock(shopper: User) -> None:
    """Reclaiming is outside of the start's transaction."""
    holders = [shopper.beside(f"holder-{n}") for n in range(5)]
    for holder in holders:
        holder.place("shirt", 1)
        holder.place("cap", 2)
        holder.start()
        holder.wait(minutes=31)
    buyers = [shopper.beside(f"buyer-{n}") for n in range(5)]
    for buyer in buyers:
        buyer.place("cap", 2)
        buyer.place("shirt", 1)
    calls = [buyer.start for buyer in buyers] + [lambda h=holder: h.finish(False) for holder in holders]
    outcomes = run_concurrently(calls)
    assert kinds(outcomes[5:]) == {"ShownBasket": 5}
    assert set(kinds(outcomes[:5])) <= {"StartedSession"}
    held = sum(1 for buyer in buyers if ("cap", 2, 2) in buyer.lists()["checkout"])
    assert available("cap") == (10 - 2 * held, 0)


def test_stock_report_beside_starts_keeps_the_balance(shopper: User) -> None:
    """Holds stay; the rest is what the feed reported minus the holds."""
    buyers = [shopper.beside(f"buyer-{n}") for n in range(8)]
    for buyer in buyers:
        buyer.place("shirt", 1)

    def feed() -> int:
        return run_in_transaction(lambda: supply.set_unsold(reports={"shirt": 4, "cap": 1}, as_of=None, reason="feed", actor=TESTER))

    outcomes = run_concurrently([*(buyer.start for buyer in buyers), feed])
    held = kinds(outcomes)["StartedSession"]
    assert available("shirt") == (max(4 - held, 0), max(held - 4, 0))


def test_delete_beside_an_addition_loses_nothing_added_afterwards(shopper: User) -> None:
    """Either the addition went with the basket, or it is in the new one."""
    shopper.place("shirt", 1)
    outcomes = run_concurrently([shopper.delete, lambda: shopper.place("cap", 2)])
    assert not any(isinstance(outcome, errors.Refusal) for outcome in outcomes)
    assert [name for name, _ in (shopper.lists()["cart"] if shopper.basket() else [])] in ([], ["cap"])
