"""How an event is told to its partner: the same in the feed and in a webhook. What staff noted for each other stays with them."""

from typing import Any

from baskets.domain.actors import ActorKind
from baskets.domain.timestamps import format_timestamp
from baskets.models import Event, FeedPosition

# Of a repair, the reason is a note among staff.
HIDDEN_DATA_KEYS: dict[str, frozenset[str]] = {Event.Kind.REPAIRED: frozenset({"reason"})}


def message_id(place: FeedPosition) -> str:
    """Return the name of an event, the same for good in the feed and in webhooks: a receiver recognises a repeat by it.

    It says nothing of other events. Only those that got their positions before public ids existed keep their former names.
    """
    return f"evt-{place.event_id if place.public_id is None else place.public_id.hex}"


def event_payload(place: FeedPosition) -> dict[str, Any]:
    """Tell an event, given its place in the feed."""
    event = place.event
    by_key = event.actor_kind == ActorKind.KEY
    kept_back = HIDDEN_DATA_KEYS.get(event.kind, frozenset[str]())
    return {
        "id": message_id(place),
        "kind": event.kind,
        "at": format_timestamp(event.at),
        "userId": event.basket.user_id,
        "orderNo": event.session.order_no if event.session else None,
        "number": event.number,
        "revision": event.revision,
        "actor": {"kind": event.actor_kind, "key": event.actor if by_key else None},
        "requestId": (event.request_id if by_key else "") or None,
        "tracking": event.tracking,
        "data": {name: value for name, value in event.data.items() if name not in kept_back},
    }
