"""Ends active sessions unsold: releases their holds, and returns every item to the cart. One session, or the many of a sweep.

Two forms of one rule: `end_unsold` decides in Python, from the snapshot that its caller has read anyway, and `EXPIRE_SESSIONS` does the
same for a batch in one statement, in a third of the time. `tests/domain/checkout/test_ending.py` and the model hold them equal.
"""

from collections.abc import Mapping
from typing import Any

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import ArrayLiteral, Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.store import NEXT_REVISION, write_baskets_of, write_lists
from baskets.domain.baskets.timeline import INSERT_INTO_EVENT, lines_as_json, record_event
from baskets.domain.checkout.states import Reservation, Session, end_holds, move_session
from baskets.domain.stock import counters
from baskets.models import Event
from baskets.models.basket_snapshot import ActiveSession, BasketSnapshot

# Each part finds its rows by a key of `lapsed`, so that the time grows with the batch and with nothing else. A plan does not know the sizes
# of the parts, and would join two of them by comparing all pairs. Only a hash or a sort can make a FULL JOIN; as each session of `line` and
# `released` is one of `lapsed`, the result is that of a LEFT JOIN. Statuses are parameters: with constants, a plan that was made while
# nothing was held reads the whole of a partial index, which was empty then and is long in a crowd.
# The items do as `lists.with_lines_returned` says. An insert that may meet a row looks for it first, and writes one record of WAL more; an
# empty basket, as most are, cannot have one.
EXPIRE_SESSIONS = Statement(
    "expire_sessions",
    f"""
WITH lapsed AS (
    SELECT {NEXT_REVISION}, session.id AS session_id, session.order_no,
           NOT EXISTS (SELECT FROM baskets_basketitem item WHERE item.basket_id = b.id) AS is_empty
    FROM baskets_basket b JOIN baskets_checkoutsession session ON session.basket_id = b.id AND session.status = %(active)s
    WHERE b.id = ANY(%(baskets)s::uuid[]) AND session.expires_at <= greatest(statement_timestamp(), b.last_changed_at)
), line AS (
    SELECT lapsed.id AS basket_id, lapsed.session_id, lapsed.is_empty, item.product_id, item.count, item.position
    FROM lapsed JOIN baskets_checkoutitem item ON item.session_id = lapsed.session_id AND item.basket_id = lapsed.id
), released AS (
    UPDATE baskets_stockreservation hold SET status = 'RELEASED', ended_at = lapsed.at
    FROM lapsed WHERE hold.session_id = lapsed.session_id AND hold.basket_id = lapsed.id AND hold.status = %(held)s
    RETURNING hold.session_id, hold.product_id, hold.pieces
), returned AS (
    INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
    SELECT basket_id, product_id, 'cart', count, position FROM line WHERE is_empty
), merged AS (
    INSERT INTO baskets_basketitem AS item (basket_id, product_id, list, count, position)
    SELECT basket_id, product_id, 'cart', count, position FROM line WHERE NOT is_empty
    ON CONFLICT (basket_id, product_id) DO UPDATE
    SET list = 'cart', count = excluded.count + CASE item.list WHEN 'cart' THEN item.count ELSE 0 END,
        position = CASE item.list WHEN 'cart' THEN least(item.position, excluded.position) ELSE excluded.position END
), basket AS (
    {write_baskets_of("lapsed")}
), session AS (
    UPDATE baskets_checkoutsession session
    SET status = 'EXPIRED', finished_at = lapsed.at, ended_revision = lapsed.revision, released_at = lapsed.at
    FROM lapsed WHERE session.id = lapsed.session_id AND session.basket_id = lapsed.id
), event AS (
    {INSERT_INTO_EVENT}SELECT id, events, revision, 'checkout_expired', session_id, at, %(actor_kind)s, %(actor)s, '', '{{}}',
        jsonb_build_object('orderNo', order_no, 'items', coalesce(items, '[]'), 'released', coalesce(pieces, '{{}}'))
    FROM lapsed
    FULL JOIN (
        SELECT session_id, jsonb_agg(jsonb_build_object('productId', product_id, 'count', count) ORDER BY position, product_id) AS items
        FROM line GROUP BY session_id
    ) AS bought USING (session_id)
    FULL JOIN (
        SELECT session_id, jsonb_object_agg(product_id, pieces) AS pieces FROM released GROUP BY session_id
    ) AS freed USING (session_id)
)
SELECT NULL, count(*) FROM lapsed UNION ALL SELECT product_id, sum(pieces)::bigint FROM released GROUP BY product_id
""",  # noqa: S608 (its parts are constants)
)


def end_unsold(snapshot: BasketSnapshot, *, to: Session, actor: Actor) -> BasketSnapshot:
    """Abort or expire the active session: release its holds, and return every item to the cart.

    Needs the basket's lock; locks stock rows by primary key, last. `expire_lapsed` does the same for many baskets.

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


def expire_lapsed(baskets: ArrayLiteral, *, actor: Actor) -> int:
    """Expire the active sessions of these baskets that have lapsed, in one statement, and release their pieces in another.

    Needs the baskets' locks; locks stock rows by primary key, last. The statement decides by its own clock and the rows under the locks.

    :param baskets: primary keys.
    :returns: how many sessions it has expired.
    """
    parameters = {"active": Session.ACTIVE, "held": Reservation.HELD, "lifetime": conf.basket_lifetime(), "baskets": baskets}
    (_, expired), *released = execute(EXPIRE_SESSIONS, parameters | {"actor_kind": actor.kind, "actor": actor.name})
    counters.release(dict(released))
    return int(expired)


def _released_event_data(snapshot: BasketSnapshot, pieces: Mapping[str, int]) -> dict[str, Any]:
    """Build the event data of a session whose holds were released; `pieces` are the released ones by product."""
    return {"orderNo": _require_active(snapshot).order_no, "items": lines_as_json(snapshot.checkout), "released": dict(pieces)}


def _require_active(snapshot: BasketSnapshot) -> ActiveSession:
    if snapshot.session is None:
        raise ValueError("the basket has no active session to end")
    return snapshot.session
