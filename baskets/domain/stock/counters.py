"""The stock counters of limited products: reserved at a start, released when a hold ends. Reports of supply are in `supply`.

Note [Stock rows are locked in order]
Every function locks its rows by primary key in one ordered select before it updates them, because a multi-row update locks
in any order. It runs as late in its transaction as possible, and at most once, so that no transaction waits for a stock row
while it holds a later one.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from baskets.db.pipeline import Statement, execute, expect_rows
from baskets.domain.retries import StockChanged
from baskets.models import Stock

# Only rows with enough pieces match, so a sold-out product is refused without waiting for a lock. PostgreSQL checks a row
# again that changed while this statement waited for it.
LOCK_SUFFICIENT = Statement(
    "lock_sufficient",
    """
SELECT s.product_id
FROM baskets_stock s
JOIN unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces) USING (product_id)
WHERE s.available >= wanted.pieces
ORDER BY s.product_id
FOR NO KEY UPDATE OF s
""",
)
RESERVE = Statement(
    "reserve",
    """
UPDATE baskets_stock s SET available = s.available - wanted.pieces
FROM unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces)
WHERE s.product_id = wanted.product_id
""",
)
# One product needs no order: the conditional update is lock, check and write in one statement.
RESERVE_ONE = Statement(
    "reserve_one",
    """
UPDATE baskets_stock SET available = available - %s WHERE product_id = %s AND available >= %s
RETURNING product_id
""",
)
# The same two for pieces that were available a moment ago. The server fails the transaction if one product is short by now,
# so the caller does not wait for the result.
RESERVE_ALL_OR_FAIL = Statement(
    "reserve_all_or_fail",
    f"""
WITH taken AS (
    UPDATE baskets_stock s SET available = s.available - wanted.pieces
    FROM unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces)
    WHERE s.product_id = wanted.product_id AND s.available >= wanted.pieces
    RETURNING s.product_id
)
{expect_rows("taken", number="%s")}
""",  # noqa: S608 (its parts are constants)
)
RESERVE_ONE_OR_FAIL = Statement(
    "reserve_one_or_fail",
    f"""
WITH taken AS (
    UPDATE baskets_stock SET available = available - %s WHERE product_id = %s AND available >= %s
    RETURNING product_id
)
{expect_rows("taken")}
""",  # noqa: S608 (its parts are constants)
)
LOCK_ROWS = Statement(
    "lock_rows",
    """
SELECT 1 FROM baskets_stock WHERE product_id = ANY(%s) ORDER BY product_id FOR NO KEY UPDATE
""",
)
# Released pieces pay off the shortfall first.
RELEASE = Statement(
    "release",
    """
UPDATE baskets_stock s
SET available = s.available + greatest(back.pieces - s.shortfall, 0),
    shortfall = greatest(s.shortfall - back.pieces, 0)
FROM unnest(%s::text[], %s::bigint[]) AS back (product_id, pieces)
WHERE s.product_id = back.product_id
""",
)


class StockLevel(NamedTuple):
    """The counters of one product, in pieces."""

    available: int
    shortfall: int


def reserve(wanted: Mapping[str, int]) -> set[str]:
    """Reserve all wanted pieces of each product, or none of it.

    Locks the stock rows that have enough, by primary key. See Note [Stock rows are locked in order].

    :param wanted: pieces by product; every product has a stock row.
    :returns: ids of the products that had too little.
    """
    if not wanted:
        return set()
    if len(wanted) == 1:
        ((product_id, pieces),) = wanted.items()
        return set() if execute(RESERVE_ONE, [pieces, product_id, pieces]).fetchone() else {product_id}
    enough = [product_id for (product_id,) in execute(LOCK_SUFFICIENT, [list(wanted), list(wanted.values())])]
    if enough:
        execute(RESERVE, [enough, [wanted[product_id] for product_id in enough]])
    return wanted.keys() - set(enough)


def reserve_or_retry(wanted: Mapping[str, int]) -> None:
    """Reserve all wanted pieces of all products without waiting for the result, for pieces that appeared to be available.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param wanted: pieces by product; every product has a stock row.
    :raises StockChanged: one product had too little; raised by the end of the transaction at the latest.
    """
    if len(wanted) == 1:
        ((product_id, pieces),) = wanted.items()
        execute(RESERVE_ONE_OR_FAIL, [pieces, product_id, pieces], on_no_rows=StockChanged())
    elif wanted:
        execute(LOCK_ROWS, [list(wanted)])
        execute(RESERVE_ALL_OR_FAIL, [list(wanted), list(wanted.values()), len(wanted)], on_no_rows=StockChanged())


def reserve_available(wanted: Mapping[str, int]) -> dict[str, int]:
    """Reserve as many of the wanted pieces as are available.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param wanted: pieces by product; every product has a stock row.
    :returns: the pieces reserved by product, 0 included.
    """
    rows = Stock.objects.filter(pk__in=list(wanted)).locked()
    reserved = {row.pk: min(wanted[row.pk], row.available) for row in rows}
    if some := {product_id: pieces for product_id, pieces in reserved.items() if pieces}:
        execute(RESERVE, [list(some), list(some.values())])
    return reserved


def release(pieces: Mapping[str, int]) -> None:
    """Release reserved pieces: they pay off the shortfall of their product first, and the rest becomes available.

    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param pieces: pieces by product.
    """
    if not pieces:
        return
    if len(pieces) > 1:
        execute(LOCK_ROWS, [list(pieces)])
    execute(RELEASE, [list(pieces), list(pieces.values())])


def read_levels(product_ids: Iterable[str]) -> dict[str, StockLevel]:
    """Read the counters of products without a lock: good for a message, never for a decision to reserve.

    :returns: the counters by product; a product without a stock row is missing.
    """
    rows = Stock.objects.filter(pk__in=list(product_ids)).values_list("pk", "available", "shortfall")
    return {product_id: StockLevel(available, shortfall) for product_id, available, shortfall in rows}
