"""Late orders: orders a session that was aborted or has expired, because its customer has paid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.lifecycle import expire_locked_basket
from baskets.domain.baskets.store import write_lists
from baskets.domain.baskets.timeline import lines_as_json, record_event
from baskets.domain.checkout import attention, reserving, sandbox, session_rows
from baskets.domain.checkout.states import Reservation, Session, move_session
from baskets.domain.errors import AttentionFlag, CheckoutExpired, OutOfStock
from baskets.domain.retries import may_reclaim
from baskets.domain.stock import counters
from baskets.models import Attention, CheckoutSession, Event, Partner
from baskets.models.basket_snapshot import BasketSnapshot

READ_BOUGHT_LINES = Statement(
    "read_bought_lines",
    """
SELECT i.product_id, i.count, coalesce(s.limited, false)
FROM baskets_checkoutitem i LEFT JOIN baskets_stock s USING (product_id)
WHERE i.session_id = %s AND i.basket_id = %s AND coalesce(i.stocked, 1) > 0
ORDER BY i.position, i.product_id
""",
)


@dataclass(frozen=True)
class _BoughtLine:
    """One line that a session was buying, whose reservation had not failed; `limited` is the stock setting of today."""

    product_id: str
    count: int
    limited: bool


def order_late(
    *, snapshot: BasketSnapshot, session: CheckoutSession, actor: Actor, named: bool = True, by_staff: bool = False
) -> BasketSnapshot:
    """Order a session after it was aborted or has expired.

    All its pieces are reserved again, by today's stock setting of each product, all or none; pieces that had returned to the
    cart leave it. If stock is short, the partner's setting decides: refuse, or accept and record the pieces without stock as
    SHORT. A newer active session does not change. Open flags of refused reports of this session are resolved.
    Needs the basket's lock; locks stock rows by primary key.
    Source: `baskets/docs/lifecycle.md`.

    :param session: ABORTED or EXPIRED.
    :param named: whether the report names the session by its order number.
    :param by_staff: whether a staff member decided it; the grace period does not apply then.
    :raises CheckoutExpired: the grace period is over.
    :raises OutOfStock: stock is short, and the partner refuses such orders.
    :raises StockReclaimable: lapsed sessions hold what is short.
    """
    end = session.released_at if session.status == Session.ABORTED else session.expires_at
    if not by_staff and (end is None or snapshot.at > end + conf.grace_period()):
        raise CheckoutExpired(attention=attention.flag_for(session, Attention.Reason.EXPIRED, actor, named=named))

    if not snapshot.is_open and snapshot.hidden_at is None:
        # The basket has expired, and no sweep has emptied it yet. Its cart is gone for the user; a late order does not restore it.
        snapshot = expire_locked_basket(snapshot=snapshot, actor=actor)
    bought = [_BoughtLine(*row) for row in execute(READ_BOUGHT_LINES, [session.pk, session.basket_id])]
    after = write_lists(before=snapshot, after=lists.without_ordered_pieces(snapshot, {line.product_id: line.count for line in bought}))
    move_session(after, session.pk, old=session.status, new=Session.ORDERED, actor=actor)
    wanted = {line.product_id: line.count for line in bought if line.limited and not session.test_mode}
    flag = attention.flag_for(session, Attention.Reason.OUT_OF_STOCK, actor, named=named)
    accept = snapshot.late_orders == Partner.LateOrders.ACCEPT
    gone = sandbox.gone_when_late(wanted) if snapshot.sandbox else {}
    if gone and not accept:
        raise OutOfStock(shortages=list(gone.values()), attention=flag)
    in_stock = {product_id: pieces for product_id, pieces in wanted.items() if product_id not in gone}
    sold = dict.fromkeys(gone, 0) | _reserve_again(in_stock, flag, accept=accept)
    short = {product_id: pieces - sold[product_id] for product_id, pieces in wanted.items() if pieces > sold[product_id]}
    session_rows.insert_reservations(session, {Reservation.SOLD: sold, Reservation.SHORT: short}, at=after.at)
    data = {
        "orderNo": session.order_no,
        "items": lines_as_json(bought),
        "short": short,
    }
    record_event(snapshot=after, kind=Event.Kind.CHECKOUT_ORDERED_LATE, actor=actor, session_id=session.pk, data=data)
    attention.resolve(snapshot=after, session_id=session.pk, cause=attention.Cause.ORDERED, actor=actor)
    if short:
        attention.record_flag(snapshot=after, flag=replace(flag, status=Session.ORDERED, reason=Attention.Reason.SHORT, named=True))
    return after


def _reserve_again(wanted: Mapping[str, int], flag: AttentionFlag, *, accept: bool) -> dict[str, int]:
    """Reserve the stock of a late order: all or none, or what is available where the order is accepted without all its pieces.

    :param flag: recorded where the order is refused.
    :param accept: whether the order is accepted without all its pieces.
    :returns: the pieces reserved by product.
    """
    if accept and not may_reclaim():
        return counters.reserve_available(wanted)
    # Lapsed holds are reclaimed before a refusal and before a SHORT piece, so that a late sweep hides no stock. A second try
    # follows in any case: one transaction writes stock once, and an accepted order must then reserve what is available.
    if shortages := reserving.reserve(wanted, retry_always=True):
        raise OutOfStock(shortages=list(shortages.values()), attention=flag)
    return dict(wanted)
