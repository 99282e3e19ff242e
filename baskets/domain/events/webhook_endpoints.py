"""Webhook endpoints of partners: creates, pauses, resumes and rewinds them, and records each change. `webhook_delivery` delivers."""

import base64
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models.functions import Now

from baskets.domain import audit_log
from baskets.domain.access.partners import PartnerNotFound
from baskets.domain.actors import Actor
from baskets.domain.events import feed, webhook_lanes
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.validation import MAX_LABEL_LENGTH, REASON_LIMIT, InvalidValue, require_reason, validate_printable
from baskets.encryption import decrypt, encrypt
from baskets.models import (
    DeskEntry,
    Event,
    FeedPosition,
    FeedState,
    Partner,
    WebhookBlockedBasket,
    WebhookChange,
    WebhookEndpoint,
    WebhookLane,
)
from baskets.net import http_client

SECRET_BYTES = 32
ENCRYPTION_PURPOSE = "webhookendpoint.secret"
PREVIOUS_PURPOSE = "webhookendpoint.previous_secret"
State, Change = WebhookEndpoint.State, WebhookChange.Kind


@transaction.atomic(savepoint=False)
def create_webhook(
    *,
    partner_name: str,
    url: str,
    kinds: Sequence[str] = (),
    label: str = "",
    strict: bool = False,
    from_the_beginning: bool = False,
    actor: Actor,
) -> tuple[WebhookEndpoint, str]:
    """Create an endpoint. It receives the events from now on.

    The secret is stored encrypted and not as a digest, because it signs every message.
    Locks the feed.

    :param kinds: of events; empty for all.
    :param strict: deliver one event at a time, in the order of the feed; otherwise in order for each basket. It cannot be changed.
    :param from_the_beginning: start with the oldest event of the feed instead.
    :returns: the endpoint and its secret. The secret cannot be read again later.
    :raises PartnerNotFound: no partner has this name.
    :raises InvalidValue: the URL is not allowed, or a kind or the label is invalid.
    """
    validate_properties(url=url, kinds=kinds, label=label)
    partner = Partner.objects.filter(name=partner_name).first()
    if partner is None:
        raise PartnerNotFound
    text = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    # Committed events may still lack a position; they are in the past of this endpoint.
    position = feed.catch_up()
    if from_the_beginning:
        position = FeedState.objects.get().purged_position
    endpoint = WebhookEndpoint.objects.create(
        partner=partner,
        url=url,
        label=label,
        secret=b"",
        kinds=sorted(set(kinds)),
        strict=strict,
        position=position,
    )
    webhook_lanes.create_lanes(endpoint)
    # The ciphertext is bound to the primary key of its row, which exists only now.
    endpoint.secret = encrypt(text, purpose=ENCRYPTION_PURPOSE, context=endpoint.pk)
    endpoint.save(update_fields=["secret"])
    record_change(endpoint, Change.CREATED, position=endpoint.position, actor=actor)
    after = {"url": url, "kinds": endpoint.kinds, "label": label, "position": position}
    audit_log.record(
        kind=DeskEntry.Kind.CREATED,
        about="webhookendpoint",
        subject=str(endpoint.pk),
        partner_id=partner.pk,
        data={"after": after},
        actor=actor,
    )
    return endpoint, text


def validate_properties(*, url: str, kinds: Sequence[str], label: str) -> None:
    """Check what a partner chooses about an endpoint.

    :raises InvalidValue: the URL is not allowed, or a kind or the label is invalid.
    """
    try:
        http_client.validate_url(url)
    except http_client.ForbiddenUrl as forbidden:
        raise InvalidValue(str(forbidden)) from forbidden
    if label:
        validate_printable(label, limit=MAX_LABEL_LENGTH, what="A webhook's label")
    if unknown := sorted(set(kinds) - set(Event.Kind.values)):
        raise InvalidValue(f"There is no kind of event called {unknown[0][:40]!r}.")


def read_secrets(endpoint: WebhookEndpoint, *, now: datetime) -> list[str]:
    """Return the secrets that sign a message: the current one, and during an overlap the previous one.

    :raises UnreadableSecret: a secret cannot be decrypted.
    """
    secrets_ = [decrypt(endpoint.secret, purpose=ENCRYPTION_PURPOSE, context=endpoint.pk)]
    if endpoint.previous_secret is not None and endpoint.previous_secret_until is not None and now < endpoint.previous_secret_until:
        secrets_.append(decrypt(endpoint.previous_secret, purpose=PREVIOUS_PURPOSE, context=endpoint.pk))
    return secrets_


def pause(*, endpoint: WebhookEndpoint, expected_changes: int, reason: str, actor: Actor) -> None:
    """Stop deliveries to an endpoint until it is resumed. A running delivery ends, and is recorded or repeated later.

    Locks the endpoint.

    :param expected_changes: how many changes it had when staff decided.
    :raises ReasonRequired: no reason is given.
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


def resume(*, endpoint: WebhookEndpoint, expected_changes: int, reason: str, actor: Actor) -> None:
    """Deliver to an endpoint at once, from its position: after a pause, after it was given up, or before its next attempt is due.

    Resets its failures, so a pause that the receiver requested ends too.
    Locks the endpoint.

    :param expected_changes: how many changes it had when staff decided.
    :raises ReasonRequired: the reason is empty.
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


