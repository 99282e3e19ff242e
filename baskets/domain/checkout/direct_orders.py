"""Orders the active session in one round trip, where nothing needs a decision. `sessions.finish_session` does all the rest.

Note [Direct orders]
Nearly every finish reports the order of an active session whose items are all held or unlimited. What it writes depends on the rows
alone, so the service need not read them first: the lock, and one statement that writes what `sessions.finish_session` would write and
returns the basket, share a round trip with the key check and COMMIT. The statement sees what the holder of the lock before it has
written, because its snapshot is taken after the lock was won. If the basket is in any other state, it writes and returns nothing.

The rule is `sessions.finish_session`. `tests/domain/checkout/test_twins.py` runs both and compares all rows that they leave, in states
derived from the models and the settings: it fails if a new rule stands in one of them only. README names the rules that it cannot find.
Source: ADR 63.
"""

from dataclasses import dataclass

from django.db import transaction

from baskets import conf
from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import LOCK_BASKET, NEXT_REVISION, join_by_key, write_baskets_of
from baskets.domain.baskets.timeline import AUTHOR, INSERT_INTO_EVENT, author
from baskets.domain.errors import ServerKeyRequired
from baskets.models.basket_snapshot import Owner, ShownBasket, written_from_rows

# The active session and its holds are the ones without an end, by constraints. A comparison of their status would let a plan that was made
# while nothing was held read the whole of a partial index, which was empty then and is long in a crowd.
ORDER_ACTIVE = Statement(
    "order_active",
    f"""
WITH ordered AS (
    SELECT {NEXT_REVISION}, b.hidden_at, session.id AS session_id, session.order_no, bought.items
    FROM baskets_basket b JOIN baskets_checkoutsession session ON session.basket_id = b.id AND session.finished_at IS NULL,
    LATERAL (
        SELECT jsonb_agg(line ORDER BY item.position, item.product_id) AS items, min(item.stocked) AS stocked
        FROM baskets_checkoutitem item, LATERAL (SELECT item.product_id AS "productId", item.count) line
        WHERE item.session_id = session.id AND item.basket_id = b.id
    ) bought
    WHERE b.id = %(basket)s AND session.order_no = coalesce(%(order_no)s, session.order_no) AND coalesce(bought.stocked, 0) >= 0
), sold AS (
    UPDATE baskets_stockreservation hold SET status = 'SOLD', ended_at = ordered.at
    FROM ordered WHERE hold.session_id = ordered.session_id AND hold.basket_id = ordered.id AND hold.ended_at IS NULL
), basket AS (
    {write_baskets_of("ordered")}
), session AS (
    UPDATE baskets_checkoutsession session
    SET status = 'ORDERED', finished_at = ordered.at, ended_revision = ordered.revision, late = false, finished_by_key = %(key)s
    FROM ordered WHERE session.id = ordered.session_id AND session.basket_id = ordered.id AND session.finished_at IS NULL
), event AS (
    {INSERT_INTO_EVENT}SELECT id, events, revision, 'checkout_ordered', session_id, at, {AUTHOR},
        jsonb_build_object('orderNo', order_no, 'failed', '[]'::jsonb, 'items', items)
    FROM ordered
)
SELECT at, expires_at, hidden_at, item.list, item.product_id, item.count, item.position, p.variant, p.main_product_id
FROM ordered
LEFT JOIN baskets_basketitem item ON item.basket_id = ordered.id
{join_by_key("baskets_product", "p")}
""",  # noqa: S608 (a constant of ours)
)


@dataclass(frozen=True)
class PendingOrder:
    """A direct order that is enqueued."""

    pending: PendingResult

    def result(self) -> ShownBasket | None:
        """Return the basket after the order; None if nothing was written."""
        rows = self.pending.fetchall()
        return written_from_rows(rows, session=None) if rows else None


@transaction.atomic(savepoint=False)
def order_directly(*, owner: Owner, order_no: str | None, actor: Actor) -> PendingOrder:
    """Order the active session if nothing needs a decision. See Note [Direct orders].

    Locks the basket. Waits for nothing, so that COMMIT is sent with the statements.

    :param order_no: names the session, or None.
    :raises ServerKeyRequired: the caller may not report an order.
    """
    if not actor.may_order:
        raise ServerKeyRequired
    basket = {"basket": owner.basket_id, "order_no": order_no, "lifetime": conf.basket_lifetime(), "key": actor.key_prefix}
    execute(LOCK_BASKET, [owner.basket_id])
    return PendingOrder(execute(ORDER_ACTIVE, basket | author(actor)))
