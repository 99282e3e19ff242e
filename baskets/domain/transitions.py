"""The states a session and a reservation may pass through, and the only lines of code that change one."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from baskets.models import CheckoutSession, StockReservation
from baskets.pipeline import execute

Session = CheckoutSession.Status
Reservation = StockReservation.Status

# From each state, the states it may turn into. A state that is missing here is final.
TRANSITIONS: dict[str, Collection[str]] = {
    Session.ACTIVE: {Session.ORDERED, Session.ABORTED, Session.EXPIRED},
    Session.ABORTED: {Session.ORDERED},  # Only as a late order.
    Session.EXPIRED: {Session.ORDERED},  # Only as a late order.
    Reservation.HELD: {Reservation.SOLD, Reservation.RELEASED},
}

MOVE_SESSION = """
UPDATE baskets_checkoutsession
SET status = %s, finished_at = %s, ended_revision = %s, late = %s, released_at = coalesce(released_at, %s)
WHERE id = %s AND basket_id = %s AND status = %s
RETURNING id
"""
END_HOLDS = """
UPDATE baskets_stockreservation SET status = %s, ended_at = %s
WHERE session_id = %s AND basket_id = %s AND status = 'HELD'
RETURNING product_id, pieces
"""
END_HOLD = """
UPDATE baskets_stockreservation SET status = %s, ended_at = %s
WHERE session_id = %s AND basket_id = %s AND product_id = %s AND status = 'HELD'
RETURNING product_id, pieces
"""


class IllegalTransition(Exception):
    """The program tried to change a state in a way the life cycle does not know, or from a state it is not in."""


def move_session(*, basket_id: UUID, session_id: int, old: str, new: str, at: datetime, revision: int) -> None:
    """End a session, or order one late.

    Compares before it sets: a session that is not in `old` is a defect, because its basket is locked.

    :param at: when; also the time of the release, where its holds are given back.
    :param revision: the basket's revision after this.
    :raises IllegalTransition: the life cycle has no such arrow, or the session is not in `old`.
    """
    _check(old, new)
    late = old != Session.ACTIVE
    released_at = None if new == Session.ORDERED else at
    moved = execute(MOVE_SESSION, [new, at, revision, late, released_at, session_id, basket_id, old])
    if moved.fetchone() is None:
        message = f"session {session_id} is not {old}"
        raise IllegalTransition(message)


def end_holds(*, basket_id: UUID, session_id: int, new: str, at: datetime) -> Iterable[tuple[str, int]]:
    """Bring all held reservations of a session to SOLD or RELEASED; going through the result tells product and pieces.

    :raises IllegalTransition: the life cycle has no such arrow.
    """
    _check(Reservation.HELD, new)
    return execute(END_HOLDS, [new, at, session_id, basket_id])


def end_hold(*, basket_id: UUID, session_id: int, product_id: str, new: str, at: datetime) -> Iterable[tuple[str, int]]:
    """Bring one held reservation of a session to SOLD or RELEASED, as `end_holds` does all of them."""
    _check(Reservation.HELD, new)
    return execute(END_HOLD, [new, at, session_id, basket_id, product_id])


def _check(old: str, new: str) -> None:
    if new not in TRANSITIONS.get(old, ()):
        message = f"there is no way from {old} to {new}"
        raise IllegalTransition(message)
