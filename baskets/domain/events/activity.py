"""Counts what happened by minute and by hour, for the first page of the admin. Derives everything from the feed, and never changes it.

# Note [Every event is counted once]
# The events of the feed have positions without gaps, so "counted up to position n" is one number. A batch adds the events after that
# number to the counts and moves the number, in one transaction, under the lock of the one row that stores it: a transaction that is
# killed has counted nothing, two at once count one after the other, and no event is counted twice. The readers of the counts keep
# them: the sweep, the purge, and the first page of the admin, which counts one batch at most before it reads.
"""

from collections.abc import Callable
from functools import partial

from django.db import transaction

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.events import feed

BATCH = 2000
# How long the counts of a span are kept, by its length in seconds. The checker compares those of the last 23 hours.
KEPT = "(VALUES (60, interval '2 days'), (3600, interval '35 days')) AS span (seconds, kept)"

# The insert or the update locks the row.
LOCK_STATE = Statement(
    "lock_activity_state",
    """
INSERT INTO baskets_activitystate (id, position, active) VALUES (1, 0, 0)
ON CONFLICT (id) DO UPDATE SET id = 1
RETURNING position
""",
)
# The events of all checkouts but tests and those of sandboxes, and the lines of orders.
COUNTED = """
counted AS (
    SELECT p.position, p.partner_id, p.kind, e.at, e.data
    FROM baskets_feedposition p
    JOIN baskets_partner partner ON partner.id = p.partner_id AND partner.sandbox_of_id IS NULL
    JOIN baskets_event e ON e.id = p.event_id
    JOIN baskets_checkoutsession s ON s.id = e.session_id AND s.basket_id = e.basket_id
    WHERE {condition} AND NOT s.test_mode AND p.kind IN (
        'checkout_started', 'checkout_ordered', 'checkout_ordered_late', 'checkout_aborted', 'checkout_expired', 'attention_needed'
    )
), line AS (
    SELECT counted.position, item."productId" AS product_id, item.count AS pieces
    FROM counted CROSS JOIN LATERAL jsonb_to_recordset(counted.data -> 'items') AS item ("productId" text, count bigint)
    WHERE counted.kind IN ('checkout_ordered', 'checkout_ordered_late')
)
"""
BY_PARTNER = """
SELECT partner_id, seconds, date_bin(seconds * interval '1 second', at, 'epoch') AS starts_at,
       count(*) FILTER (WHERE kind = 'checkout_started') AS started,
       count(*) FILTER (WHERE kind IN ('checkout_ordered', 'checkout_ordered_late')) AS ordered,
       count(*) FILTER (WHERE kind = 'checkout_ordered_late') AS late,
       count(*) FILTER (WHERE kind = 'checkout_aborted') AS aborted,
       count(*) FILTER (WHERE kind = 'checkout_expired') AS expired,
       count(*) FILTER (WHERE kind = 'attention_needed') AS flagged,
       coalesce(sum(of_order.pieces), 0)::bigint AS pieces
FROM counted LEFT JOIN (SELECT position, sum(pieces) AS pieces FROM line GROUP BY position) of_order USING (position) CROSS JOIN {spans}
WHERE at > statement_timestamp() - span.kept
GROUP BY partner_id, seconds, starts_at
"""
BY_PRODUCT = """
SELECT line.product_id, seconds, date_bin(seconds * interval '1 second', at, 'epoch') AS starts_at,
       count(*) AS orders, sum(line.pieces)::bigint AS pieces
FROM counted JOIN line USING (position) CROSS JOIN {spans}
WHERE at > statement_timestamp() - span.kept
GROUP BY line.product_id, seconds, starts_at
"""
# A late order ends no active checkout.
COUNT = Statement(
    "count_activity",
    f"""
WITH {COUNTED.format(condition="p.position > %(after)s AND p.position <= %(up_to)s")}, by_partner AS (
    INSERT INTO baskets_partneractivity AS known
        (partner_id, seconds, starts_at, started, ordered, late, aborted, expired, flagged, pieces)
    {BY_PARTNER.format(spans=KEPT)}
    ON CONFLICT (seconds, starts_at, partner_id) DO UPDATE
    SET started = known.started + excluded.started, ordered = known.ordered + excluded.ordered, late = known.late + excluded.late,
        aborted = known.aborted + excluded.aborted, expired = known.expired + excluded.expired,
        flagged = known.flagged + excluded.flagged, pieces = known.pieces + excluded.pieces
), by_product AS (
    INSERT INTO baskets_productactivity AS known (product_id, seconds, starts_at, orders, pieces)
    {BY_PRODUCT.format(spans=KEPT)}
    ON CONFLICT (seconds, starts_at, product_id) DO UPDATE
    SET orders = known.orders + excluded.orders, pieces = known.pieces + excluded.pieces
)
UPDATE baskets_activitystate SET position = %(up_to)s, active = active + (
    SELECT count(*) FILTER (WHERE kind = 'checkout_started')
           - count(*) FILTER (WHERE kind IN ('checkout_ordered', 'checkout_aborted', 'checkout_expired'))
    FROM counted
)
WHERE id = 1
""",  # noqa: S608 (its parts are constants)
)
LAST_POSITION = Statement("last_position", "SELECT coalesce(max(position), 0) FROM baskets_feedstate")
IS_BEHIND = Statement(
    "is_behind",
    """
SELECT coalesce((SELECT position FROM baskets_activitystate), 0) < coalesce((SELECT position FROM baskets_feedstate), 0)
""",
)
RECORD_SWEEP = Statement(
    "record_sweep",
    """
INSERT INTO baskets_activitystate (id, position, active, swept_at) VALUES (1, 0, 0, statement_timestamp())
ON CONFLICT (id) DO UPDATE SET swept_at = excluded.swept_at
""",
)
DELETE_OLD = tuple(
    f"DELETE FROM {table} old USING {KEPT} WHERE old.seconds = span.seconds AND old.starts_at < statement_timestamp() - span.kept"  # noqa: S608
    for table in ("baskets_partneractivity", "baskets_productactivity", "baskets_refusalactivity")
)


def count_events(*, batches: int | None = None, size: int | None = None, stop: Callable[[], bool] = lambda: False) -> None:
    """Give new events their positions, and count them. See Note [Every event is counted once].

    Runs its own transactions. Without new events it costs two reads of one row each. Locks the feed, then, in another transaction, the
    row of the counts.

    :param batches: how many batches at most; None counts all events.
    :param size: the events of a batch; None is the size that costs the least for each event.
    :param stop: checked between two batches.
    """
    feed.assign_positions(batches=batches, size=size, stop=stop)
    counted = 0
    while not stop() and counted != batches and _is_behind():
        run_in_transaction(partial(_count_batch, size or BATCH))
        counted += 1


def _is_behind() -> bool:
    ((behind,),) = execute(IS_BEHIND, [])
    return bool(behind)


def _count_batch(size: int) -> None:
    """Count one batch of events."""
    ((counted,),) = execute(LOCK_STATE, [])
    ((last,),) = execute(LAST_POSITION, [])
    if counted < last:
        execute(COUNT, {"after": counted, "up_to": min(counted + size, last)})


@transaction.atomic(savepoint=False)
def record_sweep() -> None:
    """Record that a sweep has ended now, for the metrics. Locks the row of the counts."""
    execute(RECORD_SWEEP, [])


@transaction.atomic(savepoint=False)
def delete_old_counts() -> None:
    """Delete the counts that are past the time for which they are kept. No other row is changed."""
    for statement in DELETE_OLD:
        execute(statement, [])
