"""Reads baskets with everything that belongs to them, writes and compares them in another cell, and deletes them here.

Note [What belongs to a basket]
Every table with a key of a basket is named here; a test compares them with the models. Only a webhook's note that it waits for a basket is
not copied: the webhooks of the other cell are others. Rows get the numbers of the other cell; what has a name outside keeps it: the
basket's key, order numbers, devices, the public ids of events.

Note [Sold pieces move with their order]
A sale that leaves a cell takes its pieces out of the supply of that cell, as of the moment of the sale, and adds them in the other as of
the same moment. The two cancel in every sum over what was sold and supplied since a report, so no counter changes in either cell, whatever
the latest report of each is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self
from uuid import UUID

from django.db import connections

from baskets.domain.actors import Actor
from baskets.domain.cells import row_copies
from baskets.domain.errors import Refusal
from baskets.domain.events import activity, feed

OF_BASKET = "basket_id = ANY(%(baskets)s::uuid[])"
# Tables without an index by basket.
OF_SESSION = "session_id = ANY(%(sessions)s::bigint[])"
# In the order of their foreign keys. See Note [What belongs to a basket].
PARTS: Mapping[str, str] = {
    "baskets_basket": "id = ANY(%(baskets)s::uuid[])",
    "baskets_basketitem": OF_BASKET,
    "baskets_checkoutsession": OF_BASKET,
    "baskets_checkoutitem": OF_SESSION,
    "baskets_stockreservation": OF_SESSION,
    "baskets_attention": OF_BASKET,
    "baskets_event": OF_BASKET,
    "baskets_guesttoken": OF_BASKET,
    "baskets_transfer": OF_BASKET,
    "baskets_comfort": OF_BASKET,
    "baskets_idempotencyrecord": OF_BASKET,
    "baskets_deskentry": "about = 'basket' AND subject = ANY(%(baskets)s::uuid[]::text[])",
}
NOT_COPIED = ("baskets_webhookblockedbasket",)
# The events of a basket are numbered in the order of their ids.
ORDER: Mapping[str, str] = {"baskets_event": "r.basket_id, r.number", "baskets_guesttoken": "r.jti", "baskets_comfort": "r.basket_id"}
WITH_SESSION = ("baskets_checkoutitem", "baskets_stockreservation", "baskets_attention", "baskets_event")
WITH_PRODUCT = ("baskets_basketitem", "baskets_checkoutitem")
SESSIONS = "SELECT id, order_no FROM baskets_checkoutsession WHERE basket_id = ANY(%s) ORDER BY id"
# What the rows of a table say, without the numbers that each cell draws.
DIGEST = """
SELECT count(*), md5(coalesce(string_agg(row, E'\\n' ORDER BY row), '')) FROM (
    SELECT (to_jsonb(t) - '{{id,session_id}}'::text[] || jsonb_build_object({more}))::text AS row FROM {table} t WHERE {where}
) rows
"""
ORDER_NO = "'order', (SELECT s.order_no FROM baskets_checkoutsession s WHERE s.id = t.session_id)"
PUBLIC_ID = f"""
coalesce(p.public_id, encode(substring(sha256(convert_to({feed.IDENTITY}, 'UTF8')) FOR 16), 'hex')::uuid)
"""
PUBLIC_IDS = f"""
SELECT e.basket_id, e.number, {PUBLIC_ID} FROM baskets_event e JOIN baskets_feedposition p ON p.event_id = e.id
WHERE e.basket_id = ANY(%(baskets)s::uuid[])
ORDER BY e.id
"""  # noqa: S608 (constants)
DIGEST_OF_IDS = f"""
SELECT count(*), md5(coalesce(string_agg(row, E'\\n' ORDER BY row), '')) FROM (SELECT place::text AS row FROM ({PUBLIC_IDS}) place) rows
"""  # noqa: S608 (constants)
GIVE_POSITIONS = """
INSERT INTO baskets_feedposition (position, event_id, partner_id, kind, public_id)
SELECT %(position)s + row_number() OVER (ORDER BY e.id), e.id, b.partner_id, e.kind, place.public_id
FROM unnest(%(baskets)s::uuid[], %(numbers)s::bigint[], %(public_ids)s::uuid[]) AS place (basket_id, number, public_id)
JOIN baskets_event e ON (e.basket_id, e.number) = (place.basket_id, place.number) JOIN baskets_basket b ON b.id = e.basket_id
"""
SOLD = """
SELECT r.product_id, r.pieces, r.ended_at, s.order_no, s.reversed_at IS NOT NULL
FROM baskets_stockreservation r JOIN baskets_checkoutsession s ON s.id = r.session_id
WHERE r.session_id = ANY(%(sessions)s::bigint[]) AND r.status = 'SOLD'
ORDER BY r.product_id, r.ended_at, s.order_no
"""
# A report speaks of a moment after the epoch, so the row that a product lacks never hides one.
ADD_STOCK_ROWS = """
INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported_as_of)
SELECT DISTINCT product_id, false, 0, 0, 'epoch'::timestamptz FROM unnest(%(products)s::text[]) AS fresh (product_id) ORDER BY product_id
ON CONFLICT (product_id) DO NOTHING
"""
# Sales before the latest report can be one adjustment: no later report speaks of a moment among them.
ADJUST = """
INSERT INTO baskets_stockadjustment (product_id, kind, delta, as_of, reason, actor, created_at)
SELECT sold.product_id, 'supply', sum(sold.delta), max(sold.at), sold.reason, %(actor)s, statement_timestamp()
FROM unnest(%(products)s::text[], %(deltas)s::bigint[], %(moments)s::timestamptz[], %(reasons)s::text[])
    AS sold (product_id, delta, at, reason)
