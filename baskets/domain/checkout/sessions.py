"""Checkout sessions: started, finished by the partner's word, or given up. The heart of the service.

A late order, which takes its stock again, is in `late_orders`; the sweep and the reclaim are in `expiry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from baskets import conf
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.lifecycle import check_no_active_session
from baskets.domain.baskets.store import enqueue_locked_read, lines_as_json, lock_and_read, record_event, write_lists
from baskets.domain.checkout import attention, purchase_limits, session_rows
from baskets.domain.checkout.late_orders import order_late
from baskets.domain.checkout.order_numbers import generate_order_no
from baskets.domain.checkout.pricing import CatalogEntry, enqueue_cart_entries, entries_from_rows, total_price
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
    SessionSummary,
    Shortage,
)
from baskets.domain.retries import StockReclaimable, may_reclaim
from baskets.domain.stock import counters
from baskets.models import Attention, CheckoutSession, Event, StockReservation
from baskets.models.basket_snapshot import ActiveSession, BasketSnapshot, Owner


@dataclass(frozen=True, kw_only=True)
class StartedSession:
    """A session just started, and the basket with it."""

    session: CheckoutSession
    contents: BasketSnapshot


@transaction.atomic(savepoint=False)
def start_session(
    *,
    owner: Owner,
    language: str = "",
    country: str = "",
    stripe_using_sdk: bool = False,
    test_mode: bool = False,
    limits: purchase_limits.ClientLimits | None = None,
    actor: Actor,
) -> StartedSession:
    """Move the whole cart into checkout and hold its stock until the end of the hold.

    For each limited product all pieces are held, or none; an unlisted product is treated as unavailable. Some items
    failing does not fail the start. A test session touches no stock. Everything that does not depend on the stock is
    written before it, because a crowd waits for the stock row: where all pieces were seen to be there, everything is.
    Locks the basket, then stock rows by primary key.
    Source: `checkoutbasket` of the published API; `baskets/docs/lifecycle.md`.

    :param limits: what a client key counts against; None for a server key.
    :raises CartEmpty: there is nothing in the cart, or no basket.
    :raises CheckoutActive: a session is active.
    :raises Throttled: the user has started as many within the hour as may be, or a limit of the client key or its source is reached.
    :raises OutOfStock: not one item can be ordered.
    :raises OwnSessionLapsed: the basket's own session has lapsed.
    :raises StockReclaimable: lapsed sessions hold what is missing.
    :raises LimitBlockUsedUp: this process must take counts of a limit first.
    :raises StockChanged: others have got what was seen to be there.
    """
    asked, offered, drawn = enqueue_locked_read(owner), enqueue_cart_entries(owner.basket_id), session_rows.enqueue_next_id()
    before = asked.contents()
    if before is None or not before.is_open:
        raise CartEmpty
    check_no_active_session(before)
    if not before.cart:
        raise CartEmpty
    if not test_mode:
        purchase_limits.check_start_rate(before)

    offers, ((session_id,),) = entries_from_rows(offered), drawn
    buyable = {line.product_id: test_mode or offers[line.product_id].listed for line in before.cart}
    limited = [line for line in before.cart if offers[line.product_id].limited and buyable[line.product_id] and not test_mode]
    beyond = purchase_limits.over_checkout_limit(limited, before, by_client_key=limits is not None)
    wanted = {line.product_id: line.count for line in limited if line.product_id not in beyond}
    stocked: dict[str, int | None] = {
        line.product_id: line.count if line.product_id in wanted else None if buyable[line.product_id] else -line.count
        for line in before.cart
    } | {product_id: -pieces for product_id, pieces in beyond.items()}
    if limits:
        limits.count(starts=1, pieces=sum(wanted.values()))
    lines = lists.checkout_lines(before.cart, stocked)
    full_price, currency = total_price(lines, offers)
    session = CheckoutSession(
        id=session_id,
        basket_id=before.basket_id,
        partner_id=owner.partner_id,
        order_no=generate_order_no(),
        status=Session.ACTIVE,
        test_mode=test_mode,
        started_at=before.at,
        expires_at=before.at + (before.hold_override or conf.hold_duration()),
        language=language,
        country=country,
        stripe_using_sdk=stripe_using_sdk,
        currency=currency,
        full_price=full_price,
        started_by_key=actor.key_prefix,
    )
    after = write_lists(before=before, after=replace(before, cart=(), checkout=lines))
    session_rows.insert_session(session, lines, offers)
    after = replace(after, session=_active_session(session))

    missing: dict[str, Shortage] = {}
    seen = _appear_in_stock(wanted, offers)
    if not seen:
        missing = _take(wanted, partner_id=owner.partner_id, at=before.at)
        if missing:
            after = replace(after, checkout=session_rows.correct_session(session, lines, offers, missing))
    if all(line.failed for line in after.checkout):
        never_asked = [
            Shortage(product_id=line.product_id, wanted=line.count, available=line.count + (line.stocked or 0))
            for line in after.checkout
            if line.product_id not in wanted
        ]
        raise OutOfStock(missing=[*missing.values(), *never_asked])
    record_event(
        contents=after,
        kind=Event.Kind.CHECKOUT_STARTED,
        actor=actor,
        session_id=session.pk,
        data={
            "orderNo": session.order_no,
            "testMode": test_mode,
            "items": [lines_as_json((line,))[0] | {"stocked": line.stocked} for line in after.checkout],
        },
    )
    if limits and missing:
        limits.count(pieces=sum(pieces for product_id, pieces in wanted.items() if product_id not in missing))
    if seen:
        counters.reserve_or_retry(wanted)
    return StartedSession(session=session, contents=after)


@transaction.atomic(savepoint=False)
def finish_session(*, owner: Owner, ordered: bool, order_no: str | None, may_order: bool = True, actor: Actor) -> BasketSnapshot:
    """Finish a checkout session by the partner's word: its products are ordered, or go back into the cart.

    Which session is meant: the one `order_no` names; else the active one; else the latest that ended, while the basket
    has not changed since. A repeated call changes nothing. Ordering within the hold writes no stock row.
    Locks the basket; an abort and a late order then lock stock rows by primary key.
    Source: `finishactivecheckout`, the published reference; `baskets/docs/lifecycle.md`.

    :param order_no: the session meant, or None.
    :param may_order: whether the caller may report an order: a partner may reserve that to its server keys.
    :raises ServerKeyRequired: an order is reported, and the caller may not report one, whatever the state of the basket.
    :raises BasketNotFound: the user has no basket, and `order_no` names no session of a former one.
    :raises OrderNotFound: `order_no` names no session of this user.
    :raises NoActiveCheckout: there is none, and the basket has changed since the last one.
    :raises CheckoutAlreadyOrdered: an order is not aborted.
    :raises CheckoutAborted: the partner aborted it, and the call does not name it.
    :raises CheckoutExpired: the grace period for a late order is over.
    :raises OutOfStock: the stock of a late order is gone, and the partner refuses such orders.
    :raises StockReclaimable: lapsed sessions hold what is missing.
    """
    if ordered and not may_order:
        raise ServerKeyRequired
    contents = lock_and_read(owner)
    if contents is None:
        raise BasketNotFound
    active = contents.session
    if active and order_no in (None, active.order_no):
        return _order(contents, active, actor) if ordered else end_unsold(contents, to=Session.ABORTED, actor=actor)
    session = _find_ended_session(contents, ordered=ordered, order_no=order_no, actor=actor)
    if session.status == Session.ORDERED:
        if not ordered:
            raise CheckoutAlreadyOrdered
        return contents
    if not ordered:
        return contents
    if session.status == Session.ABORTED and order_no is None:
        raise CheckoutAborted(attention=attention.flag_for(session, Attention.Reason.ABORTED, actor, named=False))
    return order_late(contents=contents, session=session, actor=actor, named=order_no is not None)


def end_unsold(contents: BasketSnapshot, *, to: Session, actor: Actor) -> BasketSnapshot:
    """Abort or expire the active session: release its holds, and return every item to the cart.

    Needs the basket's lock; locks stock rows by primary key, last.

    :param to: ABORTED or EXPIRED.
    """
    session = _require_active(contents)
    kind = Event.Kind.CHECKOUT_ABORTED if to == Session.ABORTED else Event.Kind.CHECKOUT_EXPIRED
    after = write_lists(before=contents, after=lists.with_lines_returned(contents, contents.checkout))
    pieces = dict(end_holds(basket_id=contents.basket_id, session_id=session.id, new=Reservation.RELEASED, at=contents.at))
    record_event(contents=after, kind=kind, actor=actor, session_id=session.id, data=released_event_data(contents, pieces))
    move_session(
        basket_id=contents.basket_id,
        session_id=session.id,
        old=Session.ACTIVE,
        new=to,
        at=after.at,
        revision=after.revision,
        actor=actor,
    )
    counters.release(pieces)
    return after


def released_event_data(contents: BasketSnapshot, pieces: Mapping[str, int]) -> dict[str, Any]:
    """What the timeline says about a session whose holds were released."""
    return {"orderNo": _require_active(contents).order_no, "items": lines_as_json(contents.checkout), "released": dict(pieces)}


def _order(contents: BasketSnapshot, session: ActiveSession, actor: Actor) -> BasketSnapshot:
    """Order the active session: held becomes sold, failed items return to the cart. No stock row is written."""
    bought = tuple(line for line in contents.checkout if not line.failed)
    failed = tuple(line for line in contents.checkout if line.failed)
    data = {"orderNo": session.order_no, "items": lines_as_json(bought), "failed": lines_as_json(failed)}
    end_holds(basket_id=contents.basket_id, session_id=session.id, new=Reservation.SOLD, at=contents.at)
    after = write_lists(before=contents, after=lists.with_lines_returned(contents, failed))
    record_event(contents=after, kind=Event.Kind.CHECKOUT_ORDERED, actor=actor, session_id=session.id, data=data)
    move_session(
        basket_id=contents.basket_id,
        session_id=session.id,
        old=Session.ACTIVE,
        new=Session.ORDERED,
        at=after.at,
        revision=after.revision,
        actor=actor,
    )
    return after


def _find_ended_session(contents: BasketSnapshot, *, ordered: bool, order_no: str | None, actor: Actor) -> CheckoutSession:
    """Find the session a call means when it does not mean the active one."""
    sessions = CheckoutSession.objects.filter(basket_id=contents.basket_id)
    if order_no is not None:
        if session := sessions.filter(order_no=order_no).first():
            return session
        raise OrderNotFound if contents.is_open else BasketNotFound
    last = sessions.latest_ended_first().first()
    # The app may hold a payment for the last session, whatever has become of the basket since.
    flag = attention.flag_for(last, Attention.Reason.BASKET_CHANGED, actor, named=False) if last and ordered else None
    if not contents.is_open:
        raise BasketNotFound(attention=flag)
    if last is None or last.ended_revision != contents.revision:
        raise NoActiveCheckout(last=_summary(last) if last else None, attention=flag)
    return last


def _summary(session: CheckoutSession) -> SessionSummary:
    return SessionSummary(
        order_no=session.order_no,
        status=session.status,
        expires_at=session.expires_at,
        finished_at=session.finished_at,
    )


def _require_active(contents: BasketSnapshot) -> ActiveSession:
    if contents.session is None:
        message = "there is no active session to give up"
        raise ValueError(message)
    return contents.session


def _active_session(session: CheckoutSession) -> ActiveSession:
    return ActiveSession(
        id=session.pk,
        order_no=session.order_no,
        test_mode=session.test_mode,
        started_at=session.started_at,
        expires_at=session.expires_at,
    )


def _appear_in_stock(wanted: Mapping[str, int], offers: Mapping[str, CatalogEntry]) -> bool:
    """Tell whether all pieces can be taken without asking which there are, and be found gone only if others are faster."""
    return not conf.partner_share_percent() and all(offers[product_id].available >= pieces for product_id, pieces in wanted.items())


def _take(wanted: Mapping[str, int], *, partner_id: int, at: datetime) -> dict[str, Shortage]:
    """Take the pieces of each product, or say how many it has.

    :raises StockReclaimable: lapsed sessions hold what is missing, and may be reclaimed.
    """
    missing = _missing(counters.reserve(wanted), wanted)
    taken = {product_id: pieces for product_id, pieces in wanted.items() if product_id not in missing}
    if beyond := purchase_limits.over_partner_share(partner_id=partner_id, taken=taken, at=at):
        counters.release({product_id: taken[product_id] for product_id in beyond})
    return missing | beyond


def _missing(short: set[str], wanted: Mapping[str, int]) -> dict[str, Shortage]:
    """Say how much is missing of the products that had too little.

    :raises StockReclaimable: lapsed sessions hold some of them, or held them a moment ago, and they may be reclaimed.
    """
    if not short:
        return {}
    # In this order: a lapsed session that ends between the two questions is seen by the first, or its pieces by the second.
    lapsed = may_reclaim() and StockReservation.objects.lapsed(short).exists()
    there = counters.available_now(short)
    if lapsed or (may_reclaim() and any(there[p][0] >= wanted[p] for p in short)):
        raise StockReclaimable(needed={p: wanted[p] - there[p][0] + there[p][1] for p in short})
    # A piece that came free after the stock was asked for is no longer offered to this start: at least one is missing.
    return {p: Shortage(product_id=p, wanted=wanted[p], available=min(there[p][0], wanted[p] - 1)) for p in short}
