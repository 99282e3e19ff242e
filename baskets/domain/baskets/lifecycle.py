"""Closes whole baskets, by deletion or expiry. A closed basket is empty and no longer shown; its row stays until a purge."""

from dataclasses import replace

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, write_and_record
from baskets.domain.baskets.timeline import lists_as_json
from baskets.domain.errors import BasketNotFound, CheckoutActive
from baskets.domain.retries import OwnSessionLapsed
from baskets.models import Event
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
    raise CheckoutActive(active=snapshot.session)


def closed(snapshot: BasketSnapshot) -> BasketSnapshot:
    """Return the state of a basket after it is closed."""
    return replace(snapshot.cleared(), hidden_at=snapshot.at)


def _close(*, snapshot: BasketSnapshot, kind: Event.Kind, actor: Actor) -> BasketSnapshot:
    return write_and_record(before=snapshot, after=closed(snapshot), kind=kind, actor=actor, data=lists_as_json(snapshot))
