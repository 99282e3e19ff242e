"""The stock counters: taken at a start, given back at a release, set by a feed. The only lines that write them.

Note [Stock rows are locked in order]: every function locks its rows by primary key in one ordered select before it
updates them, because a multi-row update locks in any order. It is called as late in the transaction as can be, and at
most once, so that no transaction ever waits for a stock row while it holds a later one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from baskets.db.pipeline import execute
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.retries import StockChanged
from baskets.models import Stock

# Only rows with enough pieces match: a sold-out product is told without waiting for anybody. A row that matched and
# was changed while this statement waited is looked at again before it is locked.
LOCK_SUFFICIENT = """
SELECT s.product_id
FROM baskets_stock s
JOIN unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces) USING (product_id)
WHERE s.available >= wanted.pieces
ORDER BY s.product_id
FOR NO KEY UPDATE OF s
"""
RESERVE = """
UPDATE baskets_stock s SET available = s.available - wanted.pieces
FROM unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces)
WHERE s.product_id = wanted.product_id
"""
# One product needs no order: the conditional update is lock, check and write in one statement.
RESERVE_ONE = """
UPDATE baskets_stock SET available = available - %s WHERE product_id = %s AND available >= %s
RETURNING product_id
"""
# The same two for pieces that were there a moment ago. Each fails where one product has too little now; nobody has to wait for that answer.
RESERVE_ALL_OR_FAIL = """
WITH taken AS (
    UPDATE baskets_stock s SET available = s.available - wanted.pieces
    FROM unnest(%s::text[], %s::bigint[]) AS wanted (product_id, pieces)
    WHERE s.product_id = wanted.product_id AND s.available >= wanted.pieces
    RETURNING s.product_id
)
SELECT 1 / (count(*) = %s)::int FROM taken
"""
RESERVE_ONE_OR_FAIL = """
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
RELEASE = """
UPDATE baskets_stock s
SET available = s.available + greatest(back.pieces - s.shortfall, 0),
    shortfall = greatest(s.shortfall - back.pieces, 0)
FROM unnest(%s::text[], %s::bigint[]) AS back (product_id, pieces)
WHERE s.product_id = back.product_id
"""


def reserve(wanted: Mapping[str, int]) -> set[str]:
    """Take all wanted pieces of each product, or none of it, and return the products that had too little.

    Locks the stock rows that have enough, by primary key. See Note [Stock rows are locked in order].

    :param wanted: pieces by product; every product has a stock row.
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
    """Take all wanted pieces of all products, or none, and do not wait for the answer: for pieces that were seen to be there.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].

    :raises StockChanged: one had too little; by the end of the transaction at the latest.
    """
    if len(wanted) == 1:
        ((product_id, pieces),) = wanted.items()
        execute(RESERVE_ONE_OR_FAIL, [pieces, product_id, pieces], otherwise=StockChanged())
    elif wanted:
        execute(LOCK_ROWS, [list(wanted)])
        execute(RESERVE_ALL_OR_FAIL, [list(wanted), list(wanted.values()), len(wanted)], otherwise=StockChanged())


def reserve_available(wanted: Mapping[str, int]) -> dict[str, int]:
    """Take as many of the wanted pieces as there are, and return how many that was, by product.

    Locks all stock rows named, by primary key. See Note [Stock rows are locked in order].
    """
    rows = Stock.objects.filter(pk__in=list(wanted)).locked()
    taken = {row.pk: min(wanted[row.pk], row.available) for row in rows}
    if some := {product_id: pieces for product_id, pieces in taken.items() if pieces}:
        execute(RESERVE, [list(some), list(some.values())])
    return taken


def release(pieces: Mapping[str, int]) -> None:
    """Give released pieces back; what the shop no longer has pays off the shortfall first.

    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order].
    """
    if not pieces:
        return
    if len(pieces) > 1:
        execute(LOCK_ROWS, [list(pieces)])
    execute(RELEASE, [list(pieces), list(pieces.values())])


def available_now(product_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Read `available` and `shortfall` of each product without a lock: to say what is missing, never to decide."""
    rows = Stock.objects.filter(pk__in=list(product_ids)).values_list("pk", "available", "shortfall")
    return {product_id: (available, shortfall) for product_id, available, shortfall in rows}


