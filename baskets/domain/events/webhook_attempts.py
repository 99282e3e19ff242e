"""Records the requests to webhook endpoints with their outcomes, a bounded number for each endpoint. `webhook_delivery` sends them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.models import FeedPosition, WebhookAttempt

# Failures and deliveries are counted apart, so that an endpoint that refuses one event of many still shows why.
MAX_KEPT_PER_OUTCOME = 50
MAX_PROBLEM_LENGTH = 200
INSERT_ATTEMPTS = Statement(
    "insert_attempts",
    """
INSERT INTO baskets_webhookattempt (endpoint_id, position, acknowledged, status, duration, problem, ended_at)
SELECT endpoint, position, problem = '', status, duration, problem, statement_timestamp()
FROM unnest(
    %(endpoints)s::bigint[], %(positions)s::bigint[], %(statuses)s::smallint[], %(durations)s::interval[], %(problems)s::text[]
) attempt (endpoint, position, status, duration, problem)
WHERE (SELECT state FROM baskets_webhookendpoint known WHERE known.id = attempt.endpoint) <> 'deleted'
""",
)
# SKIP LOCKED: another worker that deletes the same rows is not waited for.
DELETE_OLD_ATTEMPTS = Statement(
    "delete_old_attempts",
    """
DELETE FROM baskets_webhookattempt WHERE id IN (
    SELECT id FROM baskets_webhookattempt WHERE endpoint_id = %(endpoint)s AND acknowledged = %(acknowledged)s AND id <= (
        SELECT id FROM baskets_webhookattempt WHERE endpoint_id = %(endpoint)s AND acknowledged = %(acknowledged)s
        ORDER BY id DESC LIMIT 1 OFFSET %(kept)s
    )
    FOR UPDATE SKIP LOCKED
)
""",
)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request to an endpoint.

    :param position: of the event in the feed; None for a test event.
    :param status: the HTTP status of the response; None if there was none.
    :param duration: from the request to its outcome.
    :param problem: one sentence that says why the receiver did not acknowledge; empty if it did.
    """

    endpoint_id: int
    position: int | None
    status: int | None
    duration: timedelta
    problem: str = ""


def record_attempts(attempts: Sequence[Attempt]) -> None:
    """Record requests, and delete the oldest beyond `MAX_KEPT_PER_OUTCOME` of each endpoint and outcome. Drop those of deleted endpoints.

    Locks nothing that another worker waits for. Call it in the transaction that records the outcomes at the endpoints.

    :param attempts: in their order; of many, only those that are kept are written.
    """
    groups: dict[tuple[int, bool], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.endpoint_id, not attempt.problem), []).append(attempt)
    latest = {id(attempt) for group in groups.values() for attempt in group[-MAX_KEPT_PER_OUTCOME:]}
    kept = [attempt for attempt in attempts if id(attempt) in latest]
    if not kept:
        return
    values = {
        "endpoints": [attempt.endpoint_id for attempt in kept],
        "positions": [attempt.position for attempt in kept],
        "statuses": [attempt.status for attempt in kept],
        "durations": [attempt.duration for attempt in kept],
        "problems": [attempt.problem[:MAX_PROBLEM_LENGTH] for attempt in kept],
    }
    execute(INSERT_ATTEMPTS, values)
    for endpoint_id, acknowledged in groups:
        execute(DELETE_OLD_ATTEMPTS, {"endpoint": endpoint_id, "acknowledged": acknowledged, "kept": MAX_KEPT_PER_OUTCOME})


def latest_attempts(*, endpoint_id: int, limit: int) -> list[WebhookAttempt]:
    """Read the latest attempts of an endpoint, the newest first."""
    return list(WebhookAttempt.objects.filter(endpoint_id=endpoint_id).order_by("-pk")[:limit])


def events_of(attempts: Sequence[WebhookAttempt]) -> dict[int, FeedPosition]:
    """Read the events of attempts, by their positions in the feed. A test message has none; a purged event is missing."""
    positions = {attempt.position for attempt in attempts if attempt.position is not None}
    return FeedPosition.objects.in_bulk(positions)
