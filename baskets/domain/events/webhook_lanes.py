"""The stored state of delivery: which process holds which lane, and how far it is. Sends nothing.

# Note [Lanes]
# The events of a basket are delivered in their order. Baskets are independent, so an endpoint has `LANES` lanes, each with the
# events of every n-th basket (by the last byte of the key) and with its own position; a strict endpoint has one lane. A deliverer
# holds lanes while its heartbeat is younger than `LEASE`, whatever a request takes, and shares the lanes of an endpoint equally with
# the other live deliverers. In a lane one request is in flight at a time.
#
# Order needs no lease: each holder begins at the stored position, sends an event only after all earlier ones of its basket were
# acknowledged, and the stored position passes only events that were acknowledged, skipped or blocked. So even a deliverer that
# was frozen and believes to hold a lane can only repeat events: the first arrivals of a basket are in order. The lease keeps
# repetitions rare.
#
# A refused event blocks its basket: the lane passes it, together with the later events of that basket, and the row in
# `WebhookBlockedBasket` says where the basket stands. Its events up to the lane's position are then delivered one by one; after
# the last, the row is deleted and the lane goes on with the basket. If several baskets in a row are refused, the endpoint itself is
# failing: nothing more is blocked, and all lanes wait.
#
# Note [Idle lanes]
# A lane with acknowledged events is stored within `RECORD_SECONDS`, so that few are repeated. A lane that has only passed events of
# other lanes repeats nothing, and storing it at once would update every lane for each event of a partner. So it is stored every
# `IDLE_LANES_SECONDS`, and when its deliverer ends. The position of the endpoint, the least one of its lanes, is behind by this time
# at most. The next deliverer of such a lane reads the feed again from the stored position, and finds no event of the lane there.
#
# Locks: the endpoint, then its lanes, then its blocked baskets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.events import webhook_blocks
from baskets.domain.events.webhook_failures import Failure
from baskets.models import WebhookEndpoint, WebhookLane

LANES = 64
LEASE = timedelta(seconds=5)
# So many baskets refused in a row mean that the endpoint fails, and not an event.
MAX_BLOCKED_IN_A_ROW = 5

HEARTBEAT = Statement(
    "webhook_heartbeat",
    """
INSERT INTO baskets_webhookdeliverer (id, alive_until) VALUES (%(deliverer)s, statement_timestamp() + %(lease)s::interval)
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
RETURNING statement_timestamp(), (
    SELECT count(*) FROM baskets_webhookdeliverer WHERE alive_until > statement_timestamp() AND id <> %(deliverer)s
)
""",
)
HELD = Statement(
    "webhook_held_lanes",
    """
SELECT endpoint_id, array_agg(id) FROM baskets_webhooklane WHERE deliverer_id = %(deliverer)s GROUP BY endpoint_id
""",
)
DUE_ENDPOINTS = Statement(
    "due_webhook_endpoints",
    """
SELECT id FROM baskets_webhookendpoint
WHERE id = ANY(%(endpoints)s::bigint[]) AND (next_try_at IS NULL OR next_try_at <= statement_timestamp())
""",
)
# Names the dead, and not the living: one that has started since this statement's snapshot is not taken for dead.
CLAIM = Statement(
    "webhook_claim_lanes",
    """
