"""The life cycle, arrow by arrow: every pair of states is tried on real rows, and written out here."""

from datetime import timedelta

import pytest
from django.db import transaction

from baskets.domain.checkout.states import IllegalTransition, end_holds, move_session
from baskets.models import CheckoutSession, StockReservation
from baskets.models.basket_snapshot import Owner, read_basket
from tests.conftest import APP
from tests.domain.scenarios import User
from tests.factories import ProductFactory

SESSION_STATES = ("ACTIVE", "ORDERED", "ABORTED", "EXPIRED")
SESSION_ARROWS = {
    ("ACTIVE", "ORDERED"),
    ("ACTIVE", "ABORTED"),
    ("ACTIVE", "EXPIRED"),
    ("ABORTED", "ORDERED"),
    ("EXPIRED", "ORDERED"),
}


PAIRS = [(old, new) for old in SESSION_STATES for new in SESSION_STATES]


def session_in(state: str, owner: Owner) -> CheckoutSession:
    """Bring a session to a state by the arrows that lead there."""
    ProductFactory(product_id="shirt", unsold=5)
    user = User(owner)
    user.place("shirt", 2)
    user.start()
    session = CheckoutSession.objects.get()
    if state != "ACTIVE":
        move(session, "ACTIVE", state)
    return CheckoutSession.objects.get()


def move(session: CheckoutSession, old: str, new: str) -> None:
    basket = read_basket(session.basket_id)
    assert basket is not None
    after = basket._replace(at=session.started_at + timedelta(seconds=1), revision=7)
    with transaction.atomic():
        move_session(after, session.pk, old=old, new=new, actor=APP)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_session_moves_along_the_arrows_and_no_other_way(owner: Owner, old: str, new: str) -> None:
    session = session_in(old, owner)
    if (old, new) in SESSION_ARROWS:
        move(session, old, new)
        moved = CheckoutSession.objects.get()
        released = new != "ORDERED" or old != "ACTIVE"
        assert (moved.status, moved.late, moved.ended_revision) == (new, old != "ACTIVE", 7)
        assert (moved.released_at is not None) == released
    else:
        with pytest.raises(IllegalTransition):
            move(session, old, new)
        assert CheckoutSession.objects.get().status == old


def test_a_session_that_is_not_where_it_should_be_does_not_move(owner: Owner) -> None:
    session = session_in("ABORTED", owner)
    with pytest.raises(IllegalTransition):
        move(session, "ACTIVE", "ORDERED")
    with pytest.raises(IllegalTransition):
        move(session, "EXPIRED", "ORDERED")
    assert CheckoutSession.objects.get().status == "ABORTED"


@pytest.mark.parametrize("new", StockReservation.Status.values)
def test_a_hold_ends_sold_or_released_and_no_other_way(owner: Owner, new: str) -> None:
    session = session_in("ACTIVE", owner)
    ending = {"basket_id": session.basket_id, "session_id": session.pk, "new": new, "at": session.started_at}
    if new in ("SOLD", "RELEASED"):
        assert list(end_holds(**ending)) == [("shirt", 2)]
        assert list(end_holds(**ending)) == []
        assert StockReservation.objects.get().status == new
    else:
        with pytest.raises(IllegalTransition):
            end_holds(**ending)
        assert StockReservation.objects.get().status == "HELD"
