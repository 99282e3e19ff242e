"""Late orders: a session that was aborted or has expired, and whose customer has paid all the same."""

from collections.abc import Mapping

from baskets import conf
from baskets.domain import attention, lists, stock
from baskets.domain.actors import Actor
from baskets.domain.changes import record, write_lists
from baskets.domain.errors import AttentionNeeded, CheckoutExpired, LapsedHolds, MissingStock, OutOfStock
from baskets.domain.transitions import Reservation, Session, move_session
from baskets.models import Attention, CheckoutItem, CheckoutSession, Event, Partner, Stock, StockReservation
from baskets.models.contents import Contents, Line


def order_late(*, contents: Contents, session: CheckoutSession, actor: Actor, reclaim: bool) -> Contents:
    """Order a session after it was aborted or has expired.

    Everything that was being bought is taken again, by today's stock setting of each product, all or none; the pieces
    that had come back leave the cart. If stock is gone, the partner's setting decides: refuse, or accept and record the
    pieces without stock behind them as SHORT. An active newer session is not touched.
    Needs the basket's lock; locks stock rows by primary key.
    Source: contract, section 6.2.

    :param session: ABORTED or EXPIRED.
    :raises CheckoutExpired: the grace period is over.
    :raises OutOfStock: stock is gone, and the partner refuses.
    :raises LapsedHolds: to the runner: lapsed sessions hold what is missing.
    """
    end = session.released_at if session.status == Session.ABORTED else session.expires_at
    if end is None or contents.at > end + conf.grace():
        raise CheckoutExpired(attention=_needed(session, Attention.Reason.EXPIRED, actor))

    bought = _bought(session)
    after = write_lists(before=contents, after=lists.taken_from_cart(contents, bought))
    move_session(
        basket_id=contents.basket_id,
        session_id=session.pk,
        old=session.status,
        new=Session.ORDERED,
        at=after.at,
        revision=after.revision,
    )
    wanted = {} if session.test_mode else _limited(bought)
    sold = _take_again(wanted, contents=contents, session=session, actor=actor, reclaim=reclaim)
    short = {p: n - sold[p] for p, n in wanted.items() if n > sold[p]}
    _insert_reservations(after, session, {Reservation.SOLD: sold, Reservation.SHORT: short})
    data = {
        "orderNo": session.order_no,
        "items": [{"productId": line.product_id, "count": line.count} for line in bought],
        "short": short,
    }
    record(contents=after, kind=Event.Kind.CHECKOUT_ORDERED_LATE, actor=actor, session_id=session.pk, data=data)
    if short:
        after = attention.flag(contents=after, needed=_needed(session, Attention.Reason.SHORT, actor))
    return after


def _take_again(wanted: Mapping[str, int], *, contents: Contents, session: CheckoutSession, actor: Actor, reclaim: bool) -> dict[str, int]:
    """Take the stock of a late order, and return the pieces taken by product."""
    accept = contents.late_orders == Partner.LateOrders.ACCEPT
    if reclaim or not accept:
        missing = stock.take(wanted)
        if not missing:
            return dict(wanted)
        there = stock.available_now(missing)
        if reclaim:
            # The reclaim comes before a refusal and before a SHORT piece, because a late sweep hides no stock; and it
            # comes with a second try, because one transaction asks for stock once.
            raise LapsedHolds(needed={p: wanted[p] - there[p][0] + there[p][1] for p in missing})
        raise OutOfStock(
            missing=[MissingStock(product_id=p, wanted=wanted[p], available=min(there[p][0], wanted[p] - 1)) for p in sorted(missing)],
            attention=_needed(session, Attention.Reason.OUT_OF_STOCK, actor),
        )
    return stock.take_what_is_there(wanted)


def _bought(session: CheckoutSession) -> tuple[Line, ...]:
    """What the session was buying: its items but for those whose reservation had failed."""
    items = CheckoutItem.objects.filter(basket_id=session.basket_id, session=session).order_by("position", "product_id")
    lines = (Line(product_id=item.product_id, count=item.count, position=item.position, stocked=item.stocked) for item in items)
    return tuple(line for line in lines if not line.failed)


def _limited(lines: tuple[Line, ...]) -> dict[str, int]:
    """The lines whose product is limited by today's setting, with their pieces."""
    today = set(Stock.objects.filter(pk__in=[line.product_id for line in lines], limited=True).values_list("pk", flat=True))
    return {line.product_id: line.count for line in lines if line.product_id in today}


def _insert_reservations(contents: Contents, session: CheckoutSession, pieces_by_status: Mapping[str, Mapping[str, int]]) -> None:
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


def _needed(session: CheckoutSession, reason: Attention.Reason, actor: Actor) -> AttentionNeeded:
    return AttentionNeeded(basket_id=session.basket_id, session_id=session.pk, order_no=session.order_no, reason=reason, actor=actor)
