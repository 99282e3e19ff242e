"""The states of sessions and reservations: the transitions that exist, and the statements that make them."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from baskets.db.pipeline import execute
from baskets.db.statements import Statement, expect_rows
from baskets.domain.actors import Actor
from baskets.models import CheckoutSession, StockReservation
from baskets.models.basket_snapshot import BasketSnapshot

Session = CheckoutSession.Status
Reservation = StockReservation.Status

# From each state, the states it may turn into. A state that is missing here is final.
TRANSITIONS: dict[str, Collection[str]] = {
    Session.ACTIVE: {Session.ORDERED, Session.ABORTED, Session.EXPIRED},
    Session.ABORTED: {Session.ORDERED},  # Only as a late order.
    Session.EXPIRED: {Session.ORDERED},  # Only as a late order.
    Reservation.HELD: {Reservation.SOLD, Reservation.RELEASED},
}

# Fails where no session has moved, without a round trip to find that out.
MOVE_SESSION = Statement(
    "move_session",
    f"""
WITH moved AS (
    UPDATE baskets_checkoutsession
    SET status = %s, finished_at = %s, ended_revision = %s, late = %s, released_at = coalesce(released_at, %s), finished_by_key = %s
    WHERE id = %s AND basket_id = %s AND status = %s
    RETURNING id
)
{expect_rows("moved")}
""",  # noqa: S608 (its parts are constants)
)
END_HOLDS = Statement(
    "end_holds",
    """
UPDATE baskets_stockreservation SET status = %s, ended_at = %s
WHERE session_id = %s AND basket_id = %s AND status = %s
RETURNING product_id, pieces
""",
)
END_HOLD = Statement(
    "end_hold",
    """
UPDATE baskets_stockreservation SET status = %s, ended_at = %s
WHERE session_id = %s AND basket_id = %s AND product_id = %s AND status = 'HELD'
RETURNING product_id, pieces
""",
)


class IllegalTransition(Exception):
    """A defect: the life cycle has no such transition, or the row is not in the state that the caller expects."""


def move_session(after: BasketSnapshot, session_id: int, *, old: str, new: str, actor: Actor) -> None:
    """End a session, or order one late.

    The statement checks the old state: the basket is locked, so any other state is a defect. In a pipeline the error appears at the
    end of the transaction at the latest.

    :param after: the basket after this change: its `at` is the end of the session, and the release of its holds unless it is ordered.
    :param actor: the session stores the prefix of an API key.
    :raises IllegalTransition: the life cycle has no such transition, or the session is not in `old`.
    """
    _check_transition(old, new)
    late = old != Session.ACTIVE
    released_at = None if new == Session.ORDERED else after.at
    elsewhere = IllegalTransition(f"session {session_id} is not {old}")
    row = [new, after.at, after.revision, late, released_at, actor.key_prefix, session_id, after.basket_id, old]
    execute(MOVE_SESSION, row, on_no_rows=elsewhere)


def end_holds(*, basket_id: UUID, session_id: int, new: str, at: datetime) -> Iterable[tuple[str, int]]:
    """Bring all held reservations of a session to SOLD or RELEASED.

    :returns: product and pieces of each; reading them waits for the statement.
    :raises IllegalTransition: `new` is neither of the two.
    """
    _check_transition(Reservation.HELD, new)
    return execute(END_HOLDS, [new, at, session_id, basket_id, Reservation.HELD])


def end_hold(*, basket_id: UUID, session_id: int, product_id: str, new: str, at: datetime) -> Iterable[tuple[str, int]]:
    """Bring one held reservation of a session to SOLD or RELEASED, as `end_holds` does all of them."""
    _check_transition(Reservation.HELD, new)
    return execute(END_HOLD, [new, at, session_id, basket_id, product_id])


def _check_transition(old: str, new: str) -> None:
    if new not in TRANSITIONS.get(old, ()):
        raise IllegalTransition(f"there is no way from {old} to {new}")
