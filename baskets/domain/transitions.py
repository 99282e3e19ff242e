"""The states a session and a reservation may pass through, and the only lines of code that change one."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from baskets.models import CheckoutSession, StockReservation

Session = CheckoutSession.Status
Reservation = StockReservation.Status

# From each state, the states it may turn into. A state that is missing here is final.
TRANSITIONS: dict[str, Collection[str]] = {
    Session.ACTIVE: {Session.ORDERED, Session.ABORTED, Session.EXPIRED},
    Session.ABORTED: {Session.ORDERED},  # Only as a late order.
    Session.EXPIRED: {Session.ORDERED},  # Only as a late order.
    Reservation.HELD: {Reservation.SOLD, Reservation.RELEASED},
}


class IllegalTransition(Exception):  # noqa: N818 (a defect of the program, not an outcome)
    """The program tried to change a state in a way the life cycle does not know, or from a state it is not in."""


def move_session(*, basket_id: UUID, session_id: int, old: str, new: str, **fields: Any) -> None:
    """Bring a session from one state to another, together with the fields that belong to the new state.

    Compares before it sets: a session that is not in `old` is a defect, because its basket is locked.

    :raises IllegalTransition: the life cycle has no such arrow, or the session is not in `old`.
    """
    _check(old, new)
    session = CheckoutSession.objects.filter(pk=session_id, basket_id=basket_id, status=old)
    if session.update(status=new, **fields) != 1:
        message = f"session {session_id} is not {old}"
        raise IllegalTransition(message)


def end_holds(*, basket_id: UUID, session_id: int, new: str, **fields: Any) -> None:
    """Bring all held reservations of a session to SOLD or RELEASED.

    :raises IllegalTransition: the life cycle has no such arrow.
    """
    _check(Reservation.HELD, new)
    holds = StockReservation.objects.held().filter(basket_id=basket_id, session_id=session_id)
    holds.update(status=new, **fields)


def _check(old: str, new: str) -> None:
    if new not in TRANSITIONS.get(old, ()):
        message = f"there is no way from {old} to {new}"
        raise IllegalTransition(message)
