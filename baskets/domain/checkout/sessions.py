"""Checkout sessions: starts them, and finishes them as the partner reports: ordered or aborted.

`planning` decides what a start buys, `ending` ends a session unsold, `late_orders` orders one that has ended, `expiry` finds
lapsed sessions. Nearly every order is written by `direct_orders`, and nearly every start by `direct_starts`, which run first: a rule of
either must stand there, too.
"""

import time
from datetime import timedelta

from django.db import transaction

from baskets import conf
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.lifecycle import check_no_active_session
from baskets.domain.baskets.store import enqueue_locked_read, lock_and_read, write_lists
from baskets.domain.baskets.timeline import lines_as_json, record_event
from baskets.domain.checkout import attention, purchase_limits, reserving, sandbox, session_rows
from baskets.domain.checkout.ending import end_unsold
from baskets.domain.checkout.late_orders import order_late
from baskets.domain.checkout.order_numbers import generate_order_no
from baskets.domain.checkout.planning import plan_checkout
from baskets.domain.checkout.pricing import enqueue_cart_entries, entries_from_rows
from baskets.domain.checkout.session_rows import NewSession, StartedSession
from baskets.domain.checkout.states import Reservation, Session, end_holds, move_session
from baskets.domain.errors import (
    BasketNotFound,
    CartEmpty,
    CheckoutAborted,
    CheckoutAlreadyOrdered,
    NoActiveCheckout,
    OrderNotFound,
    OutOfStock,
    ServerKeyRequired,
)
from baskets.domain.stock import counters
from baskets.models import Attention, CheckoutSession, Event
from baskets.models.basket_snapshot import ActiveSession, BasketSnapshot, Owner


