"""The supply of limited products: reports of unsold pieces, deliveries and losses, and the write-off of purged sales.

Every function locks its rows as `counters` does: by primary key, in one ordered select, before it updates them. See Note
[Stock rows are locked in order] there. Source: `baskets/docs/adr/0033-what-a-stock-report-means.md`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.utils.translation import gettext_noop

from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.wording import sentence

# '-infinity' precedes the moment of every report. The transaction that inserts the row also sets a real moment.
INSERT_MISSING_ROWS = """
INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported_as_of)
SELECT product_id, false, 0, 0, '-infinity' FROM unnest(%s::text[]) AS fresh (product_id) ORDER BY product_id
ON CONFLICT (product_id) DO NOTHING
"""
LOCK_AND_READ = """
SELECT product_id, limited, available, shortfall FROM baskets_stock WHERE product_id = ANY(%s) ORDER BY product_id
FOR NO KEY UPDATE
"""
# Runs after the locking statement, because the snapshot of that statement is older than the lock. A sale that commits while
# this statement runs still counts as held, and held and sold pieces weigh the same. One statement that returns one row,
# because buyers wait for it. The counters of a product that becomes unlimited are kept: its open holds still end by their
# pieces. An order of an unlimited product has no reservation; if it came after the moment of the report, it is recorded as an
# `unheld` adjustment with the moment of the sale. With `confirm`, only reports that change no number are applied.
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
# Two adjustments for each product at most: for sales before the moment of its report, and for sales after it. `as_of` is the
# moment of the last sale of each.
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
    """The result of a set of stock reports.

    :param changed: number of products whose pieces changed, or that became limited.
    :param became_unlimited: ids of products that were limited before.
    :param older: ids of products with a later report, so that this one changed nothing.
    """

    changed: int
    became_unlimited: Sequence[str]
    older: Sequence[str]


class FutureMoment(Refusal):
    """The moment of a report is in the future."""

    reason = "future_moment"
    message = gettext_noop("The moment of the stock numbers is in the future, by the database's clock.")


class SalesPurged(Refusal):
    """The moment of a report is before sales whose records were purged.

    :param until: the moment of the last purged sale.
    """

    reason = "sales_purged"
    message = gettext_noop("Sales after that moment were purged.")

    def __init__(self, until: datetime) -> None:
        super().__init__(
            sentence("Sales after that moment were purged. Give numbers that speak of %(time)s or later.", time=until.isoformat())
        )


class SupplyBelowZero(Refusal):
    """More pieces would be taken out than were ever supplied."""

    reason = "supply_below_zero"
    message = gettext_noop("That is more than was ever supplied.")


class _AppliedRow(NamedTuple):
    """The row that `SET_UNSOLD` returns: products by what their report did."""

    changed: int
    became_unlimited: list[str]
    older: list[str]
    confirmed: list[str]


def set_unsold(
    *,
    reports: Mapping[str, int | None],
    as_of: datetime | None,
    reason: str,
    actor: Actor,
    record_unchanged: bool = False,
    using: str = DEFAULT_DB_ALIAS,
) -> ReportsApplied:
    """Apply reports of the unsold pieces of products at a moment, from a feed or a staff member.

    Held pieces stay held: `available` becomes the reported number, minus the pieces held and the pieces sold after the
    moment, plus the supply recorded after it. A result below zero is shortfall. The report with the latest moment counts, in
    whatever order reports arrive; of two with the same moment, the later arrival. The stock row keeps the report that counts;
    an adjustment is recorded where it changes something.
    Locks the stock rows named, by primary key. Source: ADR 33.

    :param reports: unsold pieces by product, held ones included; None makes a product unlimited.
    :param as_of: the moment of the numbers; None is now.
    :param reason: the reason for the record; not empty.
    :param record_unchanged: record an adjustment of 0 pieces for a report that changes nothing.
    :param using: the alias of the database.
    :raises FutureMoment: `as_of` is in the future.
    :raises SalesPurged: records of sales after `as_of` were purged.
    """
    with transaction.atomic(using=using, savepoint=False):
        lock_supply(reports, using=using)
        row = _apply_reports(
            reports, as_of=as_of, reason=reason, actor=actor.name, record_unchanged=record_unchanged, confirm=False, using=using
        )
    return ReportsApplied(changed=row.changed, became_unlimited=row.became_unlimited, older=row.older)


@transaction.atomic(savepoint=False)
def confirm_unsold(*, reports: Mapping[str, int | None], as_of: datetime | None) -> set[str]:
    """Apply the reports that change no number, which updates only their moment, and skip the others.

    An import confirms these in short transactions before it locks the stock rows that it changes.
    Locks the stock rows named, by primary key.

    :param reports: unsold pieces by product, held ones included; None is unlimited.
    :param as_of: the moment of the numbers; None is now.
    :returns: ids of the products whose reports were applied.
    :raises FutureMoment: `as_of` is in the future.
    :raises SalesPurged: records of sales after `as_of` were purged.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOCK_AND_READ, [list(reports)])
    return set(_apply_reports(reports, as_of=as_of, reason="", actor="", record_unchanged=False, confirm=True).confirmed)


def _apply_reports(
    reports: Mapping[str, int | None], *, as_of: datetime | None, using: str = DEFAULT_DB_ALIAS, **parameters: Any
) -> _AppliedRow:
    """Run `SET_UNSOLD` on locked rows."""
    with connections[using].cursor() as cursor:
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
        (row,) = cursor.fetchall()
    return _AppliedRow(*row)


def lock_supply(product_ids: Iterable[str], *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Insert the stock rows that products lack, and lock the rows of all of them by primary key, to change their supply."""
    chosen = list(product_ids)
    with connections[using].cursor() as cursor:
        cursor.execute(INSERT_MISSING_ROWS, [chosen])
        cursor.execute(LOCK_AND_READ, [chosen])


@transaction.atomic(savepoint=False)
def adjust_supply(*, deltas: Mapping[str, int], reason: str, actor: Actor) -> None:
    """Record that pieces were delivered or taken out, without a count of the pieces in stock.

    Delivered pieces pay off the shortfall first; pieces taken out beyond those available become shortfall.
    Locks the stock rows named, by primary key. Source: `baskets/docs/lifecycle.md`.

    :param deltas: pieces by product, below zero for those taken out; every product has a stock row.
    :param reason: the reason for the record; not empty.
    :raises SupplyBelowZero: more would be taken out than were ever supplied.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOCK_AND_READ, [list(deltas)])
        # Supply is the sum of all adjustments. A statement after the lock reads it, with a snapshot that is newer than the lock.
        cursor.execute(SUPPLY_BELOW_ZERO, [list(deltas), list(deltas.values())])
        if cursor.rowcount:
            raise SupplyBelowZero
        cursor.execute(ADJUST_SUPPLY, [list(deltas), list(deltas.values()), reason, actor.name])


def write_off_purged_sales(sales: Sequence[tuple[str, int, datetime]], *, reason: str, actor: Actor) -> bool:
    """Subtract sold pieces from the supply, because this transaction deletes the records of their sales.

    The counters do not change: supply and sold pieces shrink by the same number.
    Locks the stock rows named, by primary key. See Note [Stock rows are locked in order] in `counters`.

    :param sales: product, pieces and moment of each sale; 0 pieces where they were ordered without a hold.
    :returns: False, with nothing changed, where a product has a shortfall, because its sold pieces explain that shortfall.
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
