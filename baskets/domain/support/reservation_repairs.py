"""Repairs of the holds of an active checkout by staff: release one, hold again the items that failed, or extend all of them.

The checkout stays active. An item without a hold is not bought, and returns to the cart when the checkout ends.
"""

from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.store import write_lists
from baskets.domain.checkout import reserving, session_rows
from baskets.domain.checkout.pricing import CatalogEntry, read_entries, total_price
from baskets.domain.checkout.states import Reservation, end_hold
from baskets.domain.errors import OutOfStock
from baskets.domain.stock import counters
from baskets.domain.support.guards import RepairNotApplicable, lock_session_if_unchanged, record_repair
from baskets.domain.wording import sentence
from baskets.models import CheckoutItem, CheckoutSession, Event, StockReservation
from baskets.models.basket_snapshot import BasketSnapshot

WRITE_STOCKED = Statement(
    "write_stocked",
    """
WITH item AS (
    UPDATE baskets_checkoutitem i SET stocked = fresh.stocked, released_at = %(released_at)s::timestamptz
    FROM unnest(%(product_ids)s::text[], %(stocked)s::bigint[]) AS fresh (product_id, stocked)
    WHERE i.session_id = %(session)s AND i.basket_id = %(basket)s AND i.product_id = fresh.product_id
)
UPDATE baskets_checkoutsession SET full_price = %(full_price)s, currency = %(currency)s
WHERE id = %(session)s AND basket_id = %(basket)s
""",
)


@transaction.atomic(savepoint=False)
def release(*, reservation: StockReservation, expected_events: int, reason: str, actor: Actor) -> None:
    """Release one hold. The checkout continues without the item.

    Locks the basket, then the stock row.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the reservation is not held, it is the only item that the checkout buys, or the checkout no longer
        exists.
    """
    of = CheckoutSession(pk=reservation.session_id, basket_id=reservation.basket_id)
    snapshot, session = lock_session_if_unchanged(of, expected_events=expected_events, reason=reason)
    line = lists.find_line(snapshot.checkout, reservation.product_id)
    hold = StockReservation.objects.get(pk=reservation.pk, basket_id=snapshot.basket_id)
    if line is None or hold.status != Reservation.HELD:
        raise RepairNotApplicable(
            sentence("The reservation is %(status)s: only a held one can be released.", status=StockReservation.Status(hold.status).label)
        )
    if all(other.failed for other in snapshot.checkout if other is not line):
        raise RepairNotApplicable(sentence("It is the only item that the checkout buys. Abort the checkout instead."), instead="abort")
    after = _write_stocked(snapshot, session, {line.product_id: -line.count}, released=True)
    ended = end_hold(
        basket_id=snapshot.basket_id, session_id=session.pk, product_id=line.product_id, new=Reservation.RELEASED, at=snapshot.at
    )
    pieces = dict(ended)
    record_repair(after, "release", reason, actor, session=session, is_change=True, productId=line.product_id, count=line.count)
    counters.release(pieces)


