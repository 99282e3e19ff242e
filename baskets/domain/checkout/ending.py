"""Ends active sessions unsold: releases their holds, and returns every item to the cart. One session, or the many of a sweep.

Two forms of one rule, because neither can serve for both: statements over arrays double the time of an abort, and one statement
for each session doubles the time that a sweep holds its locks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.store import BasketChange, write_and_record_many, write_lists
from baskets.domain.baskets.timeline import lines_as_json, record_event
from baskets.domain.checkout.states import Reservation, Session, end_holds, expire_sessions, move_session, release_holds
from baskets.domain.stock import counters
from baskets.models import Event
from baskets.models.basket_snapshot import ActiveSession, BasketSnapshot


def end_unsold(snapshot: BasketSnapshot, *, to: Session, actor: Actor) -> BasketSnapshot:
    """Abort or expire the active session: release its holds, and return every item to the cart.

    Needs the basket's lock; locks stock rows by primary key, last. `expire_all` does the same for many baskets.

    :param to: ABORTED or EXPIRED.
    """
    session = _require_active(snapshot)
    kind = Event.Kind.CHECKOUT_ABORTED if to == Session.ABORTED else Event.Kind.CHECKOUT_EXPIRED
    after = write_lists(before=snapshot, after=lists.with_lines_returned(snapshot, snapshot.checkout))
    pieces = dict(end_holds(basket_id=snapshot.basket_id, session_id=session.id, new=Reservation.RELEASED, at=snapshot.at))
    record_event(snapshot=after, kind=kind, actor=actor, session_id=session.id, data=_released_event_data(snapshot, pieces))
    move_session(after, session.id, old=Session.ACTIVE, new=to, actor=actor)
    counters.release(pieces)
    return after


def expire_all(lapsed: Sequence[BasketSnapshot], *, actor: Actor) -> None:
    """Expire the active sessions of many baskets, in as many statements as `end_unsold` needs for one.

    Needs the baskets' locks; locks stock rows by primary key, last.
    """
    released = release_holds(lapsed)
    changes = [
        BasketChange(
            before=snapshot,
            after=lists.with_lines_returned(snapshot, snapshot.checkout),
            data=_released_event_data(snapshot, released[snapshot.basket_id]),
            session_id=snapshot.session.id if snapshot.session else None,
        )
        for snapshot in lapsed
    ]
    expire_sessions(before=lapsed, after=write_and_record_many(changes, kind=Event.Kind.CHECKOUT_EXPIRED, actor=actor))
    pieces = Counter[str]()
    for of_basket in released.values():
        pieces.update(of_basket)
    counters.release(pieces)


def _released_event_data(snapshot: BasketSnapshot, pieces: Mapping[str, int]) -> dict[str, Any]:
    """Build the event data of a session whose holds were released; `pieces` are the released ones by product."""
    return {"orderNo": _require_active(snapshot).order_no, "items": lines_as_json(snapshot.checkout), "released": dict(pieces)}


def _require_active(snapshot: BasketSnapshot) -> ActiveSession:
    if snapshot.session is None:
        raise ValueError("the basket has no active session to end")
    return snapshot.session
