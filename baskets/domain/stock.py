"""The stock counters: taken at a start, given back at a release, set by a feed. The only lines that write them.

Note [Stock rows are locked in order]: every function locks its rows by primary key in one ordered select before it
updates them, because a multi-row update locks in any order. It is called as late in the transaction as can be, and at
most once, so that no transaction ever waits for a stock row while it holds a later one.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.db import connection, transaction

from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal, TakenMeanwhile
from baskets.models import Stock
from baskets.pipeline import execute

# Only rows with enough pieces match: a sold-out product is told without waiting for anybody. A row that matched and
# was changed while this statement waited is looked at again before it is locked.
LOCK_WHERE_ENOUGH = """
SELECT s.product_id
FROM baskets_stock s
JOIN unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces) USING (product_id)
WHERE s.available >= wanted.pieces
ORDER BY s.product_id
FOR NO KEY UPDATE OF s
"""
TAKE = """
UPDATE baskets_stock s SET available = s.available - wanted.pieces
FROM unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces)
WHERE s.product_id = wanted.product_id
"""
# One product needs no order: the conditional update is lock, check and write in one statement.
TAKE_ONE = """
UPDATE baskets_stock SET available = available - %s WHERE product_id = %s AND available >= %s
RETURNING product_id
"""
# The same two for pieces that were there a moment ago. Each fails where one product has too little now; nobody has to wait for that answer.
TAKE_ALL = """
WITH taken AS (
    UPDATE baskets_stock s SET available = s.available - wanted.pieces
    FROM unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces)
    WHERE s.product_id = wanted.product_id AND s.available >= wanted.pieces
    RETURNING s.product_id
)
SELECT 1 / (count(*) = %s)::int FROM taken
"""
TAKE_ALL_OF_ONE = """
WITH taken AS (
    UPDATE baskets_stock SET available = available - %s WHERE product_id = %s AND available >= %s
    RETURNING product_id
)
SELECT 1 / count(*) FROM taken
"""
LOCK_ROWS = """
SELECT 1 FROM baskets_stock WHERE product_id = ANY(%s) ORDER BY product_id FOR NO KEY UPDATE
"""
# What comes back pays off the shortfall first.
GIVE_BACK = """
UPDATE baskets_stock s
SET available = s.available + greatest(back.pieces - s.shortfall, 0),
    shortfall = greatest(s.shortfall - back.pieces, 0)
FROM unnest(%s::text[], %s::bigint[]) AS back (product_id, pieces)
WHERE s.product_id = back.product_id
"""


def take(wanted: Mapping[str, int]) -> set[str]:
    """Take all wanted pieces of each product, or none of it, and return the products that had too little.

    Locks the stock rows that have enough, by primary key. See Note [Stock rows are locked in order].

    :param wanted: pieces by product; every product has a stock row.
    """
    if not wanted:
        return set()
    if len(wanted) == 1:
        ((product_id, pieces),) = wanted.items()
        return set() if execute(TAKE_ONE, [pieces, product_id, pieces]).fetchone() else {product_id}
    enough = [product_id for (product_id,) in execute(LOCK_WHERE_ENOUGH, [list(wanted), list(wanted.values())])]
    if enough:
        execute(TAKE, [enough, [wanted[product_id] for product_id in enough]])
    return wanted.keys() - set(enough)


def take_all(wanted: Mapping[str, int]) -> None:
    """Take all wanted pieces of all products, or none, and do not wait for the answer: for pieces that were seen to be there.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].

    :raises TakenMeanwhile: to the runner: one had too little; by the end of the transaction at the latest.
    """
    if len(wanted) == 1:
        ((product_id, pieces),) = wanted.items()
        execute(TAKE_ALL_OF_ONE, [pieces, product_id, pieces], otherwise=TakenMeanwhile())
    elif wanted:
        execute(LOCK_ROWS, [list(wanted)])
        execute(TAKE_ALL, [list(wanted), list(wanted.values()), len(wanted)], otherwise=TakenMeanwhile())


def take_what_is_there(wanted: Mapping[str, int]) -> dict[str, int]:
    """Take as many of the wanted pieces as there are, and return how many that was, by product.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].
    """
    rows = Stock.objects.filter(pk__in=list(wanted)).locked()
    taken = {row.pk: min(wanted[row.pk], row.available) for row in rows}
    if some := {product_id: pieces for product_id, pieces in taken.items() if pieces}:
        execute(TAKE, [list(some), list(some.values())])
    return taken


def give_back(pieces: Mapping[str, int]) -> None:
    """Give released pieces back; what the shop no longer has pays off the shortfall first.

    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order].
    """
    if not pieces:
        return
    if len(pieces) > 1:
        execute(LOCK_ROWS, [list(pieces)])
    execute(GIVE_BACK, [list(pieces), list(pieces.values())])


def available_now(product_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Read `available` and `shortfall` of each product without a lock: to say what is missing, never to decide."""
    rows = Stock.objects.filter(pk__in=list(product_ids)).values_list("pk", "available", "shortfall")
    return {product_id: (available, shortfall) for product_id, available, shortfall in rows}


