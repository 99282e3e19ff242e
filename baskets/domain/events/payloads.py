"""The payload of an event, the same in the feed and in webhooks. Comments of staff are left out."""

from typing import Any

from baskets.domain.actors import ActorKind
from baskets.domain.timestamps import format_timestamp
from baskets.models import Event, FeedPosition

# The reason of a repair is a comment of staff.
HIDDEN_DATA_KEYS: dict[str, frozenset[str]] = {Event.Kind.REPAIRED: frozenset({"reason"})}


def message_id(entry: FeedPosition) -> str:
    """Return the permanent id of an event in the feed and in webhooks, by which a receiver recognises a repeated message.

    It reveals nothing about other events. Events that got their positions before public ids existed keep their former ids.
    """
    return f"evt-{entry.event_id if entry.public_id is None else entry.public_id.hex}"


def event_payload(entry: FeedPosition, *, sandbox: bool) -> dict[str, Any]:
    """Return the JSON object of an event, from its entry in the feed.

    :param sandbox: whether its partner is a sandbox. Only events of a sandbox have the member `sandbox`.
    """
    event = entry.event
    by_key = event.actor_kind == ActorKind.KEY
    hidden = HIDDEN_DATA_KEYS.get(event.kind, frozenset[str]())
    return {
        "id": message_id(entry),
        "kind": event.kind,
        "at": format_timestamp(event.at),
        "userId": event.basket.user_id,
        "orderNo": event.session.order_no if event.session else None,
        "number": event.number,
        "revision": event.revision,
        "actor": {"kind": event.actor_kind, "key": event.actor if by_key else None},
        "requestId": (event.request_id if by_key else "") or None,
        "tracking": event.tracking,
        "data": {name: value for name, value in event.data.items() if name not in hidden},
    } | ({"sandbox": True} if sandbox else {})
