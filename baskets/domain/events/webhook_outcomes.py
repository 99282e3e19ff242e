"""Records what came of a request of `webhook_delivery`."""

from uuid import UUID

from baskets.domain.actors import Actor
from baskets.domain.events import webhook_blocks, webhook_lanes
from baskets.domain.events.webhook_attempts import Attempt
from baskets.domain.events.webhook_changes import record_change
from baskets.domain.events.webhook_failures import Failure
from baskets.domain.events.webhook_requests import Outcome
from baskets.domain.events.webhook_streams import Job
from baskets.models import WebhookChange, WebhookEndpoint

ACTOR = Actor.system("deliver_webhooks")


def record_failure(job: Job, failure: Failure, *, deliverer: UUID) -> webhook_lanes.RecordedFailure | None:
    """Record that an event was not acknowledged. Call it inside a transaction. See `webhook_lanes.record_failure`.

    An endpoint that is given up by it gets a change that says so.

    :returns: None for an event of a basket that is blocked already.
    """
    endpoint, lane_id, position = job.stream.endpoint, job.lane.lane_id, job.event.entry.position
    if job.block_id is not None:
        webhook_blocks.record_blocked_failure(
            deliverer=deliverer, lane_id=lane_id, block_id=job.block_id, expected=job.block_position, position=position, failure=failure
        )
        return None
    recorded = webhook_lanes.record_failure(
        deliverer=deliverer, endpoint=endpoint, lane_id=lane_id, basket_id=job.event.basket_id, position=position, failure=failure
    )
    if recorded and recorded.state == WebhookEndpoint.State.DEAD:
        record_change(endpoint, WebhookChange.Kind.GIVEN_UP, position=recorded.position, actor=ACTOR, reason=failure.problem[:200])
    return recorded


def attempt_of(endpoint: WebhookEndpoint, position: int | None, outcome: Outcome) -> Attempt:
    """Return what is stored of a request.

    :param position: of the event in the feed; None for a test message.
    """
    return Attempt(
        endpoint_id=endpoint.pk,
        position=position,
        status=outcome.status,
        duration=outcome.duration,
        problem=outcome.failure.problem if outcome.failure else "",
    )
