"""Writes what a call has decided about a basket: the difference of its lists, its row, and one event.

Every function here needs the basket's lock; see `baskets/docs/concurrency.md`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from baskets import conf
from baskets.db.pipeline import PendingResult, Statement, execute
from baskets.domain.actors import Actor
from baskets.models import Basket, Event
from baskets.models.basket_snapshot import READ_MANY, READ_ONE, BasketLine, BasketSnapshot, Owner, snapshot_from_rows, snapshots_from_rows

LOCK_BASKET = Statement(
    "lock_basket",
    """
SELECT 1 FROM baskets_basket WHERE id = %s FOR NO KEY UPDATE
""",
)
WRITE_BASKET = Statement(
    "write_basket",
    """
UPDATE baskets_basket
SET revision = %(revision)s, events = %(events)s, last_changed_at = %(last_changed_at)s,
    expires_at = %(expires_at)s, hidden_at = %(hidden_at)s
WHERE id = %(basket)s
""",
)
# The rows of cart and saved that are gone, and those that are new or different.
WRITE_ITEMS = """
WITH gone AS (
    DELETE FROM baskets_basketitem WHERE basket_id = %(basket)s AND product_id = ANY(%(gone)s)
), fresh AS (
    INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
    SELECT %(basket)s, * FROM unnest(%(products)s::text[], %(lists)s::text[], %(counts)s::bigint[], %(positions)s::bigint[])
    ON CONFLICT (basket_id, product_id) DO UPDATE
    SET list = excluded.list, count = excluded.count, position = excluded.position
)
"""
WRITE_ITEMS_AND_BASKET = Statement("write_items_and_basket", WRITE_ITEMS + WRITE_BASKET.sql)
INSERT_EVENT = Statement(
    "insert_event",
    """
INSERT INTO baskets_event
    (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb)
""",
)


@dataclass(frozen=True)
class PendingBasket:
    """A basket that was asked for; whoever takes its contents waits for the answer."""

    locked: PendingResult
    read: PendingResult

    def contents(self) -> BasketSnapshot | None:
        """Take the basket, locked and whole, or None where it has no row."""
        # A row that was made between the two statements was read, but is not locked.
        return snapshot_from_rows(self.read) if self.locked.fetchone() else None


def enqueue_locked_read(owner: Owner) -> PendingBasket:
    """Lock the owner's basket and read it whole: asked for, so that questions that need the lock too travel along.

    The second statement is the first after the lock was won: its clock decides about expiry.
    """
    return PendingBasket(locked=execute(LOCK_BASKET, [owner.basket_id]), read=execute(READ_ONE, [owner.basket_id]))


def lock_and_read(owner: Owner) -> BasketSnapshot | None:
    """Lock the owner's basket and read it whole, or None where it has no row."""
    return enqueue_locked_read(owner).contents()


def create_and_lock(owner: Owner, *, guest: bool = False) -> BasketSnapshot:
    """Make the basket's row and lock it. Two callers may both come here; the unique key lets one row be made.

    :param guest: whether it expires a lifetime after its creation and does not slide.
    """
    basket = Basket(
        id=owner.basket_id,
        partner_id=owner.partner_id,
        user_id=owner.user_id,
        guest=guest,
        created_at=Now(),
        last_changed_at=Now(),
        expires_at=Now() + conf.basket_lifetime(),
    )
    Basket.objects.bulk_create([basket], ignore_conflicts=True)
    contents = lock_and_read(owner)
    if contents is None:
        message = "the basket is gone although its row was just made"
        raise RuntimeError(message)
    return contents


def lock_basket(basket_id: UUID) -> bool:
    """Lock one basket's row, and tell whether it exists. The row is the mutex of all that belongs to the basket."""
    return execute(LOCK_BASKET, [basket_id]).fetchone() is not None