# --- Supply -------------------------------------------------------------------

# A report comes after every moment it is compared with: the row is new, and no transaction leaves it like this.
INSERT_MISSING_ROWS = """
INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported_as_of)
SELECT product_id, false, 0, 0, '-infinity' FROM unnest(%s::text[]) AS fresh (product_id) ORDER BY product_id
ON CONFLICT (product_id) DO NOTHING
"""
LOCK_AND_READ = """
SELECT product_id, limited, available, shortfall FROM baskets_stock WHERE product_id = ANY(%s) ORDER BY product_id
FOR NO KEY UPDATE
"""
# A statement after the lock: the snapshot of the locking statement is older than the lock. A sale that commits while this
# runs is still held here, and counts all the same: held and sold pieces weigh the same. One statement and one row through
# Python, because buyers wait for it. The counters of a product that becomes unlimited go on: holds of its limited time
# still end by what they held. What was ordered while the product was unlimited has no reservation; the part of it that was
# sold after the moment is recorded as taken from the supply, each sale with the moment it was made. With `confirm`, only
# those reports are applied that change no number.
SET_UNSOLD = """
WITH report AS (
    SELECT s.product_id, r.unsold, s.limited, s.available - s.shortfall AS free, s.reported_as_of,
           coalesce(%(as_of)s::timestamptz, greatest(statement_timestamp(), s.reported_as_of)) AS as_of
    FROM unnest(%(product_ids)s::text[], %(unsold)s::bigint[]) AS r (product_id, unsold) JOIN baskets_stock s USING (product_id)
), latest AS (
    SELECT * FROM report WHERE as_of >= reported_as_of
), counted AS (
    SELECT * FROM latest WHERE unsold IS NOT NULL
), unheld AS (
    SELECT i.product_id, i.count AS pieces, session.finished_at
    FROM counted JOIN baskets_checkoutitem i USING (product_id)
    JOIN baskets_checkoutsession session ON session.id = i.session_id AND session.basket_id = i.basket_id
    WHERE NOT counted.limited AND session.status = 'ORDERED' AND session.finished_at > counted.as_of
      AND NOT session.test_mode AND (i.stocked IS NULL OR i.stocked > 0)
      AND NOT EXISTS (
          SELECT FROM baskets_stockreservation r
          WHERE r.session_id = i.session_id AND r.product_id = i.product_id AND r.status IN ('SOLD', 'SHORT')
      )
      AND NOT EXISTS (
          SELECT FROM baskets_stockadjustment a
          WHERE a.product_id = i.product_id AND a.kind = 'unheld' AND a.as_of = session.finished_at AND a.delta = -i.count
      )
), moved (product_id, pieces) AS (
    SELECT product_id, -r.pieces FROM counted JOIN baskets_stockreservation r USING (product_id) WHERE r.status = 'HELD'
    UNION ALL
    SELECT product_id, -r.pieces FROM counted JOIN baskets_stockreservation r USING (product_id)
    WHERE r.status = 'SOLD' AND r.ended_at > counted.as_of
    UNION ALL
    SELECT product_id, a.delta FROM counted JOIN baskets_stockadjustment a USING (product_id)
    WHERE a.kind IN ('supply', 'unheld') AND a.as_of > counted.as_of
), fresh AS (
    SELECT latest.*, CASE WHEN unsold IS NULL THEN free ELSE unsold + coalesce(m.pieces, 0) END AS new_free, coalesce(u.pieces, 0) AS unheld
    FROM latest
    LEFT JOIN (SELECT product_id, sum(pieces)::bigint AS pieces FROM moved GROUP BY product_id) m USING (product_id)
    LEFT JOIN (SELECT product_id, sum(pieces)::bigint AS pieces FROM unheld GROUP BY product_id) u USING (product_id)
), changing AS (
    SELECT *, limited <> (unsold IS NOT NULL) OR new_free <> free AS changes FROM fresh
), updated AS (
    UPDATE baskets_stock s
    SET limited = c.unsold IS NOT NULL, reported = c.unsold, reported_as_of = c.as_of,
        available = greatest(c.new_free - c.unheld, 0), shortfall = greatest(c.unheld - c.new_free, 0)
    FROM changing c WHERE s.product_id = c.product_id AND NOT (c.changes AND %(confirm)s)
), changed AS (
    SELECT * FROM changing WHERE (changes OR %(record_unchanged)s) AND NOT %(confirm)s
), recorded AS (
    INSERT INTO baskets_stockadjustment (product_id, kind, delta, reported, as_of, reason, actor, created_at)
    SELECT product_id, CASE WHEN unsold IS NULL THEN 'unlimited' ELSE 'unsold' END, new_free - free, unsold,
           as_of, %(reason)s, %(actor)s, statement_timestamp()
    FROM changed
    UNION ALL
    SELECT product_id, 'unheld', -pieces, NULL, finished_at, %(reason)s, %(actor)s, statement_timestamp() FROM unheld
    WHERE NOT %(confirm)s
    ORDER BY product_id, as_of
)
SELECT (SELECT count(*) FROM changed WHERE unsold IS NOT NULL),
       ARRAY(SELECT product_id FROM changed WHERE limited AND unsold IS NULL ORDER BY product_id),
       ARRAY(SELECT product_id FROM report WHERE as_of < reported_as_of ORDER BY product_id),
       ARRAY(SELECT product_id FROM changing WHERE NOT changes ORDER BY product_id)
"""
SUPPLY_BELOW_ZERO = """
SELECT FROM unnest(%s::text[], %s::bigint[]) AS d (product_id, delta)
WHERE d.delta + coalesce((SELECT sum(a.delta) FROM baskets_stockadjustment a WHERE a.product_id = d.product_id), 0) < 0
"""
ADJUST_SUPPLY = """
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


# Sold pieces whose records go are taken off the supply: those that were sold after the moment of the product's report, and
# those that were sold before it. `as_of` keeps the moment of the last sale of each.
WRITE_OFF_PURGED_SALES = """
INSERT INTO baskets_stockadjustment (product_id, kind, delta, as_of, reason, actor, created_at)
SELECT sold.product_id, 'purged', -sum(sold.pieces), max(sold.at), %s, %s, statement_timestamp()
FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[]) AS sold (product_id, pieces, at)
JOIN baskets_stock s USING (product_id)
GROUP BY sold.product_id, sold.at > s.reported_as_of
HAVING sum(sold.pieces) > 0
ORDER BY sold.product_id
"""
SET_PURGED_UNTIL = """
UPDATE baskets_stock s SET purged_until = greatest(s.purged_until, sold.at)
FROM (
    SELECT product_id, max(at) AS at FROM unnest(%s::text[], %s::timestamptz[]) AS sold (product_id, at) GROUP BY product_id
) sold
WHERE s.product_id = sold.product_id
"""
LAST_PURGED_SALE = """
SELECT max(purged_until) FROM baskets_stock
WHERE product_id = ANY(%s) AND purged_until > %s::timestamptz AND reported_as_of <= %s::timestamptz
"""


@dataclass(frozen=True, kw_only=True)
class ReportsApplied:
    """What became of the reports of a call.

    :param changed: products whose number of pieces changed, or that became limited.
    :param became_unlimited: ids of products that were limited.
    :param older: ids of products of which a later report is known, so that this one changed nothing.
    """

    changed: int
    became_unlimited: Sequence[str]
    older: Sequence[str]


class FutureMoment(Refusal):
    """Stock cannot be known as of a moment that is still to come."""

    reason = "future_moment"
    message = "The moment of the stock numbers is in the future, by the database's clock."


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
def set_unsold(
    *, reports: Mapping[str, int | None], as_of: datetime | None, reason: str, actor: Actor, record_unchanged: bool = False
) -> ReportsApplied:
    """Apply what a feed or a staff member reports of the unsold pieces of products as of a moment.

    What is held stays held: `available` becomes the reported number, less what is held and what was sold after the moment,
    plus the supply recorded after it; what that is below zero is shortfall. Of each product the report with the latest
    moment counts, in whatever order reports arrive; of two with the same moment, the one that arrives last. The stock row
    keeps the report that counts; an adjustment is recorded where it changes something.
    Locks the stock rows named, by primary key. Source: ADR 33.

    :param reports: unsold pieces by product, held ones included; None makes a product unlimited.
    :param as_of: the moment the numbers speak of; None is now.
    :param reason: why, for the record; not empty.
    :param record_unchanged: record an adjustment of 0 pieces for a report that changes nothing.
    :raises FutureMoment: `as_of` is still to come.
    :raises SalesPurged: sales after that moment are not known any more.
    """
    lock_supply(reports)
    changed, became_unlimited, older, _ = _apply_reports(
        reports, as_of=as_of, reason=reason, actor=actor.name, record_unchanged=record_unchanged, confirm=False
    )
    return ReportsApplied(changed=changed, became_unlimited=became_unlimited, older=older)


@transaction.atomic(savepoint=False)
def confirm_unsold(*, reports: Mapping[str, int | None], as_of: datetime | None) -> set[str]:
    """Apply those reports that change no number: only their moment is remembered. Others are left alone.

    An import confirms what it can in short transactions before it locks the stock of what it changes.
    Locks the stock rows named, by primary key. Parameters and refusals as `set_unsold`.

    :returns: ids of the products whose reports were applied.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOCK_AND_READ, [list(reports)])
    *_, confirmed = _apply_reports(reports, as_of=as_of, reason="", actor="", record_unchanged=False, confirm=True)
    return set(confirmed)