JOIN baskets_stock s USING (product_id)
GROUP BY sold.product_id, sold.reason, CASE WHEN sold.at > s.reported_as_of THEN sold.at END
ORDER BY sold.product_id, max(sold.at)
"""
# The sold pieces that stay must explain the shortfall that stays.
UNEXPLAINED = """
SELECT s.product_id FROM baskets_stock s JOIN unnest(%s::text[], %s::bigint[]) AS gone (product_id, pieces) USING (product_id)
WHERE s.shortfall > 0 AND s.shortfall > (
    SELECT coalesce(sum(r.pieces), 0) FROM baskets_stockreservation r WHERE r.product_id = s.product_id AND r.status IN ('HELD', 'SOLD')
) - gone.pieces
"""
UNCOUNT = f"""
WITH {activity.COUNTED.format(condition="e.basket_id = ANY(%(baskets)s::uuid[])")}, by_partner AS (
    UPDATE baskets_partneractivity known
    SET started = known.started - gone.started, ordered = known.ordered - gone.ordered, late = known.late - gone.late,
        aborted = known.aborted - gone.aborted, expired = known.expired - gone.expired, flagged = known.flagged - gone.flagged,
        pieces = known.pieces - gone.pieces
    FROM ({activity.BY_PARTNER.format(spans=activity.KEPT)}) gone
    WHERE (known.seconds, known.starts_at, known.partner_id) = (gone.seconds, gone.starts_at, gone.partner_id)
), by_product AS MATERIALIZED ({activity.BY_PRODUCT.format(spans=activity.KEPT)}), emptied AS (
    DELETE FROM baskets_productactivity known USING by_product gone
    WHERE (known.seconds, known.starts_at, known.product_id) = (gone.seconds, gone.starts_at, gone.product_id)
      AND known.orders <= gone.orders
)
UPDATE baskets_productactivity known SET orders = known.orders - gone.orders, pieces = known.pieces - gone.pieces
FROM by_product gone
WHERE (known.seconds, known.starts_at, known.product_id) = (gone.seconds, gone.starts_at, gone.product_id) AND known.orders > gone.orders
"""  # noqa: S608 (constants)
# A count of nothing is not kept.
REMOVE_EMPTY_COUNTS = """
DELETE FROM baskets_partneractivity WHERE (started, ordered, late, aborted, expired, flagged, pieces) = (0, 0, 0, 0, 0, 0, 0)
"""
LEAVE_GAPS = """
WITH gone AS (
    DELETE FROM baskets_feedposition p USING baskets_event e WHERE e.id = p.event_id AND e.basket_id = ANY(%(baskets)s::uuid[])
    RETURNING p.position
)
INSERT INTO baskets_feedgap (position) SELECT position FROM gone
"""


class CopyDiffers(Refusal):
    """The rows that were written are not those that were read; nothing has changed."""

    reason = "copy_differs"
    message = "The copy of the baskets differs."


class ShortfallUnexplained(Refusal):
    """The sold pieces of the baskets explain the shortfall of a product; nothing has changed."""

    reason = "shortfall_unexplained"
    message = "A product has more shortfall than sold pieces would stay."


@dataclass(frozen=True, kw_only=True)
class BasketCopy:
    """Baskets with everything that belongs to them, outside of a database.

    :param baskets: their primary keys.
    :param rows: JSON arrays of rows, by table, in the order of `PARTS`.
    :param places: basket, number and public id of each event, in the order of the events.
    :param digests: for each table, the number of the rows and their digest; see `DIGEST`.
    """

    baskets: Sequence[str]
    rows: Mapping[str, str]
    places: Sequence[tuple[str, int, str]]
    digests: Mapping[str, Sequence[Any]]

    def as_text(self) -> str:
        """Return a text that `from_text` reads."""
        return json.dumps(asdict(self))

    def product_ids(self) -> list[str]:
        """List the products of the lists and the checkouts."""
        return sorted({item["product_id"] for table in WITH_PRODUCT for item in json.loads(self.rows[table])})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `as_text` has returned."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Sale:
    """Sold pieces of one product in one order."""

    product_id: str
    pieces: int
    at: Any
    order_no: str
    is_reversed: bool


def read_baskets(database: str, baskets: Sequence[UUID]) -> BasketCopy:
    """Read locked baskets with everything that belongs to them, within the transaction of the caller."""
    chosen = _choose(database, baskets)
    return BasketCopy(
        baskets=[str(pk) for pk in baskets],
        rows={table: row_copies.read_rows(database, table, where, chosen) for table, where in PARTS.items()},
        places=[(str(basket), number, str(public_id)) for basket, number, public_id in _fetch(database, PUBLIC_IDS, chosen)],
        digests=_digests(database, chosen),
    )


def write_baskets(database: str, copy: BasketCopy, *, actor: Actor) -> None:
    """Write baskets within the transaction of the caller, and compare them with what was read.

    Locks the feed.

    :raises CopyDiffers: what was written is not what was read.
    """
    baskets = [UUID(pk) for pk in copy.baskets]
    former = {session["order_no"]: session["id"] for session in json.loads(copy.rows["baskets_checkoutsession"])}
    there = dict[str, int]()
    for table, rows in copy.rows.items():
        renamed = {"session_id": json.dumps({str(pk): there[order_no] for order_no, pk in former.items()})} if table in WITH_SESSION else {}
        row_copies.insert_rows(database, table, rows, renamed=renamed, order=ORDER.get(table, "r.id"))
        if table == "baskets_checkoutsession":
            there = _sessions(database, baskets)
    sales = read_sales(database, baskets)
    reasons = [f"order {sale.order_no} reversed: came with its basket" if sale.is_reversed else "sold in another cell" for sale in sales]
    _adjust(database, sales, sign=1, reasons=reasons, actor=actor)
    _give_positions(database, copy)
    with connections[database].cursor() as cursor:
        # The other cell commits first, and then no foreign key may fail here.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    compare_baskets(database, copy)


def compare_baskets(database: str, copy: BasketCopy) -> None:
    """Compare everything that belongs to baskets with what was read.

    :raises CopyDiffers: it is not the same.
    """
    digests = _digests(database, _choose(database, [UUID(pk) for pk in copy.baskets]))
    if differing := [table for table, digest in digests.items() if list(digest) != list(copy.digests[table])]:
        raise CopyDiffers(f"The copied rows of {differing[0]} differ from those that were read. These baskets stay where they were.")


def delete_baskets(database: str, baskets: Sequence[UUID], *, actor: Actor) -> None:
    """Delete locked baskets and everything that belongs to them, within the transaction of the caller. They are in another cell.

    All their events must have been counted.
    """
    chosen = _choose(database, baskets)
    sales = read_sales(database, baskets)
    _adjust(database, sales, sign=-1, reasons=["sold pieces moved to another cell"] * len(sales), actor=actor)
    with connections[database].cursor() as cursor:
        cursor.execute(UNCOUNT, chosen)
        cursor.execute(REMOVE_EMPTY_COUNTS)
        cursor.execute(LEAVE_GAPS, chosen)
        for table in NOT_COPIED:
            cursor.execute(f"DELETE FROM {table} WHERE {OF_BASKET}", chosen)  # noqa: S608 (constants)
        for table, where in reversed(list(PARTS.items())):
            cursor.execute(f"DELETE FROM {table} WHERE {where}", chosen)  # noqa: S608 (constants)


def read_sales(database: str, baskets: Sequence[UUID]) -> list[Sale]:
    """Read the sold pieces of baskets."""
    return [
        Sale(product_id=product_id, pieces=pieces, at=at, order_no=order_no, is_reversed=is_reversed)
        for product_id, pieces, at, order_no, is_reversed in _fetch(database, SOLD, _choose(database, baskets))
    ]


def check_shortfall(database: str, baskets: Sequence[UUID]) -> None:
    """Refuse baskets whose sold pieces are the reason of a shortfall.

    :raises ShortfallUnexplained: they are.
    """
    gone: dict[str, int] = {}
    for sale in read_sales(database, baskets):
        gone[sale.product_id] = gone.get(sale.product_id, 0) + sale.pieces
    if found := _fetch(database, UNEXPLAINED, [list(gone), list(gone.values())]):
        products = ", ".join(product_id for (product_id,) in found)
        raise ShortfallUnexplained(f"The shortfall of {products} must be supplied first, by a report or from another cell.")


def _adjust(database: str, sales: Sequence[Sale], *, sign: int, reasons: Sequence[str], actor: Actor) -> None:
    """Record that sold pieces come or go. See Note [Sold pieces move with their order]."""
    parameters: dict[str, Any] = {
        "products": [sale.product_id for sale in sales],
        "deltas": [sign * sale.pieces for sale in sales],
        "moments": [sale.at for sale in sales],
        "reasons": list(reasons),
        "actor": actor.name,
    }
    with connections[database].cursor() as cursor:
        cursor.execute(ADD_STOCK_ROWS, parameters)
        cursor.execute(ADJUST, parameters)


def _give_positions(database: str, copy: BasketCopy) -> None:
    """Give the copied events places in the feed, with the public ids that they have."""
    _fetch(database, feed.LOCK.sql, [feed.LOCK_KEY])
    ((position, settled, seen, horizon, _),) = _fetch(database, feed.STATE.sql, [])
    parameters: dict[str, Any] = {
        "position": position,
        "baskets": [basket for basket, _, _ in copy.places],
        "numbers": [number for _, number, _ in copy.places],
        "public_ids": [public_id for *_, public_id in copy.places],
    }
    with connections[database].cursor() as cursor:
        cursor.execute(GIVE_POSITIONS, parameters)
        cursor.execute(feed.SAVE_STATE.sql, [position + cursor.rowcount, settled, seen, horizon])


def _digests(database: str, chosen: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Compute a digest of each table, and one of the public ids of the events."""
    digests = {"public ids": DIGEST_OF_IDS} | {
        table: DIGEST.format(table=table, where=where, more=ORDER_NO if table in WITH_SESSION else "") for table, where in PARTS.items()
    }
    return {table: list(_fetch(database, statement, chosen)[0]) for table, statement in digests.items()}


def _choose(database: str, baskets: Sequence[UUID]) -> dict[str, Any]:
    return {"baskets": list(baskets), "sessions": list(_sessions(database, baskets).values())}


def _sessions(database: str, baskets: Sequence[UUID]) -> dict[str, int]:
    """Read the primary keys of the sessions of baskets, by order number."""
    return {order_no: pk for pk, order_no in _fetch(database, SESSIONS, [list(baskets)])}


def _fetch(database: str, statement: str, parameters: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
    with connections[database].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
