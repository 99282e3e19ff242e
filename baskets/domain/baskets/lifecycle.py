"""Whole baskets: deleted by their user, or expired by the clock. Either way emptied and hidden, and kept until a purge."""

from dataclasses import replace
from typing import Any

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.baskets.store import described, locked_contents, store
from baskets.domain.errors import BasketNotFound, CheckoutActive, LapsedSession, SessionSummary
from baskets.models import CheckoutSession, Event
from baskets.models.basket_snapshot import Contents, Owner


@transaction.atomic(savepoint=False)
def delete_basket(*, owner: Owner, actor: Actor) -> Contents:
    """Empty and hide the user's basket; orders and the timeline stay.

    Locks the basket. Source: `deletebasket` of the published API.

    :raises BasketNotFound: there is none, or it has expired.
    :raises CheckoutActive: a session is active.
    """
    contents = locked_contents(owner)
    if contents is None or not contents.present:
        raise BasketNotFound
    refuse_active_session(contents)
    return delete_locked(contents=contents, actor=actor)


def expire_locked(*, contents: Contents, actor: Actor) -> Contents:
    """Empty and hide a basket that is past its time, under its lock."""
    return _hide(contents=contents, kind=Event.Kind.BASKET_EXPIRED, actor=actor)


def delete_locked(*, contents: Contents, actor: Actor) -> Contents:
    """Empty and hide a basket as its user's own deletion does, under its lock."""
    return _hide(contents=contents, kind=Event.Kind.BASKET_DELETED, actor=actor)


def refuse_active_session(contents: Contents) -> None:
    """Let a call go on only where no session is active.

    :raises LapsedSession: the session's hold has ended; the runner expires it and comes back.
    :raises CheckoutActive: it has not.
    """
    if contents.session is None:
        return
    if contents.lapsed:
        raise LapsedSession(basket_id=contents.basket_id)
    raise CheckoutActive(
        active=SessionSummary(
            order_no=contents.session.order_no,
            status=CheckoutSession.Status.ACTIVE,
            expires_at=contents.session.expires_at,
            finished_at=None,
        )
    )


def hidden(contents: Contents) -> Contents:
    """The basket as it is when it is emptied and hidden."""
    return replace(contents.emptied(), hidden_at=contents.at)


def told_of_content(contents: Contents) -> dict[str, Any]:
    """What the timeline says about a basket that is emptied."""
    return {"cart": described(contents.cart), "saved": described(contents.saved)}


def _hide(*, contents: Contents, kind: Event.Kind, actor: Actor) -> Contents:
    return store(before=contents, after=hidden(contents), kind=kind, actor=actor, data=told_of_content(contents))
