"""Repairs of checkout sessions by staff: finish, abort, order late, and reverse an order.

Each does what the API's own code does, and records its reason in the timeline. All take the same arguments and refuse alike:
see `finish_as_ordered`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from django.db import transaction
from django.db.models import Q

from baskets.domain.actors import Actor
from baskets.domain.baskets.timeline import append_event, lines_as_json
from baskets.domain.checkout import attention, late_orders, sessions
from baskets.domain.stock import supply
from baskets.domain.support.guards import RepairNotApplicable, lock_session_if_unchanged, record_repair
from baskets.domain.validation import REASON_LIMIT
from baskets.domain.wording import sentence
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession, Event, Partner, Stock, StockAdjustment, StockReservation
from baskets.models.basket_snapshot import Owner

if TYPE_CHECKING:
    from datetime import datetime


@transaction.atomic(savepoint=False)
def finish_as_ordered(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Order an active session, lapsed or not, as the partner could: its held pieces are sold.

    Locks the basket. Source: `baskets/docs/lifecycle.md`.

    :param expected_events: the number of events of the basket that staff have seen.
    :param reason: at most `REASON_LIMIT` characters.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the session is not active, or no longer exists.
    """
    _finish(session, ordered=True, expected_events=expected_events, reason=reason, actor=actor)


@transaction.atomic(savepoint=False)
def abort(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Abort an active session: its holds are released, and every item returns to the cart.

    Locks the basket, then stock rows by primary key.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the session is not active, or no longer exists.
    """
    _finish(session, ordered=False, expected_events=expected_events, reason=reason, actor=actor)


@transaction.atomic(savepoint=False)
def order_late(*, session: CheckoutSession, accept_short: bool, expected_events: int, reason: str, actor: Actor) -> None:
    """Order a session that was aborted or has expired, however long ago, because staff know that it was paid.

    Locks the basket, then stock rows by primary key.

    :param accept_short: whether pieces without stock are recorded as SHORT, whatever the setting of the partner.
    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the session is active or ordered, or no longer exists.
    :raises OutOfStock: stock is missing, and short pieces are not accepted.
    :raises StockReclaimable: to the runner: lapsed sessions hold the missing pieces.
    """
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if session.status not in (CheckoutSession.Status.ABORTED, CheckoutSession.Status.EXPIRED):
        raise RepairNotApplicable(
            sentence(
                "The checkout is %(status)s: only an aborted or expired one can be ordered late.",
                status=CheckoutSession.Status(session.status).label,
            )
        )
    setting = Partner.LateOrders.ACCEPT if accept_short else Partner.LateOrders.REFUSE
    after = late_orders.order_late(snapshot=snapshot._replace(late_orders=setting), session=session, actor=actor, by_staff=True)
    record_repair(after, "order_late", reason, actor, session=session, acceptShort=accept_short)


@transaction.atomic(savepoint=False)
def reverse_order(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Reverse an order, once and for good: its sold pieces return as new supply, including those of unlimited products.

    Ordered is final: the session stays ORDERED, and `reversed_at` is the time since when the order no longer counts. Pieces that
    were SHORT had no stock and return none; the open flag about them is resolved, because nothing is owed any more.
    Locks the basket, then stock rows by primary key. Source: ADR 39.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the session is not ordered, its order was reversed before, or it no longer exists.
    """
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if session.status != CheckoutSession.Status.ORDERED:
        raise RepairNotApplicable(
            sentence("The checkout is %(status)s: there is no order to reverse.", status=CheckoutSession.Status(session.status).label)
        )
    if session.reversed_at is not None:
        raise RepairNotApplicable(sentence("The order was already reversed."))
    CheckoutSession.objects.filter(pk=session.pk, basket_id=session.basket_id).update(reversed_at=snapshot.at)
    bought = session.items.filter(Q(stocked__isnull=True) | Q(stocked__gt=0)).order_by("position", "product_id")
    sold = StockReservation.objects.filter(session=session, status=StockReservation.Status.SOLD)
    returned = dict(sold.values_list("product_id", "pieces")) | _unheld_pieces_in_account(session, bought)
    data = {
        "orderNo": session.order_no,
        "items": lines_as_json(bought),
        "returned": returned,
    }
    append_event(snapshot=snapshot, kind=Event.Kind.CHECKOUT_REVERSED, actor=actor, data=data, session_id=session.pk)
    attention.resolve(
        snapshot=snapshot, session_id=session.pk, reasons=[Attention.Reason.SHORT], cause=attention.Cause.REVERSED, actor=actor
    )
    record_repair(snapshot, "reverse_order", reason, actor, session=session)
    if returned:
        supply.adjust_supply(deltas=returned, reason=f"order {session.order_no} reversed: {reason}"[:REASON_LIMIT], actor=actor)


def _unheld_pieces_in_account(session: CheckoutSession, bought: Iterable[CheckoutItem]) -> dict[str, int]:
    """Read the ordered pieces without a hold whose sale is part of the supply account of the product, now or later.

    A sale after the latest report is part of the account only if it was recorded: the product was limited, and the checkout
    had started before. Locks the stock rows by primary key.

    :returns: pieces by product id.
    """
    live = [StockReservation.Status.SOLD, StockReservation.Status.SHORT]
    held = set(StockReservation.objects.filter(session=session, status__in=live).values_list("product_id", flat=True))
    ordered = {item.product_id: item.count for item in bought if item.product_id not in held and not session.test_mode}
    ordered_at = cast("datetime", session.finished_at)
    recorded = StockAdjustment.objects.filter(kind=StockAdjustment.Kind.UNHELD, as_of=ordered_at)
    rows = list(Stock.objects.filter(pk__in=ordered).locked())
    known = set(recorded.filter(product_id__in=ordered).values_list("product_id", flat=True))
    return {row.pk: ordered[row.pk] for row in rows if not row.limited or row.pk in known or ordered_at <= row.reported_as_of}


def _finish(session: CheckoutSession, *, ordered: bool, expected_events: int, reason: str, actor: Actor) -> None:
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if session.status != CheckoutSession.Status.ACTIVE:
        raise RepairNotApplicable(sentence("The checkout is already %(status)s.", status=CheckoutSession.Status(session.status).label))
    basket = Basket.objects.get(pk=snapshot.basket_id)
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    after = sessions.finish_session(owner=owner, ordered=ordered, order_no=session.order_no, actor=actor)
    record_repair(after, "finish_as_ordered" if ordered else "abort", reason, actor, session=session)
