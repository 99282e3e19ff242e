"""Named repairs by staff: each does what the API's own code does, for a reason, and leaves its line in the timeline.

Those of single holds are in `holds`, of open matters in `matters`, the erasure of a user is in `erasure`.

Every repair says which state it was decided upon. Where that has moved meanwhile, nothing is changed and the refusal says
what has happened since; so a repair that is sent twice is done once. Reading and confirming pages are the admin's business.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from baskets.db.pipeline import execute
from baskets.db.transactions import in_transaction
from baskets.domain.actors import Actor
from baskets.domain.baskets import items, lifecycle
from baskets.domain.baskets.store import lock
from baskets.domain.checkout import attention, late_orders, sessions
from baskets.domain.errors import LapsedHolds, Refusal
from baskets.domain.stock import counters
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession, Event, Partner, Stock, StockAdjustment, StockReservation
from baskets.models.basket_snapshot import Contents, Owner, read_contents

T = TypeVar("T")

REASON_LIMIT = 500
# The number is taken from the row, and not from what was read before: a flag may have been counted meanwhile.
TELL = """
WITH numbered AS (
    UPDATE baskets_basket SET events = events + 1 WHERE id = %s RETURNING id, events, revision
)
INSERT INTO baskets_event
    (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT id, events, revision, %s, %s, %s, %s, %s, %s, '{}'::jsonb, %s::jsonb FROM numbered
"""


class ReasonMissing(Refusal):
    """Staff did not say why, or at too great length."""

    reason = "reason_missing"
    message = f"A repair needs a reason, of at most {REASON_LIMIT} characters."


class StateMoved(Refusal):
    """What the repair was decided upon is no longer so.

    :param since: what has happened, in the order it happened.
    """

    reason = "state_moved"
    message = "It has changed meanwhile, so nothing was done."

    def __init__(self, *, since: Sequence[Any]) -> None:
        super().__init__()
        self.since = since


class NotRepairable(Refusal):
    """The repair does not fit the state.

    :param why: one sentence for staff.
    """

    reason = "not_repairable"
    message = "This repair does not fit."

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why

    def __str__(self) -> str:
        return self.why


# --- Checkout sessions ----------------------------------------------------------


@transaction.atomic(savepoint=False)
def finish_as_ordered(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Order an active session, lapsed or not, as the partner would have: what it holds is sold.

    Locks the basket. Source: `baskets/docs/lifecycle.md`.

    :param expected_events: how many events the basket had when staff decided.
    :raises ReasonMissing: no reason is given.
    :raises StateMoved: the basket's timeline has gone on since.
    :raises NotRepairable: the session is not active.
    """
    _finish(session, ordered=True, expected_events=expected_events, reason=reason, actor=actor)


@transaction.atomic(savepoint=False)
def abort(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Abort an active session: what it holds is released, every item returns to the cart.

    Locks the basket, then stock rows by primary key. Parameters and refusals as `finish_as_ordered`.
    """
    _finish(session, ordered=False, expected_events=expected_events, reason=reason, actor=actor)


@transaction.atomic(savepoint=False)
def order_late(*, session: CheckoutSession, accept_short: bool, expected_events: int, reason: str, actor: Actor, reclaim: bool) -> None:
    """Order a session that was aborted or has expired, whenever that was: somebody knows that it was paid.

    Locks the basket, then stock rows by primary key. Other parameters and refusals as `finish_as_ordered`.

    :param accept_short: whether pieces without stock behind them are recorded as SHORT, whatever the partner's setting.
    :raises NotRepairable: the session is active, or ordered already.
    :raises OutOfStock: stock is gone, and short pieces are not accepted.
    :raises LapsedHolds: to the runner: lapsed sessions hold what is missing.
    """
    contents, session = session_as_expected(session, expected_events=expected_events, reason=reason)
    if session.status not in (CheckoutSession.Status.ABORTED, CheckoutSession.Status.EXPIRED):
        raise NotRepairable(f"The checkout is {session.get_status_display()}: only an aborted or expired one is ordered late.")
    setting = Partner.LateOrders.ACCEPT if accept_short else Partner.LateOrders.REFUSE
    after = late_orders.order_late(
        contents=replace(contents, late_orders=setting), session=session, actor=actor, reclaim=reclaim, by_staff=True
    )
    tell(after, "order_late", reason, actor, session=session, acceptShort=accept_short)


@transaction.atomic(savepoint=False)
def reverse_order(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Reverse an order, once and for good: its sold pieces return as a new supply, those of unlimited products as well.

    Ordered is final: the session stays ORDERED, and `reversed_at` says since when the order no longer counts. Pieces that
    were SHORT had no stock and bring none; the open flag about them is settled, because nothing is owed any more.
    Locks the basket, then stock rows by primary key. Other parameters and refusals as `finish_as_ordered`.
    Source: ADR 39.

    :raises NotRepairable: the session is not ordered, or its order was reversed before.
    """
    contents, session = session_as_expected(session, expected_events=expected_events, reason=reason)
    if session.status != CheckoutSession.Status.ORDERED:
        raise NotRepairable(f"The checkout is {session.get_status_display()}: there is no order to reverse.")
    if session.reversed_at is not None:
        raise NotRepairable("The order was reversed before.")
    CheckoutSession.objects.filter(pk=session.pk, basket_id=session.basket_id).update(reversed_at=contents.at)
    bought = session.items.filter(Q(stocked__isnull=True) | Q(stocked__gt=0)).order_by("position", "product_id")
    sold = StockReservation.objects.filter(session=session, status=StockReservation.Status.SOLD)
    returned = dict(sold.values_list("product_id", "pieces")) | _unheld_pieces_in_account(session, bought)
    data = {
        "orderNo": session.order_no,
        "items": [{"productId": item.product_id, "count": item.count} for item in bought],
        "returned": returned,
    }
    _append(contents, Event.Kind.CHECKOUT_REVERSED, data, actor, session)
    attention.settle(
        contents=contents, session_id=session.pk, reasons=[Attention.Reason.SHORT], cause=attention.Cause.REVERSED, actor=actor
    )
    tell(contents, "reverse_order", reason, actor, session=session)
    if returned:
        counters.adjust_supply(deltas=returned, reason=f"order {session.order_no} reversed: {reason}"[:REASON_LIMIT], actor=actor)


def _unheld_pieces_in_account(session: CheckoutSession, bought: Iterable[CheckoutItem]) -> dict[str, int]:
    """Read the ordered pieces that had no hold, and of which the account of their product knows or will know the sale.

    A sale since the report that counts is known only where it was recorded: the product was limited, and the checkout had
    begun before. Locks the stock rows by primary key.

    :returns: pieces by product.
    """
    live = [StockReservation.Status.SOLD, StockReservation.Status.SHORT]
    held = set(StockReservation.objects.filter(session=session, status__in=live).values_list("product_id", flat=True))
    ordered = {item.product_id: item.count for item in bought if item.product_id not in held and not session.test_mode}
    ordered_at = cast("datetime", session.finished_at)
    recorded = StockAdjustment.objects.filter(kind=StockAdjustment.Kind.UNHELD, as_of=ordered_at)
    rows = list(Stock.objects.filter(pk__in=ordered).locked())
    known = set(recorded.filter(product_id__in=ordered).values_list("product_id", flat=True))
    return {row.pk: ordered[row.pk] for row in rows if not row.limited or row.pk in known or ordered_at <= row.reported_as_of}


# --- Stock ----------------------------------------------------------------------


@transaction.atomic(savepoint=False)
def set_unsold(*, product_id: str, unsold: int | None, as_of: datetime | None, expected_adjustment: int, reason: str, actor: Actor) -> None:
    """Report how many pieces of a product were unsold at a moment, held ones included; what is held stays held.

    Recorded as an adjustment even where no number changes: the timeline of a product shows who counted. Locks the stock row.

    :param unsold: None makes the product unlimited.
    :param as_of: when they were counted; what was sold since is subtracted. None is now.
    :param expected_adjustment: the last adjustment when staff decided; 0 if there was none.
    :raises ReasonMissing: no reason is given.
    :raises StateMoved: its supply was adjusted since. Holds and sales do not count: the report allows for them.
    :raises NotRepairable: a report of a later moment is known.
    :raises FutureMoment: `as_of` is still to come.
    :raises SalesPurged: sales after that moment are not known any more.
    """
    require_reason(reason)
    counters.lock_supply([product_id])
    _refuse_other_adjustments(product_id, expected=expected_adjustment)
    applied = counters.set_unsold(reports={product_id: unsold}, as_of=as_of, reason=reason, actor=actor, record_unchanged=True)
    if applied.older:
        raise NotRepairable("A report of a later moment is known. Count again.")


@transaction.atomic(savepoint=False)
def adjust_supply(*, product_id: str, pieces: int, expected_adjustment: int, reason: str, actor: Actor) -> None:
    """Record pieces of a product that came in, or were taken out.

    Locks the stock row. Other parameters and refusals as `set_unsold`.

    :param pieces: how many, below zero for those taken out.
    :raises NotRepairable: it is none, or the product is unlimited.
    :raises SupplyBelowZero: more would be taken out than were ever supplied.
    """
    require_reason(reason)
    if not pieces:
        raise NotRepairable("No piece came in and none was taken out: there is nothing to record.")
    row = Stock.objects.filter(pk=product_id).locked().first()
    if row is None or not row.limited:
        raise NotRepairable("The product is unlimited. Set its unsold pieces first.")
    _refuse_other_adjustments(product_id, expected=expected_adjustment)
    counters.adjust_supply(deltas={product_id: pieces}, reason=reason, actor=actor)


def last_adjustment(product_id: str) -> int:
    """Name the last adjustment of a product, 0 if there is none: the state a repair of its stock is decided upon."""
    last = StockAdjustment.objects.filter(product_id=product_id).order_by("-pk").values_list("pk", flat=True).first()
    return last or 0


def _refuse_other_adjustments(product_id: str, *, expected: int) -> None:
    """Let no adjustment have come after the expected one. Needs the stock row's lock.

    :raises StateMoved: one has.
    """
    newer = list(StockAdjustment.objects.filter(product_id=product_id, pk__gt=expected).order_by("pk"))
    if newer:
        raise StateMoved(since=newer)


# --- Baskets --------------------------------------------------------------------


@transaction.atomic(savepoint=False)
def change_item(*, basket: Basket, product_id: str, count: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Change the count of an item in cart or saved, move it between the two, or remove it.

    Locks the basket. Other parameters and refusals as `finish_as_ordered`.

    :param count: as the API takes it: above 0 into the cart, 0 into saved, -1 out of both.
    :raises NotRepairable: the item is like that already.
    :raises ProductNotInBasket: it is in neither list.
    :raises CartFull: it would move to a cart that is full.
    :raises SavedFull: it would move to a saved list that is full.
    """
    contents = as_expected(basket.pk, expected_events=expected_events, reason=reason)
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    if count < 0:
        after = items.remove_item(owner=owner, product_id=product_id, actor=actor)
    else:
        after = items.change_item(owner=owner, product_id=product_id, count=count, actor=actor)
    if after.revision == contents.revision:
        raise NotRepairable("The item is like that already.")
    tell(after, "change_item", reason, actor, productId=product_id, count=count)


@transaction.atomic(savepoint=False)
def extend(*, basket: Basket, days: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Let a basket last for so many days from now, and no shorter than it did. Its lists do not change.

    Locks the basket. Other parameters and refusals as `finish_as_ordered`.

    :raises NotRepairable: it was deleted or has expired, or lasts that long already.
    """
    contents = as_expected(basket.pk, expected_events=expected_events, reason=reason)
    until = contents.at + timedelta(days=days)
    if not contents.present:
        raise NotRepairable("The basket was deleted or has expired: it is empty, and the next addition brings it back.")
    if until <= contents.expires_at:
        raise NotRepairable("The basket lasts that long already.")
    Basket.objects.filter(pk=basket.pk).update(expires_at=until)
    tell(contents, "extend", reason, actor, until=until.isoformat(timespec="seconds"))


@transaction.atomic(savepoint=False)
def end(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """End a basket, as its user's own deletion does: emptied and hidden; orders and the timeline stay.

    Locks the basket. Other parameters and refusals as `finish_as_ordered`.

    :raises BasketNotFound: it was deleted or has expired already.
    :raises CheckoutActive: a session is active; it is finished or aborted first.
    :raises LapsedSession: to the runner: its session has lapsed.
    """
    as_expected(basket.pk, expected_events=expected_events, reason=reason)
    after = lifecycle.delete_basket(owner=Owner(partner_id=basket.partner_id, user_id=basket.user_id), actor=actor)
    tell(after, "end", reason, actor)


# --- Before it is done -----------------------------------------------------------


def rehearse(*, operation: Callable[[bool], object], look: Callable[[], T]) -> tuple[T, T]:
    """Do a repair, look, and undo it: what it would change is told by the very code that will change it.

    Runs a transaction of its own, which is rolled back.

    :param operation: as `runner.run` takes it.
    :param look: reads what staff should see; called before and after.
    :returns: what was seen before and after.
    :raises Refusal: as the operation does.
    :raises LapsedSession: confirming would expire a lapsed session first.
    :raises LapsedHolds: likewise, sessions of others.
    """

    def step(reclaim: bool) -> tuple[T, T]:  # noqa: FBT001 (handed on to the operation)
        before = look()
        operation(reclaim)
        after = look()
        transaction.set_rollback(True)
        return before, after

    try:
        return in_transaction(lambda: step(True))
    except LapsedHolds as found:
        if StockReservation.objects.lapsed(found.needed).exists():
            raise
        return in_transaction(lambda: step(False))


# --- What all of them have in common --------------------------------------------


def _finish(session: CheckoutSession, *, ordered: bool, expected_events: int, reason: str, actor: Actor) -> None:
    contents, session = session_as_expected(session, expected_events=expected_events, reason=reason)
    if session.status != CheckoutSession.Status.ACTIVE:
        raise NotRepairable(f"The checkout is {session.get_status_display()} already.")
    basket = Basket.objects.get(pk=contents.basket_id)
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    after = sessions.finish_session(owner=owner, ordered=ordered, order_no=session.order_no, actor=actor, reclaim=False)
    tell(after, "finish_as_ordered" if ordered else "abort", reason, actor, session=session)


def session_as_expected(session: CheckoutSession, *, expected_events: int, reason: str) -> tuple[Contents, CheckoutSession]:
    """Lock the session's basket, and read both as they are now."""
    contents = as_expected(session.basket_id, expected_events=expected_events, reason=reason)
    # A purge counts no event, and a user who was erased may have begun anew under the old key.
    now = CheckoutSession.objects.filter(pk=session.pk, basket_id=session.basket_id).first()
    if now is None:
        raise NotRepairable("The checkout is gone.")
    return contents, now


def as_expected(basket_id: UUID, *, expected_events: int, reason: str) -> Contents:
    """Lock a basket, and read it if it is as staff saw it."""
    require_reason(reason)
    contents = read_contents(basket_id) if lock(basket_id) else None
    if contents is None:
        raise NotRepairable("The basket is gone.")
    if contents.events != expected_events:
        raise StateMoved(since=list(Event.objects.filter(basket_id=basket_id, number__gt=expected_events).order_by("number")))
    return contents


def require_reason(reason: str) -> None:
    """Take no repair without a reason that can be stored.

    :raises ReasonMissing: it is empty, too long, or holds a NUL.
    """
    if not reason.strip() or len(reason) > REASON_LIMIT or "\x00" in reason:
        raise ReasonMissing


def tell(contents: Contents, name: str, reason: str, actor: Actor, *, session: CheckoutSession | None = None, **data: Any) -> None:
    """Add the line of a repair to the timeline, after those of what it did."""
    said: Mapping[str, Any] = {"repair": name, "reason": reason} | ({"orderNo": session.order_no} if session else {}) | data
    _append(contents, Event.Kind.REPAIRED, said, actor, session)


def _append(contents: Contents, kind: Event.Kind, data: Mapping[str, Any], actor: Actor, session: CheckoutSession | None) -> None:
    """Append one event to the timeline, numbered after all others of the transaction."""
    execute(
        TELL,
        [
            contents.basket_id,
            kind,
            session.pk if session else None,
            contents.at,
            actor.kind,
            actor.name,
            actor.request_id,
            json.dumps(dict(data)),
        ],
    )
