"""Late orders: a session that was aborted or has expired, and whose customer has paid all the same."""

from collections.abc import Mapping
from dataclasses import replace

from baskets import conf
from baskets.db.pipeline import execute
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.lifecycle import expire_locked_basket
from baskets.domain.baskets.store import record_event, write_lists
from baskets.domain.checkout import attention
from baskets.domain.checkout.states import Reservation, Session, move_session
from baskets.domain.errors import AttentionFlag, CheckoutExpired, OutOfStock, Shortage
from baskets.domain.retries import StockReclaimable, may_reclaim
from baskets.domain.stock import counters
from baskets.models import Attention, CheckoutSession, Event, Partner, StockReservation
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot

READ_BOUGHT_LINES = """
SELECT i.product_id, i.count, i.position, i.stocked, coalesce(s.limited, false)
FROM baskets_checkoutitem i LEFT JOIN baskets_stock s USING (product_id)
WHERE i.session_id = %s AND i.basket_id = %s AND coalesce(i.stocked, 1) > 0
ORDER BY i.position, i.product_id
"""


def order_late(
    *, contents: BasketSnapshot, session: CheckoutSession, actor: Actor, named: bool = True, by_staff: bool = False
) -> BasketSnapshot:
    """Order a session after it was aborted or has expired.

    Everything that was being bought is taken again, by today's stock setting of each product, all or none; the pieces
    that had come back leave the cart. If stock is gone, the partner's setting decides: refuse, or accept and record the
    pieces without stock behind them as SHORT. An active newer session is not touched. Open flags of refused reports of
    this session are settled: their cause is gone.
    Needs the basket's lock; locks stock rows by primary key.
    Source: `baskets/docs/lifecycle.md`.

    :param session: ABORTED or EXPIRED.
    :param named: whether the report names the session by its order number.
    :param by_staff: whether a person has decided it, for whom there is no grace period.
    :raises CheckoutExpired: the grace period is over.
    :raises OutOfStock: stock is gone, and the partner refuses.
    :raises StockReclaimable: lapsed sessions hold what is missing.
    """
    end = session.released_at if session.status == Session.ABORTED else session.expires_at
    if not by_staff and (end is None or contents.at > end + conf.grace_period()):
        raise CheckoutExpired(attention=attention.flag_for(session, Attention.Reason.EXPIRED, actor, named=named))

    if not contents.is_open and contents.hidden_at is None:
        # Past its time and not yet swept: what its cart held is gone for the user, and no late order brings it back.
        contents = expire_locked_basket(contents=contents, actor=actor)
    bought, limited = _bought_lines(session)
    after = write_lists(before=contents, after=lists.without_ordered_pieces(contents, bought))
    move_session(
        basket_id=contents.basket_id,
        session_id=session.pk,
        old=session.status,
        new=Session.ORDERED,
        at=after.at,
        revision=after.revision,
        actor=actor,
    )
    wanted = {} if session.test_mode else {p: line.count for line in bought if (p := line.product_id) in limited}
    flag = attention.flag_for(session, Attention.Reason.OUT_OF_STOCK, actor, named=named)
    sold = _reserve_again(wanted, flag, accept=contents.late_orders == Partner.LateOrders.ACCEPT)
    short = {p: n - sold[p] for p, n in wanted.items() if n > sold[p]}
    _insert_reservations(after, session, {Reservation.SOLD: sold, Reservation.SHORT: short})
    data = {
        "orderNo": session.order_no,
        "items": [{"productId": line.product_id, "count": line.count} for line in bought],
        "short": short,
    }
    record_event(contents=after, kind=Event.Kind.CHECKOUT_ORDERED_LATE, actor=actor, session_id=session.pk, data=data)
    attention.resolve(contents=after, session_id=session.pk, cause=attention.Cause.ORDERED, actor=actor)
    if short:
        attention.record_flag(contents=after, flag=replace(flag, status=Session.ORDERED, reason=Attention.Reason.SHORT, named=True))
    return after


def _reserve_again(wanted: Mapping[str, int], flag: AttentionFlag, *, accept: bool) -> dict[str, int]:
    """Take the stock of a late order, and return the pieces taken by product.

    :param flag: recorded where stock is gone.
    :param accept: whether the order is accepted without all its pieces.
    """
    if may_reclaim() or not accept:
        missing = counters.reserve(wanted)
        if not missing:
            return dict(wanted)
        there = counters.available_now(missing)
        if may_reclaim():
            # The reclaim comes before a refusal and before a SHORT piece, because a late sweep hides no stock; and it
            # comes with a second try, because one transaction asks for stock once.
            raise StockReclaimable(needed={p: wanted[p] - there[p][0] + there[p][1] for p in missing})
        raise OutOfStock(
            missing=[Shortage(product_id=p, wanted=wanted[p], available=min(there[p][0], wanted[p] - 1)) for p in sorted(missing)],
            attention=flag,
        )
    return counters.reserve_available(wanted)


def _bought_lines(session: CheckoutSession) -> tuple[tuple[BasketLine, ...], set[str]]:
    """What the session was buying, and which of it is limited by today's setting.

    Items whose reservation had failed were no part of it.
    """
    rows = execute(READ_BOUGHT_LINES, [session.pk, session.basket_id]).fetchall()
    lines = tuple(
        BasketLine(product_id=product_id, count=count, position=position, stocked=stocked)
        for product_id, count, position, stocked, _ in rows
    )
    return lines, {product_id for product_id, *_, limited in rows if limited}


def _insert_reservations(contents: BasketSnapshot, session: CheckoutSession, pieces_by_status: Mapping[str, Mapping[str, int]]) -> None:
    StockReservation.objects.bulk_create(
        [
            StockReservation(
                basket_id=contents.basket_id,
                session=session,
                product_id=product_id,
                status=status,
                pieces=pieces,
                created_at=contents.at,
                expires_at=session.expires_at,
                ended_at=contents.at,
            )
            for status, by_product in pieces_by_status.items()
            for product_id, pieces in by_product.items()
            if pieces
        ]
    )
