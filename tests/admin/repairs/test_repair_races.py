"""Staff against staff and against the partner, at one moment: one of them wins, and the others are refused with what has changed."""

from collections import Counter
from typing import Any

import pytest

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import expiry
from baskets.domain.errors import Refusal
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import checkout_repairs, erasure, reservation_repairs, stock_repairs
from baskets.models import Basket, CheckoutSession, Event, StockAdjustment, StockReservation
from baskets.models.basket_snapshot import Owner, ShownBasket
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User, available, reservations
from tests.factories import PartnerFactory, ProductFactory

CROWD = 10
STAFF = Actor(kind=ActorKind.STAFF, name="rita")


@pytest.fixture
def shopper(transactional_db: None) -> User:
    """A user whose checkout holds 3 of 10 shirts."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="song")
    user = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    user.place("shirt", 3)
    user.start()
    return user


def kinds(outcomes: list[Any]) -> Counter[str]:
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, Refusal):
            raise outcome  # A defect is shown with the way that led to it.
    return Counter("ShownBasket" if isinstance(outcome, ShownBasket) else type(outcome).__name__ for outcome in outcomes)


def test_staff_against_the_partner_is_one_outcome(shopper: User) -> None:
    session = CheckoutSession.objects.get()
    seen = Basket.objects.get().events

    def abort() -> None:
        runner.run(checkout_repairs.abort, session=session, expected_events=seen, reason="requested", actor=STAFF)

    outcomes = run_concurrently([call for _ in range(CROWD) for call in (abort, lambda: shopper.finish(True))])
    staff, partner = kinds(outcomes[::2]), kinds(outcomes[1::2])
    session.refresh_from_db()
    if session.status == "ORDERED":
        assert staff == {"StaleState": CROWD}
        assert partner == {"ShownBasket": CROWD}
        assert reservations(session.order_no) == [("shirt", "SOLD", 3)]
    else:
        assert staff == {"NoneType": 1, "StaleState": CROWD - 1}
        assert partner == {"CheckoutAborted": CROWD}
        assert available("shirt") == (10, 0)
        assert Event.objects.filter(kind="repaired").count() == 1
    assert invariant_checker.check_invariants() == []


@pytest.mark.parametrize("ordered", [True, False, None], ids=["ordered", "aborted", "swept"])
@pytest.mark.parametrize("name", ["release", "hold_again"])
def test_single_holds_against_the_end_of_the_checkout(shopper: User, name: str, ordered: bool | None) -> None:
    ProductFactory(product_id="rare", unsold=0)
    shopper.finish(False)
    shopper.place("rare", 2)
    shopper.place("song")
    session = shopper.start().session
    supply.set_unsold(reports={"rare": 5}, as_of=None, reason="found", actor=Actor.system("feed"))
    if ordered is None:
        shopper.wait(hours=1)
    seen = Basket.objects.get().events
    hold = StockReservation.objects.get(session=session, product_id="shirt")

    def repaired() -> None:
        common = {"expected_events": seen, "reason": "requested", "actor": STAFF}
        if name == "release":
            runner.run(reservation_repairs.release, reservation=hold, **common)
        else:
            runner.run(reservation_repairs.hold_again, session=session, **common)

    def ended() -> object:
        return expiry.expire_session(basket_id=session.basket_id) if ordered is None else shopper.finish(ordered)

    outcomes = run_concurrently([call for _ in range(CROWD) for call in (repaired, ended)])
    staff = kinds(outcomes[::2])
    session.refresh_from_db()
    assert session.status == {True: "ORDERED", False: "ABORTED", None: "EXPIRED"}[ordered]
    assert staff["NoneType"] == Event.objects.filter(kind="repaired").count() <= 1
    assert staff.total() == CROWD
    assert available("shirt")[0] in (7, 10)
    assert invariant_checker.check_invariants() == []


def test_user_who_shops_during_the_erasure_gets_a_new_basket(shopper: User) -> None:
    shopper.finish(True)
    basket = Basket.objects.get()

    def erase() -> None:
        runner.run(erasure.erase_user, basket=basket, expected_events=basket.events, reason="requested", actor=STAFF)

    outcomes = run_concurrently([call for _ in range(CROWD) for call in (erase, lambda: shopper.place("shirt"))])
    assert kinds(outcomes[1::2]) == {"ShownBasket": CROWD}
    staff = kinds(outcomes[::2])
    assert staff["NoneType"] == Basket.objects.filter(user_id__startswith="erased-").count() <= 1
    assert shopper.lists()["cart"] == [("shirt", 1)]
    assert CheckoutSession.objects.get().status == "ORDERED"
    assert available("shirt") == (7, 0)
    assert invariant_checker.check_invariants() == []


def test_one_page_sent_many_times_adds_its_pieces_once(shopper: User) -> None:
    seen = stock_repairs.last_adjustment("shirt")

    def add() -> None:
        runner.run(
            stock_repairs.adjust_supply, product_id="shirt", pieces=5, expected_adjustment=seen, reason="a box was found", actor=STAFF
        )

    assert kinds(run_concurrently([add] * CROWD)) == {"NoneType": 1, "StaleState": CROWD - 1}
    assert available("shirt") == (12, 0)
    assert invariant_checker.check_invariants() == []


def test_a_product_becomes_limited_once(shopper: User) -> None:
    def limit(pieces: int) -> None:
        runner.run(
            stock_repairs.set_unsold, product_id="song", unsold=pieces, as_of=None, expected_adjustment=0, reason="counted", actor=STAFF
        )

    calls = [lambda number=number: limit(number) for number in range(1, CROWD + 1)]
    assert kinds(run_concurrently(calls)) == {"NoneType": 1, "StaleState": CROWD - 1}
    only = StockAdjustment.objects.get(product_id="song")
    assert available("song") == (only.reported, 0)
    assert invariant_checker.check_invariants() == []