def write_and_record(
    *, before: BasketSnapshot, after: BasketSnapshot, kind: Event.Kind, actor: Actor, data: Mapping[str, Any]
) -> BasketSnapshot:
    """Write the lists and the event of a change, and return the basket as it is then.

    A call that changes nothing writes nothing: neither revision nor `last_changed_at` moves.
    """
    if _same_lists(before, after) and before.hidden_at == after.hidden_at:
        return before
    after = write_lists(before=before, after=after)
    record_event(contents=after, kind=kind, actor=actor, data=data)
    return after


def write_lists(*, before: BasketSnapshot, after: BasketSnapshot) -> BasketSnapshot:
    """Write the difference between two states of a basket, count the change, and take the number of its event.

    The session's items are written by `checkout`; here only cart, saved and the basket's own row.
    """
    gone, fresh = _difference(before, after)
    after = _with_next_revision(before, after)
    basket = {
        "basket": after.basket_id,
        "revision": after.revision,
        "events": after.events,
        "last_changed_at": after.last_changed_at,
        "expires_at": after.expires_at,
        "hidden_at": after.hidden_at,
    }
    if not gone and not fresh:
        execute(WRITE_BASKET, basket)
        return after
    items = {
        "gone": gone,
        "products": list(fresh),
        "lists": [name for name, _, _ in fresh.values()],
        "counts": [count for _, count, _ in fresh.values()],
        "positions": [position for _, _, position in fresh.values()],
    }
    execute(WRITE_ITEMS_AND_BASKET, basket | items)
    return after


def record_event(
    *, contents: BasketSnapshot, kind: Event.Kind, actor: Actor, data: Mapping[str, Any], session_id: int | None = None
) -> None:
    """Add one line to the basket's timeline, under the number that `write_lists` took."""
    execute(
        INSERT_EVENT,
        [
            contents.basket_id,
            contents.events,
            contents.revision,
            kind,
            session_id,
            contents.at,
            actor.kind,
            actor.name,
            actor.request_id,
            json.dumps(dict(actor.tracking)),
            json.dumps(dict(data)),
        ],
    )


# --- Many baskets at once, for the sweeps ---------------------------------------

LOCK_AVAILABLE = Statement(
    "lock_available",
    """
SELECT id FROM baskets_basket WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
""",
)
WRITE_BASKETS = Statement(
    "write_baskets",
    """
WITH gone AS (
    DELETE FROM baskets_basketitem item USING unnest(%(gone_from)s::uuid[], %(gone)s::text[]) AS gone (basket_id, product_id)
    WHERE item.basket_id = gone.basket_id AND item.product_id = gone.product_id
), fresh AS (
    INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
    SELECT * FROM unnest(%(fresh_in)s::uuid[], %(products)s::text[], %(lists)s::text[], %(counts)s::bigint[], %(positions)s::bigint[])
    ON CONFLICT (basket_id, product_id) DO UPDATE
    SET list = excluded.list, count = excluded.count, position = excluded.position
)
UPDATE baskets_basket basket
SET revision = after.revision, events = after.events, last_changed_at = after.last_changed_at,
    expires_at = after.expires_at, hidden_at = after.hidden_at
FROM unnest(%(baskets)s::uuid[], %(revisions)s::bigint[], %(events)s::bigint[], %(last_changed_at)s::timestamptz[],
            %(expires_at)s::timestamptz[], %(hidden_at)s::timestamptz[])
     AS after (id, revision, events, last_changed_at, expires_at, hidden_at)
WHERE basket.id = after.id
""",
)
INSERT_EVENTS = Statement(
    "insert_events",
    """
INSERT INTO baskets_event
    (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT line.basket_id, line.number, line.revision, %(kind)s, line.session_id, line.at, %(actor_kind)s, %(actor)s, '', '{}', line.data::jsonb
FROM unnest(%(baskets)s::uuid[], %(events)s::bigint[], %(revisions)s::bigint[], %(sessions)s::bigint[], %(at)s::timestamptz[],
            %(data)s::text[])
     AS line (basket_id, number, revision, session_id, at, data)
""",
)