def _apply_reports(
    reports: Mapping[str, int | None], *, as_of: datetime | None, **parameters: Any
) -> tuple[int, list[str], list[str], list[str]]:
    """Run `SET_UNSOLD` on locked rows, and return its row."""
    with connection.cursor() as cursor:
        if as_of is not None:
            cursor.execute("SELECT %s > statement_timestamp()", [as_of])
            if cursor.fetchall() == [(True,)]:
                raise FutureMoment
            counted = [product_id for product_id, unsold in reports.items() if unsold is not None]
            cursor.execute(LAST_PURGED_SALE, [counted, as_of, as_of])
            ((until,),) = cursor.fetchall()
            if until is not None:
                raise SalesPurged(until)
        cursor.execute(SET_UNSOLD, parameters | {"as_of": as_of, "product_ids": list(reports), "unsold": list(reports.values())})
        ((changed, became_unlimited, older, confirmed),) = cursor.fetchall()
    return changed, became_unlimited, older, confirmed


def lock_supply(product_ids: Iterable[str]) -> None:
    """Lock the stock rows of products by primary key, and make those that are missing: for what changes their supply."""
    chosen = list(product_ids)
    with connection.cursor() as cursor:
        cursor.execute(INSERT_MISSING_ROWS, [chosen])
        cursor.execute(LOCK_AND_READ, [chosen])


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
        cursor.execute(LOCK_AND_READ, [list(deltas)])
        # Supply is the sum of all adjustments; it is read after the lock, by a statement of its own.
        cursor.execute(SUPPLY_BELOW_ZERO, [list(deltas), list(deltas.values())])
        if cursor.rowcount:
            raise SupplyBelowZero
        cursor.execute(ADJUST_SUPPLY, [list(deltas), list(deltas.values()), reason, actor.name])


def write_off_purged_sales(sales: Sequence[tuple[str, int, datetime]], *, reason: str, actor: Actor) -> bool:
    """Take sold pieces off the supply, because the records of their sales go in this transaction.

    The counters stay as they are: supply and sold become less by the same number.
    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order].

    :param sales: product, pieces and moment of each sale; 0 pieces where they were ordered without a hold.
    :returns: False, and nothing is done, where one of the products has a shortfall: what was sold explains it.
    """
    if not sales:
        return True
    product_ids, pieces, moments = (list(column) for column in zip(*sales, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(LOCK_AND_READ, [product_ids])
        held = {product_id for product_id, number, _ in sales if number}
        if any(shortfall for product_id, *_, shortfall in cursor.fetchall() if product_id in held):
            return False
        cursor.execute(WRITE_OFF_PURGED_SALES, [reason, actor.name, product_ids, pieces, moments])
        cursor.execute(SET_PURGED_UNTIL, [product_ids, moments])
    return True
