"""The payload of an event, the same in the feed and in webhooks. Comments of staff are left out."""

import operator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from baskets import tracing
from baskets.domain.actors import ActorKind
from baskets.domain.timestamps import format_timestamp
from baskets.models import Event, FeedPosition

# The reason of a repair is a comment of staff.
HIDDEN_DATA_KEYS: dict[str, frozenset[str]] = {Event.Kind.REPAIRED: frozenset({"reason"})}


class FeedEntry(NamedTuple):
    """One event as the feed reads it: a row of `ENTRY_COLUMNS`. Reading model objects costs three times as much.

    :param order_no: of its session; None without a session.
    """

    position: int
    event_id: int
    public_id: UUID | None
    kind: str
    at: datetime
    user_id: str
    order_no: str | None
    number: int
    revision: int
    actor_kind: str
    actor: str
    request_id: str
    tracking: Any
    data: dict[str, Any]


# For `values_list` of feed positions.
ENTRY_COLUMNS = (
    "position",
    "event_id",
    "public_id",
    "event__kind",
    "event__at",
    "event__basket__user_id",
    "event__session__order_no",
    "event__number",
    "event__revision",
    "event__actor_kind",
    "event__actor",
    "event__request_id",
    "event__tracking",
    "event__data",
)
_EVENT_FIELDS = operator.attrgetter("number", "revision", "actor_kind", "actor", "request_id", "tracking", "data")


def entry_of(place: FeedPosition) -> FeedEntry:
    """Return the entry of a feed position.

    :param place: with its event, basket and session.
    """
    event = place.event
    order_no = event.session.order_no if event.session else None
    names = (event.kind, event.at, event.basket.user_id, order_no)
    return FeedEntry(place.position, place.event_id, place.public_id, *names, *_EVENT_FIELDS(event))


def message_id(entry: FeedEntry | FeedPosition) -> str:
    """Return the permanent id of an event in the feed and in webhooks, by which a receiver recognises a repeated message.

    It reveals nothing about other events. Events that got their positions before public ids existed keep their former ids.
    """
    return f"evt-{entry.event_id if entry.public_id is None else entry.public_id.hex}"


def event_payload(entry: FeedEntry, *, sandbox: bool) -> dict[str, Any]:
    """Return the JSON object of an event.

    :param sandbox: whether its partner is a sandbox. Only events of a sandbox have the member `sandbox`.
    :returns: the members that `api.serializers.events` describes for its kind.
    """
    by_key = entry.actor_kind == ActorKind.KEY
    hidden = HIDDEN_DATA_KEYS.get(entry.kind)
    payload = {
        "id": message_id(entry),
        "kind": entry.kind,
        "at": format_timestamp(entry.at),
        "userId": entry.user_id,
        "orderNo": entry.order_no,
        "number": entry.number,
        "revision": entry.revision,
        "actor": {"kind": entry.actor_kind, "key": entry.actor if by_key else None},
        "requestId": (entry.request_id if by_key else "") or None,
        "tracking": tracing.without_context(entry.tracking),
        "data": {name: value for name, value in entry.data.items() if name not in hidden} if hidden else entry.data,
    }
    if sandbox:
        payload["sandbox"] = True
    return payload
