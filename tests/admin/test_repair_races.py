"""Staff against staff and against the partner, at one moment: one of them wins, and the others are told what moved."""

from collections import Counter
from typing import Any

import pytest

from baskets.domain import checker, repair, transactions
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.errors import Refusal
from baskets.models import Basket, CheckoutSession, Event, StockAdjustment
from baskets.models.contents import Owner
from tests.domain.worlds import User, available, reservations
from tests.factories import PartnerFactory, ProductFactory
from tests.races.barrier import together

CROWD = 10
STAFF = Actor(kind=ActorKind.STAFF, name="rita")


@pytest.fixture
def anna(transactional_db: None) -> User:
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
    return Counter(type(outcome).__name__ for outcome in outcomes)


def test_staff_against_the_partner_is_one_outcome(anna: User) -> None:
    session = CheckoutSession.objects.get()
    seen = Basket.objects.get().events

    def abort() -> None:
        transactions.run(lambda _: repair.abort(session=session, expected_events=seen, reason="asked for", actor=STAFF))

    outcomes = together([call for _ in range(CROWD) for call in (abort, lambda: anna.finish(True))])
    staff, partner = kinds(outcomes[::2]), kinds(outcomes[1::2])
    session.refresh_from_db()
    if session.status == "ORDERED":
        assert staff == {"StateMoved": CROWD}
        assert partner == {"Contents": CROWD}
        assert reservations(session.order_no) == [("shirt", "SOLD", 3)]
    else:
        assert staff == {"NoneType": 1, "StateMoved": CROWD - 1}
        assert partner == {"CheckoutAborted": CROWD}
        assert available("shirt") == (10, 0)
        assert Event.objects.filter(kind="repaired").count() == 1
    assert checker.findings() == []


def test_one_page_sent_many_times_adds_its_pieces_once(anna: User) -> None:
    seen = repair.last_adjustment("shirt")

    def add() -> None:
        transactions.run(
            lambda _: repair.adjust_supply(product_id="shirt", pieces=5, expected_adjustment=seen, reason="a box was found", actor=STAFF)
        )

    assert kinds(together([add] * CROWD)) == {"NoneType": 1, "StateMoved": CROWD - 1}
    assert available("shirt") == (12, 0)
    assert checker.findings() == []


def test_a_product_becomes_limited_once(anna: User) -> None:
    def limit(pieces: int) -> None:
        transactions.run(
            lambda _: repair.set_unsold(product_id="song", unsold=pieces, expected_adjustment=0, reason="counted", actor=STAFF)
        )

    calls = [lambda number=number: limit(number) for number in range(1, CROWD + 1)]
    assert kinds(together(calls)) == {"NoneType": 1, "StateMoved": CROWD - 1}
    only = StockAdjustment.objects.get(product_id="song")
    assert available("song") == (only.reported, 0)
    assert checker.findings() == []