@transaction.atomic(savepoint=False)
def start_session(
    *,
    owner: Owner,
    language: str = "",
    country: str = "",
    stripe_using_sdk: bool = False,
    test_mode: bool = False,
    limits: ClientLimits | None = None,
    order_no: str | None = None,
    actor: Actor,
    repeated_since: float | None = None,
) -> StartedSession:
    """Move the whole cart into checkout and hold its stock until the end of the hold.

    For each limited product all pieces are held, or none; an unlisted product is treated as unavailable. The start succeeds
    if at least one item can be ordered. A test session touches no stock. Other buyers wait for the stock row, so everything
    that does not depend on the stock is written before it. If all pieces appear to be available, the stock is written last.
    Locks the basket, then stock rows by primary key.
    Source: `checkoutbasket` of the published API; `baskets/docs/lifecycle.md`.

    :param language: two letters, or empty.
    :param country: two letters, or empty.
    :param limits: the limits of the calling client key; None for a server key.
    :param order_no: an unused order number; None generates one.
    :param repeated_since: given if the service repeats the call after a lost connection: then `order_no` may be of the session that it
        has started, and that is the result.
    :raises CartEmpty: the cart is empty, or there is no basket.
    :raises CheckoutActive: a session is active.
    :raises Throttled: the user, the client key or its source has reached a limit.
    :raises OutOfStock: not one item can be ordered.
    :raises OwnSessionLapsed: the basket's own session has lapsed.
    :raises StockReclaimable: lapsed sessions hold what is short.
    :raises LimitBlockUsedUp: this process must fetch a block of counts first.
    :raises StockChanged: pieces that appeared to be available are sold.
    :raises SandboxBusy: the sandbox refuses this start as busy, as its product says.
    :raises SandboxUsedUp: the stock of the sandbox must be reported again.
    """
    pending_basket, pending_entries = enqueue_locked_read(owner), enqueue_cart_entries(owner.basket_id)
    pending_id = session_rows.enqueue_next_id()
    snapshot = pending_basket.snapshot()
    if snapshot and order_no and repeated_since is not None and (started := session_rows.read_new_session(owner.basket_id, order_no)):
        return StartedSession(session=started, snapshot=snapshot)
    before = _require_cart(snapshot)
    if not test_mode:
        purchase_limits.check_start_rate(before)

    entries, ((session_id,),) = entries_from_rows(pending_entries), pending_id
    terms, hold = sandbox.terms_of_start(before, entries, hold=before.hold_override or conf.hold_duration())
    plan = plan_checkout(before, terms, test_mode=test_mode, by_client_key=limits is not None)
    if limits:
        limits.count(starts=1, pieces=sum(plan.to_reserve.values()))

    session = NewSession(
        id=session_id,
        basket_id=before.basket_id,
        partner_id=owner.partner_id,
        order_no=order_no or generate_order_no(),
        test_mode=test_mode,
        started_at=before.at,
        expires_at=before.at + hold,
        language=language,
        country=country,
        stripe_using_sdk=stripe_using_sdk,
        currency=plan.currency,
        full_price=plan.full_price,
        started_by_key=actor.key_prefix,
    )
    after = write_lists(before=before, after=before._replace(cart=(), checkout=plan.lines, session=session.active))
    session_rows.insert_session(session, plan.lines, entries)

    percent = purchase_limits.share_percent(before)
    reserve_last = reserving.appear_in_stock(plan.to_reserve, entries, percent=percent)
    shortages = {}
    if not reserve_last:
        shortages = reserving.reserve_within_share(plan.to_reserve, partner_id=owner.partner_id, percent=percent, at=before.at)
    if shortages:
        sandbox.check_used_up(before, shortages)
        session, lines = session_rows.correct_session(session, plan.lines, entries, shortages)
        after = after._replace(checkout=lines)
    if all(line.failed for line in after.checkout):
        raise OutOfStock(shortages=[*shortages.values(), *plan.refused_lines()])
    record_event(
        snapshot=after,
        kind=Event.Kind.CHECKOUT_STARTED,
        actor=actor,
        session_id=session.id,
        data={
            "orderNo": session.order_no,
            "testMode": test_mode,
            "items": [lines_as_json((line,))[0] | {"stocked": line.stocked} for line in after.checkout],
        },
    )
    if limits and shortages:
        limits.count(pieces=sum(pieces for product_id, pieces in plan.to_reserve.items() if product_id not in shortages))
    if reserve_last:
        counters.reserve_or_retry(plan.to_reserve)
    return StartedSession(session=session, snapshot=after)


@transaction.atomic(savepoint=False)
def finish_session(
    *, owner: Owner, ordered: bool, order_no: str | None, actor: Actor, repeated_since: float | None = None
) -> BasketSnapshot:
    """Finish a checkout session as the partner reports: its products are ordered, or return to the cart.

    Chooses the session that `order_no` names; without `order_no` the active one, else the last that ended, provided that the basket
    has not changed since. A repeated call changes nothing. An order within the hold writes no stock row.
    Locks the basket; an abort and a late order then lock stock rows by primary key.
    Source: `finishactivecheckout`, the published reference; `baskets/docs/lifecycle.md`.

    :param ordered: True orders the session, False aborts it.
    :param order_no: names the session, or None.
    :param repeated_since: when the service itself began the call, by `time.monotonic`, if it repeats it after a lost connection. Then it
        may have ordered the session. A session that has started since is another one, which the call without `order_no` cannot mean.
    :raises ServerKeyRequired: the caller may not report an order, whatever the state of the basket.
    :raises BasketNotFound: the user has no basket, and `order_no` names no session of a former one.
    :raises OrderNotFound: `order_no` names no session of this user.
    :raises NoActiveCheckout: no session is active, and the basket has changed since the last one.
    :raises CheckoutAlreadyOrdered: the session is ordered, which is final, so it cannot be aborted.
    :raises CheckoutAborted: the partner aborted the session, and the call does not name it.
    :raises CheckoutExpired: the grace period for a late order is over.
    :raises OutOfStock: stock for a late order is short, and the partner refuses such orders.
    :raises StockReclaimable: lapsed sessions hold what is short.
    """
    if ordered and not actor.may_order:
        raise ServerKeyRequired
    read_since = time.monotonic()
    snapshot = lock_and_read(owner)
    if snapshot is None:
        raise BasketNotFound
    active = snapshot.session
    if order_no is None and repeated_since is not None:
        # By the clock of the database, the call began between two times, as the read took a while.
        earliest, latest = (snapshot.at - timedelta(seconds=end - repeated_since) for end in (time.monotonic(), read_since))
        orders = Event.objects.filter(basket_id=snapshot.basket_id, kind=Event.Kind.CHECKOUT_ORDERED)
        if orders.filter(request_id=actor.request_id, at__gt=earliest).exists():
            return snapshot
        active = None if active and active.started_at > latest else active
    if active and order_no in (None, active.order_no):
        return _order(snapshot, active, actor) if ordered else end_unsold(snapshot, to=Session.ABORTED, actor=actor)
    session = _find_ended_session(snapshot, ordered=ordered, order_no=order_no, actor=actor)
    if session.status == Session.ORDERED:
        if not ordered:
            raise CheckoutAlreadyOrdered
        return snapshot
    if not ordered:
        return snapshot
    if session.status == Session.ABORTED and order_no is None:
        raise CheckoutAborted(attention=attention.flag_for(session, Attention.Reason.ABORTED, actor, named=False))
    return order_late(snapshot=snapshot, session=session, actor=actor, named=order_no is not None)


