"""Delivers events to the webhooks of partners: at least once, in the order of the feed, and never within a transaction.

# Note [One stream for each endpoint]
# Delivery to an endpoint is strictly in order, one event at a time. After a failure the endpoint waits at that event: longer with
# every failure, at least as long as the receiver requests, and after days it is given up. A worker holds a lease on the endpoint,
# renewed before each request and longer than the request timeout, so two workers never send an event at once; state is written
# only while the lease is held. After a crash between a request and its record, the event is sent once more.
"""

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import structlog
from standardwebhooks.webhooks import Webhook

from baskets import conf
from baskets.db.pipeline import Statement, execute
from baskets.db.transactions import run_in_transaction
from baskets.domain.actors import Actor
from baskets.domain.events import feed, webhook_endpoints
from baskets.domain.events.payloads import event_payload, message_id
from baskets.domain.timestamps import format_timestamp
from baskets.encryption import UnreadableSecret, decrypt
from baskets.models import FeedPosition, WebhookEndpoint
from baskets.net import http_client

log = structlog.get_logger("baskets.webhooks")

BATCH = 50
# After this time a worker turns to another endpoint.
MAX_RUN_SECONDS = 30.0
# How much longer than its timeout a request may take: name resolution, connecting, a busy machine.
LEASE_MARGIN = timedelta(seconds=60)
FIRST_DELAY_SECONDS = 5.0
MAX_DELAY_SECONDS = 3600.0
SECONDS_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)?")
ACTOR = Actor.system("deliver_webhooks")

ACQUIRE_LEASE = Statement(
    "acquire_lease",
    """
UPDATE baskets_webhookendpoint SET lease = %(lease)s, leased_until = statement_timestamp() + %(span)s::interval
WHERE id = (
    SELECT id FROM baskets_webhookendpoint
    WHERE state = 'active' AND (leased_until IS NULL OR leased_until <= statement_timestamp())
      AND (next_try_at IS NULL OR next_try_at <= statement_timestamp())
      AND position < (SELECT position FROM baskets_feedstate)
    ORDER BY leased_until NULLS FIRST, id LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id, (SELECT position FROM baskets_feedstate)
""",
)
RENEW_LEASE = Statement(
    "renew_lease",
    """
UPDATE baskets_webhookendpoint SET leased_until = statement_timestamp() + %(span)s::interval
WHERE id = %(id)s AND lease = %(lease)s AND state = 'active'
RETURNING statement_timestamp()
""",
)
RECORD_DELIVERY = Statement(
    "record_delivery",
    """
UPDATE baskets_webhookendpoint
SET position = %(position)s, failures = 0, failing_since = NULL, next_try_at = NULL, problem = '',
    delivered_at = statement_timestamp()
WHERE id = %(id)s AND lease = %(lease)s AND state = 'active'
RETURNING id
""",
)
RECORD_FAILURE = Statement(
    "record_failure",
    """
UPDATE baskets_webhookendpoint
SET failures = failures + 1, failing_since = coalesce(failing_since, statement_timestamp()), problem = %(problem)s,
    next_try_at = statement_timestamp() + least(
        greatest(%(delay)s::interval, %(pause)s::interval, %(not_before)s::timestamptz - statement_timestamp()), %(longest)s::interval
    ),
    state = CASE WHEN %(gone)s::boolean OR failing_since <= statement_timestamp() - %(give_up)s::interval THEN 'dead' ELSE state END
WHERE id = %(id)s AND lease = %(lease)s AND state = 'active'
RETURNING state, position
""",
)
RELEASE_LEASE = Statement(
    "release_lease",
    """
UPDATE baskets_webhookendpoint
SET lease = NULL, leased_until = statement_timestamp(), position = greatest(position, %(position)s)
WHERE id = %(id)s AND lease = %(lease)s
""",
)


@dataclass(frozen=True, kw_only=True)
class DeliveryRun:
    """The result of `deliver_next` for one endpoint.

    :param delivered: how many events were acknowledged.
    """

    delivered: int
    failed: bool


