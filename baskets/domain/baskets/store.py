"""Locks and reads baskets, and writes a change: the difference of the lists, the basket's row, and one event.

Every function here needs the basket's lock; see `baskets/docs/concurrency.md`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from baskets import conf
from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import ArrayLiteral, Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets import timeline
from baskets.models import Event
from baskets.models.basket_snapshot import READ_ONE, BasketSnapshot, Owner, snapshot_from_rows

LOCK_BASKET = Statement(
    "lock_basket",
    """
SELECT 1 FROM baskets_basket WHERE id = %s FOR NO KEY UPDATE
""",
)
# Of two concurrent transactions the second waits for the first, and then inserts nothing.
CREATE_BASKET = Statement(
    "create_basket",
    """
INSERT INTO baskets_basket (id, partner_id, user_id, guest, revision, events, created_at, last_changed_at, expires_at)
SELECT %s, %s, %s, %s, 0, 0, at, at, at + %s::interval FROM statement_timestamp() AS at
ON CONFLICT DO NOTHING
""",
)
LOCK_AVAILABLE = Statement(
    "lock_available",
    """
SELECT coalesce(array_agg(id), '{}')::text
FROM (SELECT id FROM baskets_basket WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS locked
""",
)
# The rows of cart and saved that a change removes. The sub-select hides their number: the planner would plan each call for it.
DELETE_ITEMS = """gone AS (
    DELETE FROM baskets_basketitem WHERE basket_id = %(basket)s AND product_id = ANY (ARRAY(SELECT unnest(%(gone)s::text[])))
)"""
# Those that are new or different.
UPSERT_ITEMS = """fresh AS (
    INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
    SELECT %(basket)s, * FROM unnest(%(products)s::text[], %(lists)s::text[], %(counts)s::bigint[], %(positions)s::bigint[])
    ON CONFLICT (basket_id, product_id) DO UPDATE
    SET list = excluded.list, count = excluded.count, position = excluded.position
)"""
WRITE_BASKET = """
UPDATE baskets_basket
SET revision = %(revision)s, events = %(events)s, last_changed_at = %(last_changed_at)s,
    expires_at = %(expires_at)s, hidden_at = %(hidden_at)s
WHERE id = %(basket)s
"""


# The columns of a CTE that reads baskets `b` which its statement changes, as `_with_next_revision` does for one. `at` is the moment of the
# change. The statement has a parameter `lifetime`.
NEXT_REVISION = """b.id, b.revision + 1 AS revision, b.events + 1 AS events, greatest(statement_timestamp(), b.last_changed_at) AS at,
           CASE WHEN b.guest AND b.hidden_at IS NULL THEN b.expires_at
                ELSE greatest(statement_timestamp(), b.last_changed_at) + %(lifetime)s::interval END AS expires_at"""


def write_baskets_of(source: str) -> str:
    """Return the part of a statement that writes the row of each basket of the named CTE.

    :param source: has the columns of `NEXT_REVISION`.
    """
    return f"""UPDATE baskets_basket b
    SET revision = {source}.revision, events = {source}.events, last_changed_at = {source}.at, expires_at = {source}.expires_at
    FROM {source} WHERE b.id = {source}.id"""  # noqa: S608 (a constant of ours)


def join_by_key(table: str, alias: str) -> str:
    """Return the part of a statement that joins the row of each product of `item` in another table, or NULL where it has none.

    `OFFSET 0` makes the plan look each product up by its key: made while all carts were empty, it would read the whole table.
    """
    return f"LEFT JOIN LATERAL (SELECT * FROM {table} WHERE product_id = item.product_id OFFSET 0) {alias} ON true"  # noqa: S608 (constants)


# By whether rows are removed, and whether some are new or different. Most changes do one of the two, and PostgreSQL prepares both.
WRITE_LISTS = {
    (False, False): Statement("write_basket", WRITE_BASKET),
    (True, False): Statement("delete_items", f"WITH {DELETE_ITEMS}{WRITE_BASKET}"),
    (False, True): Statement("upsert_items", f"WITH {UPSERT_ITEMS}{WRITE_BASKET}"),
    (True, True): Statement("delete_and_upsert_items", f"WITH {DELETE_ITEMS}, {UPSERT_ITEMS}{WRITE_BASKET}"),
}


@dataclass(frozen=True)
class PendingBasket:
    """A basket whose lock and read are enqueued; `snapshot` waits for both."""

    locked: PendingResult
    read: PendingResult

    def snapshot(self) -> BasketSnapshot | None:
        """Return the locked basket with all its lists; None if it has no row."""
        # A row inserted between the two statements is read, but not locked: it counts as absent.
        return snapshot_from_rows(self.read) if self.locked.fetchone() else None


def enqueue_locked_read(owner: Owner) -> PendingBasket:
    """Enqueue the lock of the owner's basket and its read, so that further statements under the lock share the round trip.

    The read is the first statement after the lock is won: its clock decides about expiry.
    """
    return PendingBasket(locked=execute(LOCK_BASKET, [owner.basket_id]), read=execute(READ_ONE, [owner.basket_id]))


def lock_and_read(owner: Owner) -> BasketSnapshot | None:
    """Lock the owner's basket and read it with all its lists.

    :returns: None if the basket has no row.
    """
    return enqueue_locked_read(owner).snapshot()


def create_and_lock(owner: Owner, *, guest: bool = False) -> BasketSnapshot:
    """Insert the basket's row if it is missing, lock it and read it. Of two concurrent callers one inserts, and both continue.

    :param guest: whether the basket expires a lifetime after its creation; otherwise after its last change.
    """
    execute(CREATE_BASKET, [owner.basket_id, owner.partner_id, owner.user_id, guest, conf.basket_lifetime()])
    snapshot = lock_and_read(owner)
    if snapshot is None:
        raise RuntimeError("the basket has no row, although it was just inserted")
    return snapshot


def lock_basket(basket_id: UUID) -> bool:
    """Lock a basket's row, the mutex of its items and sessions.

    :returns: whether the row exists.
    """
    return execute(LOCK_BASKET, [basket_id]).fetchone() is not None


def write_and_record(
    *, before: BasketSnapshot, after: BasketSnapshot, kind: Event.Kind, actor: Actor, data: Mapping[str, Any]
) -> BasketSnapshot:
    """Write the lists and the event of a change, and return the basket after it.

    A call that changes nothing writes nothing: neither revision nor `last_changed_at` moves.
    """
    if _same_lists(before, after) and before.hidden_at == after.hidden_at:
        return before
    after = write_lists(before=before, after=after)
    timeline.record_event(snapshot=after, kind=kind, actor=actor, data=data)
    return after


def write_lists(*, before: BasketSnapshot, after: BasketSnapshot) -> BasketSnapshot:
    """Write the difference between two states of cart and saved, and the basket's row with its next revision and event number.

    The items of a session are written by `checkout.session_rows`.

    :returns: the state as written; the caller records the event under its `events`.
    """
    diff = _difference(before, after)
    after = _with_next_revision(before, after)
    parameters = {
        "basket": after.basket_id,
        "revision": after.revision,
        "events": after.events,
        "last_changed_at": after.last_changed_at,
        "expires_at": after.expires_at,
        "hidden_at": after.hidden_at,
        "gone": diff.deleted,
        "products": list(diff.upserted),
        "lists": [row.list for row in diff.upserted.values()],
        "counts": [row.pieces for row in diff.upserted.values()],
        "positions": [row.position for row in diff.upserted.values()],
    }
    execute(WRITE_LISTS[bool(diff.deleted), bool(diff.upserted)], parameters)
    return after


def lock_available(baskets: ArrayLiteral) -> ArrayLiteral:
    """Lock the baskets that no other transaction has locked, by primary key. The next sweep finds the skipped ones again.

    :param baskets: primary keys.
    :returns: primary keys of the locked baskets.
    """
    ((locked,),) = execute(LOCK_AVAILABLE, [baskets])
    return ArrayLiteral(locked)


# --- What is different ----------------------------------------------------------


class _ItemRow(NamedTuple):
    """What the row of a product in cart or saved stores."""

    list: str
    pieces: int
    position: int


class _Difference(NamedTuple):
    """What a change does to the rows of cart and saved.

    :param deleted: ids of the products whose rows go.
    :param upserted: rows that are new or different, by product.
    """

    deleted: Sequence[str]
    upserted: Mapping[str, _ItemRow]


def _difference(before: BasketSnapshot, after: BasketSnapshot) -> _Difference:
    stored, wanted = _item_rows(before), _item_rows(after)
    upserted = {product_id: row for product_id, row in sorted(wanted.items()) if stored.get(product_id) != row}
    return _Difference(sorted(stored.keys() - wanted.keys()), upserted)


def _with_next_revision(before: BasketSnapshot, after: BasketSnapshot) -> BasketSnapshot:
    """Increment the event number, and the revision if the change is one; a change also extends the life of a user's basket."""
    if _same_lists(before, after) and before.hidden_at == after.hidden_at:
        return after._replace(events=before.events + 1)
    slides = not before.guest or before.hidden_at is not None
    return after._replace(
        events=before.events + 1,
        revision=before.revision + 1,
        last_changed_at=before.at,
        expires_at=before.at + conf.basket_lifetime() if slides else before.expires_at,
    )


def _item_rows(snapshot: BasketSnapshot) -> dict[str, _ItemRow]:
    rows = {line.product_id: _ItemRow("saved", line.count, line.position) for line in snapshot.saved}
    return rows | {line.product_id: _ItemRow("cart", line.count, line.position) for line in snapshot.cart}


def _same_lists(before: BasketSnapshot, after: BasketSnapshot) -> bool:
    return (before.cart, before.saved, before.checkout) == (after.cart, after.saved, after.checkout)