def replay(*, endpoint: WebhookEndpoint, since: datetime, expected_changes: int, reason: str, actor: Actor) -> None:
    """Deliver all events since a time again. The endpoint is active afterwards.

    Locks the endpoint.

    :param since: the time of the first event to repeat.
    :param expected_changes: how many changes it had when staff decided.
    :raises ReasonRequired: the reason is empty.
    :raises StaleState: the endpoint has changed since.
    :raises RepairNotApplicable: no event since then was delivered.
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
    row = _lock_unchanged(endpoint, expected=expected_changes, reason=reason)
    block = WebhookBlockedBasket.objects.filter(endpoint=row, position=position).locked().first()
    if block is not None:
        webhook_lanes.pass_blocked_event(block_id=block.pk, expected=position, position=position)
    elif position in [entry.position for entry in blocked_events(row)]:
        WebhookLane.objects.filter(endpoint=row).update(position=position, deliverer=None)
        WebhookEndpoint.objects.filter(pk=row.pk).update(position=position, failures=0, failing_since=None, next_try_at=None)
    else:
        raise RepairNotApplicable("This event was delivered or skipped already.")
    record_change(row, Change.SKIPPED, position=position, actor=actor, reason=reason)


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

    :raises RepairNotApplicable: no event since then was delivered.
    """
    first = FeedPosition.objects.filter(partner=endpoint.partner_id, event__at__gte=since).order_by("position").first()
    if first is None or first.position > endpoint.position:
        raise RepairNotApplicable("Nothing that was delivered happened since then.")
    return first.position - 1


@transaction.atomic(savepoint=False)
def _change(
    endpoint: WebhookEndpoint,
    kind: WebhookChange.Kind,
    to: WebhookEndpoint.State,
    *,
    is_allowed: Callable[[WebhookEndpoint], bool],
    expected: int,
    reason: str,
    actor: Actor,
    new_position: Callable[[WebhookEndpoint], int] | None = None,
) -> None:
    row = _lock_unchanged(endpoint, expected=expected, reason=reason)
    if not is_allowed(row):
        raise RepairNotApplicable(f"The webhook is {row.get_state_display()}.")
    position = row.position if new_position is None else new_position(row)
    if position < (purged := FeedState.objects.get().purged_position):
        reason = f"{reason} (events up to position {purged} may have been purged since)"[:REASON_LIMIT]
    WebhookEndpoint.objects.filter(pk=row.pk).update(state=to, position=position, failures=0, failing_since=None, next_try_at=None)
    _take_lanes(row)
    if new_position is not None:
        # What was blocked later comes again with its lane.
        WebhookLane.objects.filter(endpoint=row, position__gt=position).update(position=position)
        WebhookBlockedBasket.objects.filter(endpoint=row, position__gt=position).delete()
    if kind in {Change.RESUMED, Change.REPLAYED}:
        WebhookBlockedBasket.objects.filter(endpoint=row).update(next_try_at=Now())
    record_change(row, kind, position=position, actor=actor, reason=reason)
    data = {"step": kind.value, "before": {"state": row.state, "position": row.position}, "after": {"state": to, "position": position}}
    audit_log.record(
        kind=DeskEntry.Kind.CHANGED,
        about="webhookendpoint",
        subject=str(row.pk),
        partner_id=row.partner_id,
        reason=reason,
        data=data,
        actor=actor,
    )


def _lock_unchanged(endpoint: WebhookEndpoint, *, expected: int, reason: str) -> WebhookEndpoint:
    """Lock an endpoint.

    :raises ReasonRequired: the reason is empty.
    :raises StaleState: the endpoint has changed since.
    """
    require_reason(reason)
    row = WebhookEndpoint.objects.locked().get(pk=endpoint.pk)
    changes = list(row.changes.order_by("pk"))
    if len(changes) != expected:
        raise StaleState(since=changes[expected:])
    return row


def _take_lanes(endpoint: WebhookEndpoint) -> None:
    """Take all lanes from their deliverers, which stop within seconds; what they send until then may be sent again."""
    WebhookLane.objects.filter(endpoint=endpoint).update(deliverer=None)


def record_change(endpoint: WebhookEndpoint, kind: WebhookChange.Kind, *, position: int, actor: Actor, reason: str = "") -> None:
    """Record a change of an endpoint: who did what, and why."""
    WebhookChange.objects.create(endpoint=endpoint, kind=kind, reason=reason, actor=actor.name, position=position, created_at=Now())


def count_changes(endpoint: WebhookEndpoint) -> int:
    """Count the changes of an endpoint: its version, for `expected_changes`."""
    return WebhookChange.objects.filter(endpoint=endpoint).count()
