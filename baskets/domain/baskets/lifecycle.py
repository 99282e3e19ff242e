"""Closes whole baskets, by deletion or expiry. A closed basket is empty and no longer shown; its row stays until a purge."""

from django.db import transaction

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import ArrayLiteral, Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, write_and_record
from baskets.domain.baskets.timeline import INSERT_INTO_EVENT, lists_as_json
from baskets.domain.errors import BasketNotFound, CheckoutActive
from baskets.domain.retries import OwnSessionLapsed
from baskets.models import CheckoutSession, Event
from baskets.models.basket_snapshot import BasketSnapshot, Owner

# What `expire_locked_basket` does, for the many of a sweep. `tests/domain/checkout/test_ending.py` and the model hold both equal.
# Parameters keep a plan from partial indexes in place of the primary key.
EXPIRE_BASKETS = Statement(
    "expire_baskets",
    f"""
WITH old AS (
    SELECT b.id, b.revision + 1 AS revision, b.events + 1 AS events, greatest(statement_timestamp(), b.last_changed_at) AS at
    FROM baskets_basket b
    WHERE b.id = ANY(%(baskets)s::uuid[]) AND (b.hidden_at IS NULL) = %(shown)s
      AND b.expires_at <= greatest(statement_timestamp(), b.last_changed_at)
      AND NOT EXISTS (SELECT FROM baskets_checkoutsession session WHERE session.basket_id = b.id AND session.status = %(active)s)
), item AS (
    DELETE FROM baskets_basketitem item USING old WHERE item.basket_id = old.id
), basket AS (
    UPDATE baskets_basket b
    SET revision = old.revision, events = old.events, last_changed_at = old.at, hidden_at = old.at,
        expires_at = CASE WHEN b.guest THEN b.expires_at ELSE old.at + %(lifetime)s::interval END
    FROM old WHERE b.id = old.id
), event AS (
    {INSERT_INTO_EVENT}SELECT id, events, revision, 'basket_expired', NULL, at, %(actor_kind)s, %(actor)s, '', '{{}}', (
        SELECT jsonb_object_agg(name, (
            SELECT coalesce(jsonb_agg(jsonb_build_object('productId', product_id, 'count', count) ORDER BY position, product_id), '[]')
            FROM baskets_basketitem item WHERE item.basket_id = old.id AND item.list = name
        )) FROM unnest(ARRAY['cart', 'saved']) AS name
    )
    FROM old
)
SELECT count(*) FROM old
""",  # noqa: S608 (its parts are constants)
)


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


def expire_locked_baskets(baskets: ArrayLiteral, *, actor: Actor) -> int:
    """Close those of these baskets that have expired and have no active checkout, in one statement. Needs their locks.

    :param baskets: primary keys.
    :returns: how many it has closed.
    """
    parameters = {"shown": True, "active": CheckoutSession.Status.ACTIVE, "lifetime": conf.basket_lifetime(), "baskets": baskets}
    ((closed_baskets,),) = execute(EXPIRE_BASKETS, parameters | {"actor_kind": actor.kind, "actor": actor.name})
    return int(closed_baskets)


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
    return snapshot.cleared()._replace(hidden_at=snapshot.at)


def _close(*, snapshot: BasketSnapshot, kind: Event.Kind, actor: Actor) -> BasketSnapshot:
    return write_and_record(before=snapshot, after=closed(snapshot), kind=kind, actor=actor, data=lists_as_json(snapshot))
