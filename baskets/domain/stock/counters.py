"""The stock counters of limited products: reserved at a start, released when a hold ends. Reports of supply are in `supply`.

Note [Stock rows are locked in order]
Every function locks its rows by primary key in one ordered select before it updates them, because a multi-row update locks
in any order. It runs as late in its transaction as possible, and at most once, so that no transaction waits for a stock row
while it holds a later one.

Note [Pieces as one parameter]
The pieces of several products are one JSON object by product. As arrays they would be joined, and to join ten products with a catalog of
some thousand, the planner reads all of it. Their number also is in the plan then: three look cheaper than the ten that a reusable plan
assumes, so each call would be planned. The sub-select hides it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from baskets.db.pipeline import execute
from baskets.db.statements import Statement, expect_rows
from baskets.domain.retries import StockChanged
from baskets.models import Stock

# See Note [Pieces as one parameter].
IS_NAMED = "product_id = ANY (ARRAY(SELECT jsonb_object_keys(%(pieces)s::jsonb)))"
PIECES = "(%(pieces)s::jsonb ->> product_id)::bigint"

# Only rows with enough pieces match, so a sold-out product is refused without waiting for a lock. PostgreSQL checks a row
# again that changed while this statement waited for it.
LOCK_SUFFICIENT = Statement(
    "lock_sufficient",
    f"""
SELECT product_id FROM baskets_stock WHERE {IS_NAMED} AND available >= {PIECES}
ORDER BY product_id FOR NO KEY UPDATE
""",  # noqa: S608 (its parts are constants)
)
RESERVE = Statement(
    "reserve",
    f"""
UPDATE baskets_stock SET available = available - {PIECES} WHERE {IS_NAMED}
""",  # noqa: S608 (its parts are constants)
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
    UPDATE baskets_stock SET available = available - {PIECES} WHERE {IS_NAMED} AND available >= {PIECES}
    RETURNING product_id
)
{expect_rows("taken", number="%(products)s")}
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
    f"""
SELECT 1 FROM baskets_stock WHERE {IS_NAMED} ORDER BY product_id FOR NO KEY UPDATE
""",  # noqa: S608 (its parts are constants)
)
# Released pieces pay off the shortfall first.
RELEASE = Statement(
    "release",
    f"""
UPDATE baskets_stock
SET available = available + greatest({PIECES} - shortfall, 0), shortfall = greatest(shortfall - {PIECES}, 0)
WHERE {IS_NAMED}
""",  # noqa: S608 (its parts are constants)
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
    enough = {product_id: wanted[product_id] for (product_id,) in execute(LOCK_SUFFICIENT, _parameters(wanted))}
    if enough:
        execute(RESERVE, _parameters(enough))
    return wanted.keys() - enough.keys()


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
        parameters = _parameters(wanted)
        execute(LOCK_ROWS, parameters)
        execute(RESERVE_ALL_OR_FAIL, parameters | {"products": len(wanted)}, on_no_rows=StockChanged())


def reserve_available(wanted: Mapping[str, int]) -> dict[str, int]:
    """Reserve as many of the wanted pieces as are available.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param wanted: pieces by product; every product has a stock row.
    :returns: the pieces reserved by product, 0 included.
    """
    rows = Stock.objects.filter(pk__in=list(wanted)).locked()
    reserved = {row.pk: min(wanted[row.pk], row.available) for row in rows}
    if some := {product_id: pieces for product_id, pieces in reserved.items() if pieces}:
        execute(RESERVE, _parameters(some))
    return reserved


def release(pieces: Mapping[str, int]) -> None:
    """Release reserved pieces: they pay off the shortfall of their product first, and the rest becomes available.

    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param pieces: pieces by product.
    """
    if not pieces:
        return
    parameters = _parameters(pieces)
    if len(pieces) > 1:
        execute(LOCK_ROWS, parameters)
    execute(RELEASE, parameters)


def read_levels(product_ids: Iterable[str]) -> dict[str, StockLevel]:
    """Read the counters of products without a lock: good for a message, never for a decision to reserve.

    :returns: the counters by product; a product without a stock row is missing.
    """
    rows = Stock.objects.filter(pk__in=list(product_ids)).values_list("pk", "available", "shortfall")
    return {product_id: StockLevel(available, shortfall) for product_id, available, shortfall in rows}


def _parameters(pieces: Mapping[str, int]) -> dict[str, Any]:
    """Return the parameters of statements about several products. See Note [Pieces as one parameter]."""
    return {"pieces": json.dumps(dict(pieces))}
