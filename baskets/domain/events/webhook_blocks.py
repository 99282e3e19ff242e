"""The baskets of which a receiver refuses an event: where each stands, and when it is tried again. See Note [Lanes]. Sends nothing."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.events.webhook_failures import Failure

BLOCK = Statement(
    "block_basket",
    """
WITH held AS (
    UPDATE baskets_webhooklane SET position = %(position)s
    WHERE id = %(lane)s AND deliverer_id = %(deliverer)s AND position < %(position)s RETURNING id
)
INSERT INTO baskets_webhookblockedbasket AS blocked (endpoint_id, basket_id, position, failures, failing_since, next_try_at, problem)
SELECT %(endpoint)s, %(basket)s, %(position)s, 1, statement_timestamp(), statement_timestamp() + least(
    greatest(%(first)s::interval * %(jitter)s::float8, %(pause)s::interval, %(not_before)s::timestamptz - statement_timestamp()),
    %(longest)s::interval
), %(problem)s
FROM held
ON CONFLICT (endpoint_id, basket_id) DO NOTHING
RETURNING id
""",
)
DUE_BLOCKS = Statement(
    "due_blocked_baskets",
    """
SELECT blocked.id, blocked.endpoint_id, blocked.basket_id, blocked.position FROM baskets_webhookblockedbasket blocked
WHERE endpoint_id = ANY(%(endpoints)s::bigint[]) AND next_try_at <= statement_timestamp()
ORDER BY next_try_at LIMIT 1000
""",
)
BLOCKED_BASKETS = Statement("blocked_baskets", "SELECT basket_id FROM baskets_webhookblockedbasket WHERE endpoint_id = %(endpoint)s")
RECORD_BLOCKED_FAILURE = Statement(
    "record_blocked_failure",
    """
UPDATE baskets_webhookblockedbasket
SET position = %(position)s, failures = failures + 1, failing_since = coalesce(failing_since, statement_timestamp()),
    problem = %(problem)s, next_try_at = statement_timestamp() + least(
        greatest(
            %(first)s::interval * 2 ^ least(failures, 20) * %(jitter)s::float8,
            %(pause)s::interval, %(not_before)s::timestamptz - statement_timestamp()
        ), %(longest)s::interval
    )
WHERE id = %(block)s AND position = %(expected)s
  AND EXISTS (SELECT FROM baskets_webhooklane l WHERE l.id = %(lane)s AND l.deliverer_id = %(deliverer)s)
""",
)
PASS_BLOCKED_EVENT = Statement(
    "pass_blocked_event",
    """
UPDATE baskets_webhookblockedbasket
SET position = %(position)s::bigint + 1, failures = 0, failing_since = NULL, next_try_at = statement_timestamp(), problem = ''
WHERE id = %(block)s AND position = %(expected)s
""",
)
UNBLOCK = Statement(
    "unblock_basket",
    """
DELETE FROM baskets_webhookblockedbasket WHERE id = %(block)s AND position = %(position)s
  AND EXISTS (SELECT FROM baskets_webhooklane l WHERE l.id = %(lane)s AND l.deliverer_id = %(deliverer)s)
RETURNING id
""",
)


class DueBlock(NamedTuple):
    """A blocked basket whose next event is to be sent again.

    :param block_id: the primary key of its row.
    :param position: its next event is here, or later in the feed.
    """

    block_id: int
    endpoint_id: int
    basket_id: UUID
    position: int


def due_blocks(*, endpoints: Sequence[int]) -> list[DueBlock]:
    """Return the blocked baskets that are due."""
    return [DueBlock._make(row) for row in execute(DUE_BLOCKS, {"endpoints": list(endpoints)})]


def block_basket(*, deliverer: UUID, endpoint_id: int, lane_id: int, basket_id: UUID, position: int, failure: Failure) -> bool:
    """Block a basket by an event that was refused, and let its lane pass the event. Call it inside a transaction.

    :returns: whether it was done: not where the lane is no longer held.
    """
    values = {"deliverer": deliverer, "endpoint": endpoint_id, "lane": lane_id, "basket": basket_id, "position": position}
    return execute(BLOCK, values | failure.values).fetchone() is not None


def record_blocked_failure(*, deliverer: UUID, lane_id: int, block_id: int, expected: int, position: int, failure: Failure) -> None:
    """Record that the next event of a blocked basket failed. Call it inside a transaction.

    :param expected: the stored position; nothing is done if staff have changed it.
    :param position: of the event.
    """
    values = {"deliverer": deliverer, "lane": lane_id, "block": block_id, "expected": expected, "position": position}
    execute(RECORD_BLOCKED_FAILURE, values | failure.values)


def pass_blocked_event(*, block_id: int, expected: int, position: int) -> None:
    """Let a blocked basket go on after an event that was delivered or skipped. Call it inside a transaction.

    :param expected: the stored position; nothing is done if staff have changed it.
    :param position: of the event.
    """
    execute(PASS_BLOCKED_EVENT, {"block": block_id, "expected": expected, "position": position})


def unblock(*, deliverer: UUID, lane_id: int, block_id: int, position: int) -> bool:
    """Unblock a basket that has no event from its position up to that of its lane.

    :returns: whether it was done.
    """
    values = {"deliverer": deliverer, "lane": lane_id, "block": block_id, "position": position}
    return run_in_transaction(lambda: execute(UNBLOCK, values).fetchone()) is not None


def blocked_baskets(*, endpoint_id: int) -> set[UUID]:
    """Return the blocked baskets of an endpoint."""
    return {row[0] for row in execute(BLOCKED_BASKETS, {"endpoint": endpoint_id})}