@transaction.atomic(savepoint=False)
def hold_again(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Hold the items that failed at the start of a checkout, until its hold ends: each item with all its pieces, or not at all.

    An item whose hold staff have released did not fail, and stays released.
    Locks the basket, then stock rows by primary key.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the hold is over, no item failed, no failed item is listed, or the checkout no longer exists.
    :raises OutOfStock: stock is still short of every failed item.
    :raises StockReclaimable: to the runner: lapsed sessions hold the missing pieces.
    """
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if snapshot.session is None or snapshot.session.id != session.pk or snapshot.lapsed:
        raise RepairNotApplicable(sentence("The hold of this checkout is over, so no item can be held for it."))
    released = set(session.items.filter(released_at__isnull=False).values_list("product_id", flat=True))
    failed = tuple(line for line in snapshot.checkout if line.failed and line.product_id not in released)
    if not failed:
        raise RepairNotApplicable(sentence("No item of this checkout failed at its start."))
    entries = read_entries(failed)
    listed = tuple(line for line in failed if entries[line.product_id].listed)
    if not listed:
        raise RepairNotApplicable(sentence("The failed items are not listed, so no checkout can buy them."))
    unlimited = [line.product_id for line in listed if not entries[line.product_id].limited]
    wanted = {line.product_id: line.count for line in listed if entries[line.product_id].limited}

    shortages = reserving.reserve(wanted)
    if len(shortages) == len(listed):
        raise OutOfStock(shortages=list(shortages.values()))
    held = {product_id: pieces for product_id, pieces in wanted.items() if product_id not in shortages}
    after = _write_stocked(snapshot, session, held | dict.fromkeys(unlimited))
    session_rows.insert_reservations(session, {Reservation.HELD: held}, at=snapshot.at)
    record_repair(after, "hold_again", reason, actor, session=session, is_change=True, held=held, unlimited=unlimited)


@transaction.atomic(savepoint=False)
def extend_hold(*, session: CheckoutSession, minutes: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Extend the hold of an active checkout, lapsed or not: its pieces stay held until so many minutes from now.

    What is held stays held, so no stock row is read or written. The number of extensions of one checkout and the length of each
    are limited, because held pieces are sold to no other customer. The lists do not change.
    Locks the basket. Source: ADR 47.

    :param minutes: from now; at most `conf.hold_extension`.
    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the checkout is not active, it was extended as often as is allowed, the extension is too long or
        ends before the hold, or the checkout no longer exists.
    """
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if session.status != CheckoutSession.Status.ACTIVE:
        raise RepairNotApplicable(
            sentence(
                "The checkout is %(status)s: only the hold of an active one can be extended.",
                status=CheckoutSession.Status(session.status).label,
            )
        )
    length = timedelta(minutes=minutes)
    if length > conf.hold_extension():
        raise RepairNotApplicable(
            sentence("A hold is extended by at most %(number)s minutes.", number=conf.hold_extension() // timedelta(minutes=1))
        )
    if extensions_of(session) >= conf.hold_extensions():
        raise RepairNotApplicable(
            sentence("The hold was already extended %(number)s times, which is the limit.", number=conf.hold_extensions())
        )
    until = snapshot.at + length
    if until <= session.expires_at:
        raise RepairNotApplicable(sentence("The hold lasts longer than that anyway."))
    CheckoutSession.objects.filter(pk=session.pk, basket_id=snapshot.basket_id).update(expires_at=until)
    StockReservation.objects.held().filter(session=session, basket_id=snapshot.basket_id).update(expires_at=until)
    record_repair(snapshot, "extend_hold", reason, actor, session=session, until=until.isoformat(timespec="seconds"))


def extensions_of(session: CheckoutSession) -> int:
    """Count how often staff have extended the hold of a checkout."""
    events = Event.objects.filter(basket_id=session.basket_id, session_id=session.pk, kind=Event.Kind.REPAIRED)
    return events.filter(data__repair="extend_hold").count()


def _write_stocked(
    snapshot: BasketSnapshot, session: CheckoutSession, stocked: Mapping[str, int | None], *, released: bool = False
) -> BasketSnapshot:
    """Write what items of the checkout hold, and the new price of the session.

    :param stocked: by product id: the held pieces, negative for missing ones, None for an unlimited product.
    :param released: whether the items hold nothing because staff have released them.
    """
    lines = tuple(line._replace(stocked=stocked.get(line.product_id, line.stocked)) for line in snapshot.checkout)
    full_price, currency = total_price(lines, _original_entries(session))
    after = write_lists(before=snapshot, after=snapshot._replace(checkout=lines))
    execute(
        WRITE_STOCKED,
        {
            "product_ids": list(stocked),
            "stocked": list(stocked.values()),
            "released_at": snapshot.at if released else None,
            "session": session.pk,
            "basket": snapshot.basket_id,
            "full_price": full_price,
            "currency": currency,
        },
    )
    return after


def _original_entries(session: CheckoutSession) -> dict[str, CatalogEntry]:
    """Read the prices at the start of the session, which stay valid for it."""
    items = CheckoutItem.objects.filter(session=session, basket_id=session.basket_id)
    return {item.product_id: CatalogEntry(listed=True, limited=True, price=item.price, currency=item.currency) for item in items}
