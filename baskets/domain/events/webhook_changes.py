"""The common parts of every change of a webhook endpoint: check its version, stop its deliverers, record it. See `webhook_endpoints`."""

from collections.abc import Mapping
from typing import Any

from django.db.models.functions import Now

from baskets.domain import audit_log
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.errors import WebhookNotFound
from baskets.domain.support.guards import StaleState
from baskets.domain.validation import require_reason
from baskets.models import DeskEntry, WebhookChange, WebhookEndpoint, WebhookLane


def lock_unchanged(endpoint: WebhookEndpoint, *, expected: int | None = None, reason: str, actor: Actor) -> WebhookEndpoint:
    """Lock an endpoint.

    :param expected: how many changes it has; None: any number.
    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises StaleState: the endpoint has changed since.
    :raises WebhookNotFound: the endpoint was deleted.
    """
    require_reason(reason, is_optional=actor.kind == ActorKind.KEY)
    row = WebhookEndpoint.objects.locked().get(pk=endpoint.pk)
    if expected is not None:
        changes = list(row.changes.order_by("pk"))
        if len(changes) != expected:
            raise StaleState(since=changes[expected:])
    if row.state == WebhookEndpoint.State.DELETED:
        raise WebhookNotFound
    return row


def take_lanes(endpoint: WebhookEndpoint) -> None:
    """Take all lanes from their deliverers, which stop within seconds; what they send until then may be sent again."""
    WebhookLane.objects.filter(endpoint=endpoint).update(deliverer=None)


def record_change(endpoint: WebhookEndpoint, kind: WebhookChange.Kind, *, position: int, actor: Actor, reason: str = "") -> None:
    """Record a change of an endpoint: who did what, and why."""
    WebhookChange.objects.create(endpoint=endpoint, kind=kind, reason=reason, actor=actor.name, position=position, created_at=Now())


def count_changes(endpoint: WebhookEndpoint) -> int:
    """Count the changes of an endpoint: its version, for `expected_changes`."""
    return WebhookChange.objects.filter(endpoint=endpoint).count()


def record_in_journal(
    row: WebhookEndpoint,
    kind: DeskEntry.Kind = DeskEntry.Kind.CHANGED,
    *,
    data: Mapping[str, Any] | None = None,
    reason: str = "",
    actor: Actor,
) -> None:
    """Record a step of staff or of a partner in the journal.

    :param data: what the journal shows: `step` of a change, and perhaps `before` and `after`.
    """
    subject, partner_id = str(row.pk), row.partner_id
    audit_log.record(kind=kind, about="webhookendpoint", subject=subject, partner_id=partner_id, reason=reason, data=data, actor=actor)