@dataclass(frozen=True, kw_only=True)
class BasketChange:
    """What becomes of one basket, and what its timeline says about that."""

    before: BasketSnapshot
    after: BasketSnapshot
    data: Mapping[str, Any]
    session_id: int | None = None


def lock_available(basket_ids: Sequence[UUID]) -> list[BasketSnapshot]:
    """Lock those baskets that nobody else has locked, by primary key, and read them whole.

    The others are in use, and the next sweep sees them again.
    """
    locked = execute(LOCK_AVAILABLE, [list(basket_ids)])
    read = execute(READ_MANY, [list(basket_ids)])
    ours = {basket_id for (basket_id,) in locked}
    return [contents for contents in snapshots_from_rows(read) if contents.basket_id in ours]


def write_and_record_many(changes: Sequence[BasketChange], *, kind: Event.Kind, actor: Actor) -> list[BasketSnapshot]:
    """Do what `write_lists` and `record_event` do, for many baskets in two statements."""
    differences = [_difference(change.before, change.after) for change in changes]
    after = [_with_next_revision(change.before, change.after) for change in changes]
    gone = [(basket.basket_id, product_id) for basket, (gone, _) in zip(after, differences, strict=True) for product_id in gone]
    fresh = [
        (basket.basket_id, product_id, *row)
        for basket, (_, fresh) in zip(after, differences, strict=True)
        for product_id, row in fresh.items()
    ]
    rows = {
        "baskets": [basket.basket_id for basket in after],
        "revisions": [basket.revision for basket in after],
        "events": [basket.events for basket in after],
    }
    execute(
        WRITE_BASKETS,
        rows
        | {name: [row[column] for row in gone] for column, name in enumerate(["gone_from", "gone"])}
        | {name: [row[column] for row in fresh] for column, name in enumerate(["fresh_in", "products", "lists", "counts", "positions"])}
        | {
            "last_changed_at": [basket.last_changed_at for basket in after],
            "expires_at": [basket.expires_at for basket in after],
            "hidden_at": [basket.hidden_at for basket in after],
        },
    )
    execute(
        INSERT_EVENTS,
        rows
        | {
            "kind": kind,
            "actor_kind": actor.kind,
            "actor": actor.name,
            "sessions": [change.session_id for change in changes],
            "at": [basket.at for basket in after],
            "data": [json.dumps(dict(change.data)) for change in changes],
        },
    )
    return after


# --- What is different ----------------------------------------------------------


def _difference(before: BasketSnapshot, after: BasketSnapshot) -> tuple[list[str], dict[str, tuple[str, int, int]]]:
    """The products of cart and saved that are gone, and the rows that are new or different."""
    stored, wanted = _item_rows(before), _item_rows(after)
    fresh = {product_id: row for product_id, row in sorted(wanted.items()) if stored.get(product_id) != row}
    return sorted(stored.keys() - wanted.keys()), fresh


def _with_next_revision(before: BasketSnapshot, after: BasketSnapshot) -> BasketSnapshot:
    """Count a change, if it is one, and its event."""
    after = replace(after, events=before.events + 1)
    if _same_lists(before, after) and before.hidden_at == after.hidden_at:
        return after
    slides = not before.guest or before.hidden_at is not None
    return replace(
        after,
        revision=before.revision + 1,
        last_changed_at=before.at,
        expires_at=before.at + conf.basket_lifetime() if slides else before.expires_at,
    )


def _item_rows(contents: BasketSnapshot) -> dict[str, tuple[str, int, int]]:
    """The rows of cart and saved, by product."""
    rows = {line.product_id: ("saved", line.count, line.position) for line in contents.saved}
    return rows | {line.product_id: ("cart", line.count, line.position) for line in contents.cart}


def _same_lists(before: BasketSnapshot, after: BasketSnapshot) -> bool:
    return (before.cart, before.saved, before.checkout) == (after.cart, after.saved, after.checkout)


def lines_as_json(lines: tuple[BasketLine, ...]) -> list[dict[str, Any]]:
    """What an event says about lines."""
    return [{"productId": line.product_id, "count": line.count} for line in lines]