WITH dead AS (
    SELECT id FROM baskets_webhookdeliverer WHERE alive_until <= statement_timestamp()
), free AS (
    SELECT l.id, row_number() OVER (PARTITION BY l.endpoint_id ORDER BY l.number) + (
        SELECT count(*) FROM baskets_webhooklane held WHERE held.endpoint_id = l.endpoint_id AND held.deliverer_id = %(deliverer)s
    ) AS place
    FROM baskets_webhooklane l JOIN baskets_webhookendpoint e ON e.id = l.endpoint_id
    WHERE e.state = 'active' AND (l.deliverer_id IS NULL OR l.deliverer_id IN (SELECT id FROM dead))
), claimed AS (
    SELECT id FROM baskets_webhooklane
    WHERE id IN (SELECT id FROM free WHERE place <= %(share)s::bigint)
      AND (deliverer_id IS NULL OR deliverer_id IN (SELECT id FROM dead))
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE baskets_webhooklane l SET deliverer_id = %(deliverer)s FROM claimed WHERE l.id = claimed.id
RETURNING l.id, l.endpoint_id, l.number, l.position
""",
)
TAKE_TESTS = Statement(
    "take_webhook_tests",
    """
UPDATE baskets_webhookendpoint SET test_requested_at = NULL WHERE id IN (
    SELECT id FROM baskets_webhookendpoint WHERE test_requested_at IS NOT NULL ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id
""",
)
RELEASE = Statement(
    "webhook_release_lanes",
    "UPDATE baskets_webhooklane SET deliverer_id = NULL WHERE deliverer_id = %(deliverer)s AND id = ANY(%(lanes)s::bigint[])",
)
RELEASE_ALL = Statement(
    "webhook_release_all_lanes", "UPDATE baskets_webhooklane SET deliverer_id = NULL WHERE deliverer_id = %(deliverer)s"
)
# Locks out no claim: a lane names only its deliverer.
DELETE_DELIVERERS = Statement(
    "delete_webhook_deliverers",
    """
DELETE FROM baskets_webhookdeliverer d
WHERE (id = %(deliverer)s OR alive_until < statement_timestamp() - interval '1 hour')
  AND NOT EXISTS (SELECT FROM baskets_webhooklane l WHERE l.deliverer_id = d.id)
""",
)
LOCK_ENDPOINTS = Statement(
    "lock_webhook_endpoints", "SELECT id FROM baskets_webhookendpoint WHERE id = ANY(%(endpoints)s::bigint[]) ORDER BY id FOR NO KEY UPDATE"
)
ADVANCE = Statement(
    "advance_webhook_lanes",
    """
UPDATE baskets_webhooklane l SET position = new.position
FROM unnest(%(lanes)s::bigint[], %(positions)s::bigint[]) new (id, position)
WHERE l.id = new.id AND l.deliverer_id = %(deliverer)s AND l.position < new.position
""",
)
SET_POSITION = Statement(
    "set_webhook_position",
    """
UPDATE baskets_webhookendpoint e SET position = lane.position
FROM (
    SELECT endpoint_id, min(position) AS position FROM baskets_webhooklane
    WHERE endpoint_id = ANY(%(endpoints)s::bigint[]) GROUP BY endpoint_id
) lane
WHERE e.id = lane.endpoint_id AND e.position <> lane.position
""",
)
RECORD_SUCCESS = Statement(
    "record_webhook_success",
    """
UPDATE baskets_webhookendpoint
SET failures = 0, failing_since = NULL, next_try_at = NULL, problem = '', delivered_at = statement_timestamp()
WHERE id = ANY(%(endpoints)s::bigint[]) AND state = 'active'
""",
)
# Failures of requests that were in flight when the wait began count once.
RECORD_FAILURE = Statement(
    "record_failure",
    """
UPDATE baskets_webhookendpoint e
SET failures = failures + 1, failing_since = coalesce(failing_since, statement_timestamp()), problem = %(problem)s,
    next_try_at = CASE
        WHEN failures + 1 >= %(patience)s::bigint OR %(pause)s::interval IS NOT NULL
            OR %(not_before)s::timestamptz IS NOT NULL
        THEN statement_timestamp() + least(
            greatest(
                %(first)s::interval * 2 ^ least(greatest(failures + 1 - %(patience)s::bigint, 0), 20) * %(jitter)s::float8,
                %(pause)s::interval, %(not_before)s::timestamptz - statement_timestamp()
            ), %(longest)s::interval
        ) ELSE next_try_at END,
    state = CASE WHEN %(gone)s::boolean OR failing_since <= statement_timestamp() - %(give_up)s::interval THEN 'dead' ELSE state END
WHERE id = %(endpoint)s AND state = 'active' AND (next_try_at IS NULL OR next_try_at <= statement_timestamp())
  AND EXISTS (SELECT FROM baskets_webhooklane l WHERE l.id = %(lane)s AND l.deliverer_id = %(deliverer)s)
RETURNING state, position, failures
""",
)
RELEASE_ENDPOINT = Statement(
    "release_webhook_endpoint", "UPDATE baskets_webhooklane SET deliverer_id = NULL WHERE endpoint_id = %(endpoint)s"
)


@dataclass(frozen=True, kw_only=True)
class ClaimedLane:
    """A lane that was claimed now."""

    lane_id: int
    endpoint_id: int
    number: int
    position: int


@dataclass(frozen=True, kw_only=True)
class Sync:
    """What a deliverer knows after a heartbeat.

    :param now: the database's clock.
    :param held: for each endpoint, the lanes that were held before and still are.
    :param due: the endpoints that do not wait after a failure.
    :param claimed: the lanes that were claimed now.
    :param blocks: the blocked baskets that are due.
    :param share: how many lanes of an endpoint are the share of one deliverer.
    :param tests: the endpoints to which this deliverer must send a test message.
    """

    now: datetime
    held: dict[int, set[int]]
    due: set[int]
    claimed: list[ClaimedLane]
    blocks: list[webhook_blocks.DueBlock]
    share: int
    tests: list[int]


def sync(*, deliverer: UUID, accepts: bool) -> Sync:
    """Prolong the lease, learn which lanes are still held, and claim free ones up to a fair share.

    :param accepts: whether to claim lanes, and requests for test messages.
    """

    def step() -> Sync:
        now, others = _row(HEARTBEAT, deliverer=deliverer, lease=LEASE)
        share = -(-LANES // (others + 1))
        rows = execute(HELD, {"deliverer": deliverer}).fetchall()
        claims = execute(CLAIM, {"deliverer": deliverer, "share": share if accepts else 0}).fetchall()
        claimed = [ClaimedLane(lane_id=row[0], endpoint_id=row[1], number=row[2], position=row[3]) for row in claims]
        endpoints = sorted({row[0] for row in rows} | {lane.endpoint_id for lane in claimed})
        return Sync(
            now=now,
            held={row[0]: set(row[1]) for row in rows},
            due={row[0] for row in execute(DUE_ENDPOINTS, {"endpoints": endpoints})},
            claimed=claimed,
            blocks=webhook_blocks.due_blocks(endpoints=endpoints),
            share=share,
            tests=[row[0] for row in execute(TAKE_TESTS, [])] if accepts else [],
        )

    return run_in_transaction(step)


def release(*, deliverer: UUID, lanes: Sequence[int]) -> None:
    """Give lanes to whichever deliverer claims them."""
    run_in_transaction(lambda: execute(RELEASE, {"deliverer": deliverer, "lanes": list(lanes)}))


def end(*, deliverer: UUID) -> None:
    """Release all lanes of a deliverer, and forget it and those that died long ago."""

    def step() -> None:
        execute(RELEASE_ALL, {"deliverer": deliverer})
        execute(DELETE_DELIVERERS, {"deliverer": deliverer})

    run_in_transaction(step)


def record_progress(*, deliverer: UUID, endpoints: Sequence[int], positions: dict[int, int], succeeded: Sequence[int]) -> None:
    """Store how far lanes are. Does nothing for a lane that is no longer held. Call it inside a transaction.

    Locks the endpoints, then the lanes.

    :param positions: of each lane, by its primary key.
    :param succeeded: the endpoints that acknowledged an event.
    """
    ordered = sorted(endpoints)
    execute(LOCK_ENDPOINTS, {"endpoints": ordered})
    execute(ADVANCE, {"deliverer": deliverer, "lanes": list(positions), "positions": list(positions.values())})
    execute(SET_POSITION, {"endpoints": ordered})
    execute(RECORD_SUCCESS, {"endpoints": sorted(succeeded)})


class RecordedFailure(NamedTuple):
    """What became of an endpoint whose event was not acknowledged.

    :param state: the state of the endpoint.
    :param position: the position of the endpoint.
    :param blocked: whether the basket of the event is blocked now.
    """

    state: str
    position: int
    blocked: bool


def record_failure(
    *, deliverer: UUID, endpoint: WebhookEndpoint, lane_id: int, basket_id: UUID, position: int, failure: Failure
) -> RecordedFailure | None:
    """Record that the next event of a lane failed: block its basket, or let the whole endpoint wait, or give the endpoint up.

    Call it inside a transaction. Locks the endpoint, then the lane.

    :param position: of the event.
    :returns: None if the endpoint waits already or is not active, or if the lane is no longer held.
    """
    by_event = failure.by_event and not endpoint.strict and not failure.gone
    values = {"deliverer": deliverer, "endpoint": endpoint.pk, "lane": lane_id, **failure.values}
    patience = MAX_BLOCKED_IN_A_ROW if by_event else 1
    row = execute(RECORD_FAILURE, values | {"patience": patience, "gone": failure.gone, "give_up": conf.webhook_give_up_after()}).fetchone()
    if row is None:
        return None
    state, endpoint_position, failures = row
    blocked = False
    if state != WebhookEndpoint.State.ACTIVE:
        execute(RELEASE_ENDPOINT, {"endpoint": endpoint.pk})
    elif by_event and failures < MAX_BLOCKED_IN_A_ROW:
        blocked = webhook_blocks.block_basket(
            deliverer=deliverer, endpoint_id=endpoint.pk, lane_id=lane_id, basket_id=basket_id, position=position, failure=failure
        )
    return RecordedFailure(state, endpoint_position, blocked)


def create_lanes(endpoint: WebhookEndpoint) -> None:
    """Create the lanes of a new endpoint, at its position."""
    numbers = range(1 if endpoint.strict else LANES)
    WebhookLane.objects.bulk_create(WebhookLane(endpoint=endpoint, number=number, position=endpoint.position) for number in numbers)


def lane_number(basket_id: UUID, *, lanes: int) -> int:
    """Return the number of the lane of a basket.

    :param lanes: how many lanes the endpoint has: a power of two.
    """
    return basket_id.int & (lanes - 1)


def _row(statement: Statement, **values: Any) -> tuple[Any, ...]:
    (row,) = execute(statement, values)
    return row