def _require_cart(snapshot: BasketSnapshot | None) -> BasketSnapshot:
    """Return an open basket without an active session, with something in its cart.

    :raises CartEmpty: the cart is empty, or there is no basket.
    :raises CheckoutActive: a session is active.
    :raises OwnSessionLapsed: the basket's own session has lapsed.
    """
    if snapshot is None or not snapshot.is_open:
        raise CartEmpty
    check_no_active_session(snapshot)
    if not snapshot.cart:
        raise CartEmpty
    return snapshot


def _order(snapshot: BasketSnapshot, session: ActiveSession, actor: Actor) -> BasketSnapshot:
    """Order the active session: held pieces become sold, failed items return to the cart. Writes no stock row."""
    bought = tuple(line for line in snapshot.checkout if not line.failed)
    failed = tuple(line for line in snapshot.checkout if line.failed)
    data = {"orderNo": session.order_no, "items": lines_as_json(bought), "failed": lines_as_json(failed)}
    end_holds(basket_id=snapshot.basket_id, session_id=session.id, new=Reservation.SOLD, at=snapshot.at)
    after = write_lists(before=snapshot, after=lists.with_lines_returned(snapshot, failed))
    record_event(snapshot=after, kind=Event.Kind.CHECKOUT_ORDERED, actor=actor, session_id=session.id, data=data)
    move_session(after, session.id, old=Session.ACTIVE, new=Session.ORDERED, actor=actor)
    return after


def _find_ended_session(snapshot: BasketSnapshot, *, ordered: bool, order_no: str | None, actor: Actor) -> CheckoutSession:
    """Find the ended session that a call means.

    :raises OrderNotFound: `order_no` names no session of this user.
    :raises BasketNotFound: the basket is closed, and the call names no session of it.
    :raises NoActiveCheckout: the basket has changed since the last session ended, or there was none.
    """
    sessions = CheckoutSession.objects.filter(basket_id=snapshot.basket_id)
    if order_no is not None:
        if session := sessions.filter(order_no=order_no).first():
            return session
        raise OrderNotFound if snapshot.is_open else BasketNotFound
    last = sessions.latest_ended_first().first()
    # The app may hold a payment for the last session, even if the basket has changed or is gone.
    flag = attention.flag_for(last, Attention.Reason.BASKET_CHANGED, actor, named=False) if last and ordered else None
    if not snapshot.is_open:
        raise BasketNotFound(attention=flag)
    if last is None or last.ended_revision != snapshot.revision:
        raise NoActiveCheckout(last=last, attention=flag)
    return last
