"""Closes whole baskets, by deletion or expiry. A closed basket is empty and no longer shown; its row stays until a purge."""

from dataclasses import replace
from typing import Any

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, write_and_record
from baskets.domain.baskets.timeline import lines_as_json
from baskets.domain.errors import BasketNotFound, CheckoutActive, SessionSummary
from baskets.domain.retries import OwnSessionLapsed
from baskets.models import CheckoutSession, Event
from baskets.models.basket_snapshot import BasketSnapshot, Owner


@transaction.atomic(savepoint=False)
def delete_basket(*, owner: Owner, actor: Actor) -> BasketSnapshot:
    """Close the user's basket as deleted; orders and the timeline stay.

    Locks the basket. Source: `deletebasket` of the published API.

    :raises BasketNotFound: there is none, or it has expired.
    :raises CheckoutActive: a session is active.
    """
    snapshot = lock_and_read(owner)
    if snapshot is None or not snapshot.is_open:
        raise BasketNotFound
    check_no_active_session(snapshot)
    return delete_locked_basket(snapshot=snapshot, actor=actor)


def expire_locked_basket(*, snapshot: BasketSnapshot, actor: Actor) -> BasketSnapshot:
    """Close an expired basket. Needs the basket's lock."""
    return _close(snapshot=snapshot, kind=Event.Kind.BASKET_EXPIRED, actor=actor)


def delete_locked_basket(*, snapshot: BasketSnapshot, actor: Actor) -> BasketSnapshot:
    """Close a basket as deleted. Needs the basket's lock."""
    return _close(snapshot=snapshot, kind=Event.Kind.BASKET_DELETED, actor=actor)


def check_no_active_session(snapshot: BasketSnapshot) -> None:
    """Check that no session is active.

    :raises OwnSessionLapsed: the hold of the session has ended; the next try expires it first.
    :raises CheckoutActive: a session is active and its hold has not ended.
    """
    if snapshot.session is None:
        return
    if snapshot.lapsed:
        raise OwnSessionLapsed(basket_id=snapshot.basket_id)
    raise CheckoutActive(
        active=SessionSummary(
            order_no=snapshot.session.order_no,
            status=CheckoutSession.Status.ACTIVE,
            expires_at=snapshot.session.expires_at,
            finished_at=None,
        )
    )


def closed(snapshot: BasketSnapshot) -> BasketSnapshot:
    """Return the state of a basket after it is closed."""
    return replace(snapshot.cleared(), hidden_at=snapshot.at)


def emptied_event_data(snapshot: BasketSnapshot) -> dict[str, Any]:
    """Return the event data of a basket that is closed: the items it held.

    :returns: `cart` and `saved`, each as `lines_as_json` builds it.
    """
    return {"cart": lines_as_json(snapshot.cart), "saved": lines_as_json(snapshot.saved)}


def _close(*, snapshot: BasketSnapshot, kind: Event.Kind, actor: Actor) -> BasketSnapshot:
    return write_and_record(before=snapshot, after=closed(snapshot), kind=kind, actor=actor, data=emptied_event_data(snapshot))