# --- Supply -------------------------------------------------------------------

ADD_ROWS = """
INSERT INTO baskets_stock (product_id, limited, available, shortfall)
SELECT product_id, false, 0, 0 FROM unnest(%s::text[]) AS fresh (product_id) ORDER BY product_id
ON CONFLICT (product_id) DO NOTHING
"""
LOCK_ALL = """
SELECT product_id, limited, available, shortfall FROM baskets_stock WHERE product_id = ANY(%s) ORDER BY product_id
FOR NO KEY UPDATE
"""
# A statement of its own after the lock: the snapshot of the locking statement is older than the lock. A sale that
# commits while this runs is still held here, and counts all the same: held and sold pieces weigh the same. One statement
# and no rows through Python, because buyers wait for it. The counters of a product that becomes unlimited go on: holds of
# its limited time still end by what they held.
SET_UNSOLD = """
WITH report AS (
    SELECT * FROM unnest(%s::text[], %s::bigint[]) AS report (product_id, unsold)
), taken AS (
    SELECT r.product_id, sum(r.pieces)::bigint AS pieces
    FROM baskets_stockreservation r JOIN report USING (product_id)
    WHERE r.status = 'HELD' OR (r.status = 'SOLD' AND r.ended_at > %s::timestamptz)
    GROUP BY r.product_id
), fresh AS (
    SELECT s.product_id, report.unsold, s.available - s.shortfall AS old,
           CASE WHEN report.unsold IS NULL THEN s.available - s.shortfall
                ELSE report.unsold - coalesce(taken.pieces, 0) END AS new
    FROM baskets_stock s JOIN report USING (product_id) LEFT JOIN taken USING (product_id)
), changed AS (
    UPDATE baskets_stock s
    SET limited = fresh.unsold IS NOT NULL, available = greatest(fresh.new, 0), shortfall = greatest(-fresh.new, 0)
    FROM fresh
    WHERE s.product_id = fresh.product_id AND (s.limited <> (fresh.unsold IS NOT NULL) OR fresh.new <> fresh.old)
    RETURNING s.product_id, fresh.unsold, fresh.new - fresh.old AS delta
)
INSERT INTO baskets_stockadjustment (product_id, kind, delta, reported, as_of, reason, actor, created_at)
SELECT product_id, CASE WHEN unsold IS NULL THEN 'unlimited' ELSE 'unsold' END, delta, unsold,
       coalesce(%s::timestamptz, statement_timestamp()), %s, %s, statement_timestamp()
FROM changed ORDER BY product_id
"""
SUPPLY_BELOW_ZERO = """
SELECT FROM unnest(%s::text[], %s::bigint[]) AS d (product_id, delta)
WHERE d.delta + coalesce((SELECT sum(a.delta) FROM baskets_stockadjustment a WHERE a.product_id = d.product_id), 0) < 0
"""
ADJUST = """
WITH fresh AS (
    SELECT s.product_id, d.delta, s.available - s.shortfall + d.delta AS free
    FROM baskets_stock s JOIN unnest(%s::text[], %s::bigint[]) AS d (product_id, delta) USING (product_id)
), changed AS (
    UPDATE baskets_stock s SET available = greatest(fresh.free, 0), shortfall = greatest(-fresh.free, 0)
    FROM fresh WHERE s.product_id = fresh.product_id
    RETURNING s.product_id, fresh.delta
)
INSERT INTO baskets_stockadjustment (product_id, kind, delta, as_of, reason, actor, created_at)
SELECT product_id, 'supply', delta, statement_timestamp(), %s, %s, statement_timestamp() FROM changed ORDER BY product_id
"""


