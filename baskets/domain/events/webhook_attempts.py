"""Records the requests to webhook endpoints with their outcomes, a bounded number for each endpoint. `webhook_delivery` sends them."""

from datetime import timedelta

from baskets.db.pipeline import Statement, execute
from baskets.models import WebhookAttempt

# Failures and deliveries are counted apart, so that an endpoint that refuses one event of many still shows why.
MAX_KEPT_PER_OUTCOME = 50
MAX_PROBLEM_LENGTH = 200
INSERT_ATTEMPT = Statement(
    "insert_attempt",
    """
INSERT INTO baskets_webhookattempt (endpoint_id, position, acknowledged, status, duration, problem, ended_at)
VALUES (%s, %s, %s, %s, %s, %s, statement_timestamp())
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


def record_attempt(*, endpoint_id: int, position: int | None, status: int | None, duration: timedelta, problem: str = "") -> None:
    """Record one request to an endpoint, and delete the oldest beyond `MAX_KEPT_PER_OUTCOME`.

    Locks nothing that another worker waits for. Call it in the transaction that records the outcome at the endpoint.

    :param position: of the event in the feed; None for a test event.
    :param status: the HTTP status of the response; None if there was none.
    :param duration: from the request to its outcome.
    :param problem: one sentence that says why the receiver did not acknowledge; empty if it did.
    """
    acknowledged = not problem
    execute(INSERT_ATTEMPT, [endpoint_id, position, acknowledged, status, duration, problem[:MAX_PROBLEM_LENGTH]])
    execute(DELETE_OLD_ATTEMPTS, {"endpoint": endpoint_id, "acknowledged": acknowledged, "kept": MAX_KEPT_PER_OUTCOME})


def latest_attempts(*, endpoint_id: int, limit: int) -> list[WebhookAttempt]:
    """Read the latest attempts of an endpoint, the newest first."""
    return list(WebhookAttempt.objects.filter(endpoint_id=endpoint_id).order_by("-pk")[:limit])
