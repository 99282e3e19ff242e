"""Inserts the events of a basket's timeline: the one place that knows the columns of an event.

Every function here needs the basket's lock. What an event means is in `models/events.py`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.models import Event
from baskets.models.basket_snapshot import BasketSnapshot

INSERT_INTO_EVENT = """INSERT INTO baskets_event
    (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
"""
# The author of an event, where `author` gives the parameters.
AUTHOR = "%(actor_kind)s, %(actor)s, %(request_id)s, %(tracking)s::jsonb"
INSERT_EVENT = Statement(
    "insert_event",
    f"""
{INSERT_INTO_EVENT}VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb)
""",
)
# The number comes from the row, because the transaction may have counted further events since it read the basket.
APPEND_EVENT = Statement(
    "append_event",
    f"""
WITH numbered AS (
    UPDATE baskets_basket SET events = events + 1 WHERE id = %s RETURNING id, events, revision
)
{INSERT_INTO_EVENT}SELECT id, events, revision, %s, %s, %s, %s, %s, %s, '{{}}'::jsonb, %s::jsonb FROM numbered
""",  # noqa: S608 (a constant of ours)
)


class ProductCount(Protocol):
    """Pieces of one product: a line of a basket, or a row of a checkout."""

    @property
    def product_id(self) -> str:
        """The product."""

    @property
    def count(self) -> int:
        """The pieces."""


def record_event(
    *, snapshot: BasketSnapshot, kind: Event.Kind, actor: Actor, data: Mapping[str, Any], session_id: int | None = None
) -> None:
    """Insert the event of a change, under the number that `store.write_lists` took for it."""
    execute(
        INSERT_EVENT,
        [
            snapshot.basket_id,
            snapshot.events,
            snapshot.revision,
            kind,
            session_id,
            snapshot.at,
            actor.kind,
            actor.name,
            actor.request_id,
            json.dumps(dict(actor.tracking)),
            json.dumps(dict(data)),
        ],
    )


def append_event(
    *, snapshot: BasketSnapshot, kind: Event.Kind, actor: Actor, data: Mapping[str, Any], session_id: int | None = None
) -> None:
    """Insert a further event, numbered after all others of the transaction."""
    execute(
        APPEND_EVENT,
        [snapshot.basket_id, kind, session_id, snapshot.at, actor.kind, actor.name, actor.request_id, json.dumps(dict(data))],
    )


def author(actor: Actor) -> dict[str, str]:
    """Return the parameters of `AUTHOR`."""
    return {"actor_kind": actor.kind, "actor": actor.name, "request_id": actor.request_id, "tracking": json.dumps(dict(actor.tracking))}


def lists_as_json(snapshot: BasketSnapshot) -> dict[str, Any]:
    """Build the event data that show the items of a basket: `cart` and `saved`."""
    return {"cart": lines_as_json(snapshot.cart), "saved": lines_as_json(snapshot.saved)}


def lines_as_json(lines: Iterable[ProductCount]) -> list[dict[str, Any]]:
    """Build the part of an event's data that lists products: one `productId` and `count` for each line."""
    return [{"productId": line.product_id, "count": line.count} for line in lines]
