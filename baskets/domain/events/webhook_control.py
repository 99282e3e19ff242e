"""Pauses, resumes and replays webhook endpoints, and skips events that a receiver refuses. See `webhook_endpoints`."""

from collections.abc import Callable
from datetime import datetime

from django.db import transaction
from django.db.models.functions import Now

from baskets.domain.actors import Actor
from baskets.domain.errors import NothingToReplay
from baskets.domain.events import webhook_blocks
from baskets.domain.events.webhook_changes import lock_unchanged, record_change, record_in_journal, take_lanes
from baskets.domain.support.guards import RepairNotApplicable
from baskets.domain.validation import REASON_LIMIT
from baskets.domain.wording import sentence
from baskets.models import FeedPosition, FeedState, WebhookBlockedBasket, WebhookChange, WebhookEndpoint, WebhookLane

State, Change = WebhookEndpoint.State, WebhookChange.Kind


def pause(*, endpoint: WebhookEndpoint, expected_changes: int | None = None, reason: str = "", actor: Actor) -> None:
    """Stop deliveries to an endpoint until it is resumed. A running delivery ends, and is recorded or repeated later.

    Locks the endpoint.

    :param expected_changes: how many changes it had when staff decided; None: whatever has changed since.
    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises StaleState: it was changed since.
    :raises RepairNotApplicable: it is not active.
    """
    _change(
        endpoint,
        Change.PAUSED,
        State.PAUSED,
        is_allowed=lambda row: row.state == State.ACTIVE,
        expected=expected_changes,
        reason=reason,
        actor=actor,
    )


def resume(*, endpoint: WebhookEndpoint, expected_changes: int | None = None, reason: str = "", actor: Actor) -> None:
    """Deliver to an endpoint at once, from its position: after a pause, after it was given up, or before its next attempt is due.

    Resets its failures, so a pause that the receiver requested ends too.
    Locks the endpoint.

    :param expected_changes: how many changes it had when staff decided; None: whatever has changed since.
    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises StaleState: the endpoint has changed since.
    :raises RepairNotApplicable: it is active and does not wait for its next attempt.
    """
    _change(
        endpoint,
        Change.RESUMED,
        State.ACTIVE,
        is_allowed=lambda row: row.is_resumable,
        expected=expected_changes,
        reason=reason,
        actor=actor,
    )


def replay(*, endpoint: WebhookEndpoint, since: datetime, expected_changes: int | None = None, reason: str = "", actor: Actor) -> None:
    """Deliver all events since a time again. The endpoint is active afterwards.

    Locks the endpoint.

    :param since: the time of the first event to repeat.
    :param expected_changes: how many changes it had when staff decided; None: whatever has changed since.
    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises StaleState: the endpoint has changed since.
    :raises NothingToReplay: no event since then was delivered.
    """
    _change(
        endpoint,
        Change.REPLAYED,
        State.ACTIVE,
        is_allowed=lambda _: True,
        expected=expected_changes,
        reason=reason,
        actor=actor,
        new_position=lambda row: _position_before(row, since),
    )


@transaction.atomic(savepoint=False)
def skip_event(*, endpoint: WebhookEndpoint, position: int, expected_changes: int, reason: str, actor: Actor) -> None:
    """Skip the event that the receiver refuses and that blocks its basket, or all events of a strict endpoint.

    It is never delivered to this endpoint, unless it is replayed. Locks the endpoint, then the blocked basket or the lane.

    :param position: of the event in the feed, as `blocked_events` returns it.
    :param expected_changes: how many changes the endpoint had when staff decided.
    :raises ReasonRequired: the reason is empty.
    :raises StaleState: the endpoint has changed since.
    :raises RepairNotApplicable: this event blocks nothing.
    """
    row = lock_unchanged(endpoint, expected=expected_changes, reason=reason, actor=actor)
    block = WebhookBlockedBasket.objects.filter(endpoint=row, position=position).locked().first()
    if block is not None:
        webhook_blocks.pass_blocked_event(block_id=block.pk, expected=position, position=position)
    elif position in [entry.position for entry in blocked_events(row)]:
        WebhookLane.objects.filter(endpoint=row).update(position=position, deliverer=None)
        WebhookEndpoint.objects.filter(pk=row.pk).update(position=position, failures=0, failing_since=None, next_try_at=None)
    else:
        raise RepairNotApplicable(sentence("This event was delivered or skipped already."))
    record_change(row, Change.SKIPPED, position=position, actor=actor, reason=reason)
    record_in_journal(row, data={"step": Change.SKIPPED.value, "position": position}, reason=reason, actor=actor)


def blocked_events(endpoint: WebhookEndpoint, *, limit: int = 100) -> list[FeedPosition]:
    """Return the events that the receiver refuses, and that block their baskets: at a strict endpoint at most one.

    :returns: the events with their baskets and sessions, in the order of the feed.
    """
    events = FeedPosition.objects.filter(partner=endpoint.partner_id).select_related("event__basket", "event__session").order_by("position")
    if not endpoint.strict:
        blocked = WebhookBlockedBasket.objects.filter(endpoint=endpoint, failures__gt=0)
        return list(events.filter(position__in=blocked.values("position"))[:limit])
    if not endpoint.failures:
        return []
    return list((events.filter(kind__in=endpoint.kinds) if endpoint.kinds else events).filter(position__gt=endpoint.position)[:1])


def _position_before(endpoint: WebhookEndpoint, since: datetime) -> int:
    """Return the position before the first event since a time.

    :raises NothingToReplay: no event since then was delivered.
    """
    first = FeedPosition.objects.filter(partner=endpoint.partner_id, event__at__gte=since).order_by("position").first()
    if first is None or not WebhookLane.objects.filter(endpoint=endpoint, position__gte=first.position).exists():
        raise NothingToReplay
    return first.position - 1


@transaction.atomic(savepoint=False)
def _change(
    endpoint: WebhookEndpoint,
    kind: WebhookChange.Kind,
    to: WebhookEndpoint.State,
    *,
    is_allowed: Callable[[WebhookEndpoint], bool],
    expected: int | None,
    reason: str,
    actor: Actor,
    new_position: Callable[[WebhookEndpoint], int] | None = None,
) -> None:
    row = lock_unchanged(endpoint, expected=expected, reason=reason, actor=actor)
    if not is_allowed(row):
        raise RepairNotApplicable(sentence("The webhook is %(state)s.", state=State(row.state).label))
    position = row.position if new_position is None else new_position(row)
    if position < (purged := FeedState.objects.get().purged_position):
        reason = f"{reason} (events up to position {purged} may have been purged since)"[:REASON_LIMIT]
    # A lane may be further behind than the position to replay from.
    stored = min(row.position, position)
    WebhookEndpoint.objects.filter(pk=row.pk).update(state=to, position=stored, failures=0, failing_since=None, next_try_at=None)
    take_lanes(row)
    if new_position is not None:
        # What was blocked later comes again with its lane.
        WebhookLane.objects.filter(endpoint=row, position__gt=position).update(position=position)
        WebhookBlockedBasket.objects.filter(endpoint=row, position__gt=position).delete()
    if kind in {Change.RESUMED, Change.REPLAYED}:
        WebhookBlockedBasket.objects.filter(endpoint=row).update(next_try_at=Now())
    record_change(row, kind, position=position, actor=actor, reason=reason)
    data = {"step": kind.value, "before": {"state": row.state, "position": row.position}, "after": {"state": to, "position": position}}
    record_in_journal(row, data=data, reason=reason, actor=actor)
