"""Closes whole baskets, by deletion or expiry: a closed basket is empty and hidden, and stays until a purge."""

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
    """Empty and hide the user's basket; orders and the timeline stay.

    Locks the basket. Source: `deletebasket` of the published API.

    :raises BasketNotFound: there is none, or it has expired.
    :raises CheckoutActive: a session is active.
    """
    contents = lock_and_read(owner)
    if contents is None or not contents.is_open:
        raise BasketNotFound
    check_no_active_session(contents)
    return delete_locked_basket(contents=contents, actor=actor)


def expire_locked_basket(*, contents: BasketSnapshot, actor: Actor) -> BasketSnapshot:
    """Empty and hide an expired basket. Needs the basket's lock."""
    return _close(contents=contents, kind=Event.Kind.BASKET_EXPIRED, actor=actor)


def delete_locked_basket(*, contents: BasketSnapshot, actor: Actor) -> BasketSnapshot:
    """Empty and hide a basket as deleted by its user. Needs the basket's lock."""
    return _close(contents=contents, kind=Event.Kind.BASKET_DELETED, actor=actor)


def check_no_active_session(contents: BasketSnapshot) -> None:
    """Check that no session is active.

    :raises OwnSessionLapsed: the hold of the session has ended; the next try expires it first.
    :raises CheckoutActive: a session is active and its hold has not ended.
    """
    if contents.session is None:
        return
    if contents.lapsed:
        raise OwnSessionLapsed(basket_id=contents.basket_id)
    raise CheckoutActive(
        active=SessionSummary(
            order_no=contents.session.order_no,
            status=CheckoutSession.Status.ACTIVE,
            expires_at=contents.session.expires_at,
            finished_at=None,
        )
    )


def closed(contents: BasketSnapshot) -> BasketSnapshot:
    """Build the state of a basket that is emptied and hidden."""
    return replace(contents.cleared(), hidden_at=contents.at)


def emptied_event_data(contents: BasketSnapshot) -> dict[str, Any]:
    """Build the event data of a basket that is emptied: the items it held."""
    return {"cart": lines_as_json(contents.cart), "saved": lines_as_json(contents.saved)}


def _close(*, contents: BasketSnapshot, kind: Event.Kind, actor: Actor) -> BasketSnapshot:
    return write_and_record(before=contents, after=closed(contents), kind=kind, actor=actor, data=emptied_event_data(contents))
