"""Single holds of an active checkout, as staff repair them: one is released, or what had failed is held again.

The checkout goes on. An item without a hold is no part of what is being bought, and returns to the cart when it ends.
"""

from collections.abc import Mapping
from dataclasses import replace

from django.db import transaction

from baskets.db.pipeline import Statement, execute
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.store import write_lists
from baskets.domain.baskets.timeline import record_event
from baskets.domain.checkout import reserving
from baskets.domain.checkout.pricing import CatalogEntry, read_entries, total_price
from baskets.domain.checkout.states import Reservation, end_hold
from baskets.domain.errors import OutOfStock
from baskets.domain.stock import counters
from baskets.domain.support.guards import RepairNotApplicable, lock_session_if_unchanged
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
    """Give the pieces of one hold back: the checkout goes on without that item.

    Locks the basket, then the stock row. Other parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: it is not held, or is all that the checkout is buying.
    """
    of = CheckoutSession(pk=reservation.session_id, basket_id=reservation.basket_id)
    contents, session = lock_session_if_unchanged(of, expected_events=expected_events, reason=reason)
    line = lists.find_line(contents.checkout, reservation.product_id)
    hold = StockReservation.objects.get(pk=reservation.pk, basket_id=contents.basket_id)
    if line is None or hold.status != Reservation.HELD:
        raise RepairNotApplicable(f"The reservation is {hold.get_status_display()}: only a held one is released.")
    if all(other.failed for other in contents.checkout if other is not line):
        raise RepairNotApplicable("It is all that the checkout is buying. Abort the checkout instead.")
    after = _write_stocked(contents, session, {line.product_id: -line.count}, released=True)
    pieces = dict(
        end_hold(
            basket_id=contents.basket_id,
            session_id=session.pk,
            product_id=line.product_id,
            new=Reservation.RELEASED,
            at=contents.at,
        )
    )
    data = {"repair": "release", "reason": reason, "orderNo": session.order_no, "productId": line.product_id, "count": line.count}
    record_event(contents=after, kind=Event.Kind.REPAIRED, actor=actor, session_id=session.pk, data=data)
    counters.release(pieces)


@transaction.atomic(savepoint=False)
def hold_again(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Hold what failed at the start of a checkout that is still live, until the end of its hold: each item whole, or not at all.

    An item whose hold staff released did not fail: it stays released.
    Locks the basket, then stock rows by primary key. Other parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: the hold is over, nothing failed at its start, or what did is not listed.
    :raises OutOfStock: there is still too little of each.
    :raises StockReclaimable: lapsed sessions hold what is missing.
    """
    contents, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if contents.session is None or contents.session.id != session.pk or contents.lapsed:
        raise RepairNotApplicable("The hold of this checkout is over: there is nothing that could be held until then.")
    released = set(session.items.filter(released_at__isnull=False).values_list("product_id", flat=True))
    failed = tuple(line for line in contents.checkout if line.failed and line.product_id not in released)
    if not failed:
        raise RepairNotApplicable("Nothing of this checkout failed at its start.")
    entries = read_entries(failed)
    listed = tuple(line for line in failed if entries[line.product_id].listed)
    if not listed:
        raise RepairNotApplicable("What failed is not listed, so no checkout buys it.")
    unlimited = [line.product_id for line in listed if not entries[line.product_id].limited]
    wanted = {line.product_id: line.count for line in listed if entries[line.product_id].limited}

    shortages = reserving.reserve(wanted)
    if len(shortages) == len(listed):
        raise OutOfStock(shortages=list(shortages.values()))
    held = {product_id: pieces for product_id, pieces in wanted.items() if product_id not in shortages}
    after = _write_stocked(contents, session, held | dict.fromkeys(unlimited))
    StockReservation.objects.bulk_create(
        [
            StockReservation(
                basket_id=contents.basket_id,
                session=session,
                product_id=product_id,
                status=Reservation.HELD,
                pieces=pieces,
                created_at=contents.at,
                expires_at=session.expires_at,
            )
            for product_id, pieces in held.items()
        ]
    )
    data = {"repair": "hold_again", "reason": reason, "orderNo": session.order_no, "held": held, "unlimited": unlimited}
    record_event(contents=after, kind=Event.Kind.REPAIRED, actor=actor, session_id=session.pk, data=data)


def _write_stocked(
    contents: BasketSnapshot, session: CheckoutSession, stocked: Mapping[str, int | None], *, released: bool = False
) -> BasketSnapshot:
    """Write what items of the checkout hold from now on, and what the session costs with that.

    :param released: whether they hold nothing because staff released them.
    """
    lines = tuple(replace(line, stocked=stocked.get(line.product_id, line.stocked)) for line in contents.checkout)
    full_price, currency = total_price(lines, _original_entries(session))
    after = write_lists(before=contents, after=replace(contents, checkout=lines))
    execute(
        WRITE_STOCKED,
        {
            "product_ids": list(stocked),
            "stocked": list(stocked.values()),
            "released_at": contents.at if released else None,
            "session": session.pk,
            "basket": contents.basket_id,
            "full_price": full_price,
            "currency": currency,
        },
    )
    return after


def _original_entries(session: CheckoutSession) -> dict[str, CatalogEntry]:
    """The prices as they were at the start, which is what the session was offered for."""
    items = CheckoutItem.objects.filter(session=session, basket_id=session.basket_id)
    return {item.product_id: CatalogEntry(listed=True, limited=True, price=item.price, currency=item.currency) for item in items}