# Sold pieces whose records go are taken off the supply. `as_of` keeps the moment of the last sale that is not known any more.
FORGET = """
INSERT INTO baskets_stockadjustment (product_id, kind, delta, as_of, reason, actor, created_at)
SELECT product_id, 'purged', -pieces, as_of, %s, %s, statement_timestamp()
FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[]) AS sold (product_id, pieces, as_of) ORDER BY product_id
"""
FORGOTTEN = """
SELECT max(as_of) FROM baskets_stockadjustment WHERE product_id = ANY(%s) AND kind = 'purged' AND as_of > %s::timestamptz
"""


class SalesPurged(Refusal):
    """A report speaks of a moment before sales that are not known one by one any more.

    :param until: the moment of the last of them.
    """

    reason = "sales_purged"
    message = "Sales after that moment were purged."

    def __init__(self, until: datetime) -> None:
        super().__init__()
        self.until = until

    def __str__(self) -> str:
        return f"{self.message} Give numbers that speak of {self.until.isoformat()} or later."


class SupplyBelowZero(Refusal):
    """More pieces would be taken out than were ever supplied."""

    reason = "supply_below_zero"
    message = "That is more than was ever supplied."


@transaction.atomic(savepoint=False)
def set_unsold(*, reports: Mapping[str, int | None], as_of: datetime | None, reason: str, actor: Actor) -> int:
    """Record what a feed or a staff member says about unsold pieces, and return how many products it changed.

    What is held stays held: `available` becomes the reported number, less what was sold after `as_of`, less what is
    held; what that is below zero is shortfall. A report that changes nothing is not recorded.
    Locks the stock rows named, by primary key. Source: `baskets/docs/lifecycle.md`.

    :param reports: unsold pieces by product, held ones included; None makes a product unlimited.
    :param as_of: the moment the numbers speak of; None is now.
    :param reason: why, for the record; not empty.
    :raises SalesPurged: sales after that moment are not known any more.
    """
    with connection.cursor() as cursor:
        cursor.execute(ADD_ROWS, [[product_id for product_id, unsold in reports.items() if unsold is not None]])
        cursor.execute(LOCK_ALL, [list(reports)])
        if as_of is not None:
            cursor.execute(FORGOTTEN, [list(reports), as_of])
            ((until,),) = cursor.fetchall()
            if until is not None:
                raise SalesPurged(until)
        cursor.execute(SET_UNSOLD, [list(reports), list(reports.values()), as_of or "infinity", as_of, reason, actor.name])
        return int(cursor.rowcount)


@transaction.atomic(savepoint=False)
def adjust_supply(*, deltas: Mapping[str, int], reason: str, actor: Actor) -> None:
    """Record that pieces came in or were taken out, without a word on how many there are.

    What comes in pays off the shortfall first; what is taken out beyond what is available is shortfall.
    Locks the stock rows named, by primary key. Source: `baskets/docs/lifecycle.md`.

    :param deltas: pieces by product, below zero for those taken out; every product has a stock row.
    :param reason: why, for the record; not empty.
    :raises SupplyBelowZero: more would be taken out than were ever supplied.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOCK_ALL, [list(deltas)])
        # Supply is the sum of all adjustments; it is read after the lock, by a statement of its own.
        cursor.execute(SUPPLY_BELOW_ZERO, [list(deltas), list(deltas.values())])
        if cursor.rowcount:
            raise SupplyBelowZero
        cursor.execute(ADJUST, [list(deltas), list(deltas.values()), reason, actor.name])


def forget_sold(sold: Mapping[str, tuple[int, datetime]], *, reason: str, actor: Actor) -> bool:
    """Take sold pieces off the supply, because the records of their sales go in this transaction.

    The counters stay as they are: supply and sold become less by the same number.
    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param sold: by product, the pieces and the moment of their last sale.
    :returns: False, and nothing is done, where one of the products has a shortfall: what was sold explains it.
    """
    if not sold:
        return True
    with connection.cursor() as cursor:
        cursor.execute(LOCK_ALL, [list(sold)])
        if any(shortfall for *_, shortfall in cursor.fetchall()):
            return False
        cursor.execute(FORGET, [reason, actor.name, list(sold), [n for n, _ in sold.values()], [at for _, at in sold.values()]])
    return True