@dataclass(frozen=True, kw_only=True)
class EndpointLease:
    """An endpoint that this worker alone delivers to.

    :param up_to: the end of the feed when the lease was acquired.
    """

    endpoint: WebhookEndpoint
    token: UUID
    up_to: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed delivery, with the requests of the receiver.

    :param gone: the receiver wants no more events.
    :param pause: the minimum time until the next attempt.
    :param not_before: the earliest time of the next attempt.
    """

    problem: str
    gone: bool = False
    pause: timedelta | None = None
    not_before: datetime | None = None


def deliver_next(*, stop: Callable[[], bool] = lambda: False) -> DeliveryRun | None:
    """Deliver the due events to one endpoint that no other worker delivers to. See Note [One stream for each endpoint].

    :param stop: checked between two events.
    :returns: None if no endpoint has due events.
    """
    feed.assign_positions()
    lease = _acquire_lease()
    if lease is None:
        return None
    run, position = _deliver(lease, stop)
    _update_under_lease(lease, RELEASE_LEASE, position=position)
    return run


def _acquire_lease() -> EndpointLease | None:
    token = uuid4()
    row = run_in_transaction(lambda: execute(ACQUIRE_LEASE, {"lease": token, "span": _lease_duration()}).fetchone())
    if row is None:
        return None
    return EndpointLease(endpoint=WebhookEndpoint.objects.get(pk=row[0]), token=token, up_to=row[1])


def _deliver(lease: EndpointLease, stop: Callable[[], bool]) -> tuple[DeliveryRun, int]:
    """Deliver in order until a delivery fails, no event is left, or the time is up.

    :returns: the result, and the last position that is done.
    """
    endpoint, until = lease.endpoint, time.monotonic() + MAX_RUN_SECONDS
    delivered, done = 0, endpoint.position
    due = _due_events(endpoint, lease.up_to)
    for entry in due:
        if stop() or time.monotonic() > until:
            return DeliveryRun(delivered=delivered, failed=False), done
        now = _update_under_lease(lease, RENEW_LEASE, span=_lease_duration())
        if now is None:
            return DeliveryRun(delivered=delivered, failed=False), done  # Staff have changed the endpoint, or the lease has expired.
        if failure := _send(endpoint, entry, now):
            _record_failure(lease, failure)
            return DeliveryRun(delivered=delivered, failed=True), done
        if _update_under_lease(lease, RECORD_DELIVERY, position=entry.position) is None:
            return DeliveryRun(delivered=delivered, failed=False), done
        delivered, done, endpoint.failures = delivered + 1, entry.position, 0
    # Skip the events of other partners and kinds.
    return DeliveryRun(delivered=delivered, failed=False), lease.up_to if len(due) < BATCH else done


def _due_events(endpoint: WebhookEndpoint, up_to: int) -> list[FeedPosition]:
    rows = FeedPosition.objects.filter(partner_id=endpoint.partner_id, position__gt=endpoint.position, position__lte=up_to)
    if endpoint.kinds:
        rows = rows.filter(kind__in=endpoint.kinds)
    return list(rows.select_related("event__basket", "event__session").order_by("position")[:BATCH])


def _send(endpoint: WebhookEndpoint, entry: FeedPosition, now: datetime) -> Failure | None:
    """Send one event, signed.

    :returns: None if the receiver acknowledged it.
    """
    try:
        signer = Webhook(decrypt(endpoint.secret, purpose=webhook_endpoints.ENCRYPTION_PURPOSE, context=endpoint.pk))
    except (UnreadableSecret, ValueError):
        return Failure(problem="The secret cannot be decrypted: its key is not known, or it was stored for another webhook.")
    event = event_payload(entry)
    body = json.dumps({"type": event["kind"], "timestamp": format_timestamp(entry.event.at), "data": event}, ensure_ascii=False)
    name, sent_at = message_id(entry), now.astimezone(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "baskets-webhooks",
        "webhook-id": name,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": signer.sign(name, sent_at, body),
    }
    try:
        reply = http_client.send_request(
            endpoint.url, method="POST", headers=headers, body=body.encode(), timeout_seconds=conf.webhook_timeout().total_seconds()
        )
    except (http_client.ForbiddenUrl, http_client.RequestFailed) as problem:
        return Failure(problem=str(problem))
    return None if 200 <= reply.status < 300 else _read_failure(reply)


def _read_failure(reply: http_client.Response) -> Failure:
    """Read the response of a receiver that does not acknowledge.

    Honors `Retry-After` with every status: a number of seconds, or a date. Ignores any other value.
    """
    problem, gone = f"It answered with status {reply.status}", reply.status == HTTPStatus.GONE
    text = reply.headers.get("Retry-After", "").strip()
    if SECONDS_PATTERN.fullmatch(text):
        pause = timedelta(seconds=min(float(text), MAX_DELAY_SECONDS))
        return Failure(problem=f"{problem} and requested a pause.", gone=gone, pause=pause)
    try:
        not_before = parsedate_to_datetime(text)
        # The date format without a zone (asctime) is in UTC.
        not_before = (not_before if not_before.tzinfo else not_before.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return Failure(problem=f"{problem}.", gone=gone)
    return Failure(problem=f"{problem} and requested a pause.", gone=gone, not_before=not_before)


def _record_failure(lease: EndpointLease, failure: Failure) -> None:
    """Schedule the next attempt, or give the endpoint up: it has failed for too long, or the receiver wants no more events."""
    failures, problem = lease.endpoint.failures + 1, failure.problem[:200]
    longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(failures - 1, 20))
    parameters = {
        "problem": problem,
        "delay": timedelta(seconds=longest * random.uniform(0.5, 1)),  # noqa: S311 (jitter, no secret)
        "pause": failure.pause,
        "not_before": failure.not_before,
        "longest": timedelta(seconds=MAX_DELAY_SECONDS),
        "gone": failure.gone,
        "give_up": conf.webhook_give_up_after(),
    }

    def step() -> str | None:
        row = execute(RECORD_FAILURE, {"id": lease.endpoint.pk, "lease": lease.token, **parameters}).fetchone()
        if row and row[0] == WebhookEndpoint.State.DEAD:
            webhook_endpoints.record_change(lease.endpoint, webhook_endpoints.Change.GIVEN_UP, position=row[1], actor=ACTOR, reason=problem)
        return row[0] if row else None

    state = run_in_transaction(step)
    log.warning("webhook_failed", webhook=lease.endpoint.pk, failures=failures, problem=problem, state=state)


def _update_under_lease(lease: EndpointLease, statement: Statement, **parameters: object) -> Any:
    """Run one statement for a leased endpoint, in its own transaction.

    :returns: the first column; None if the lease is lost.
    """

    def step() -> Any:
        cursor = execute(statement, {"id": lease.endpoint.pk, "lease": lease.token, **parameters})
        row = cursor.fetchone() if "RETURNING" in statement.sql else None
        return row[0] if row else None

    return run_in_transaction(step)


def _lease_duration() -> timedelta:
    return conf.webhook_timeout() + LEASE_MARGIN
