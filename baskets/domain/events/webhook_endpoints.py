"""Webhook endpoints of partners: creates, changes and deletes them. `webhook_control` pauses and repeats, `webhook_delivery` delivers.

Partners call these functions with their keys; staff and commands need a reason.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain import audit_log
from baskets.domain.access.partners import PartnerNotFound
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.errors import WebhookNotFound, WebhooksFull
from baskets.domain.events import feed, webhook_control, webhook_lanes, webhook_secrets
from baskets.domain.events.webhook_changes import lock_unchanged, record_change, record_in_journal, take_lanes
from baskets.domain.validation import MAX_LABEL_LENGTH, InvalidValue, validate_printable
from baskets.domain.wording import sentence
from baskets.encryption import UnreadableSecret
from baskets.models import (
    DeskEntry,
    Event,
    FeedState,
    Partner,
    WebhookAttempt,
    WebhookBlockedBasket,
    WebhookChange,
    WebhookEndpoint,
    WebhookLane,
)
from baskets.net import outgoing_urls

MAX_OVERLAP = timedelta(days=7)
# The clock of the database, by which a deliverer ends an overlap.
NOW = Statement("webhook_now", "SELECT statement_timestamp()")
State, Change = WebhookEndpoint.State, WebhookChange.Kind


class EndpointWithSecret(NamedTuple):
    """An endpoint with its new secret, which cannot be read again later."""

    endpoint: WebhookEndpoint
    secret: str


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
) -> EndpointWithSecret:
    """Create an endpoint. It receives the events from now on.

    Locks the feed.

    :param kinds: of events; empty for all.
    :param strict: deliver one event at a time, in the order of the feed; otherwise in order for each basket. It cannot be changed.
    :param from_the_beginning: start with the oldest event of the feed instead.
    :raises PartnerNotFound: no partner has this name.
    :raises InvalidValue: the URL is not allowed, or a kind or the label is invalid.
    :raises WebhooksFull: a key of the partner creates it, and the partner has `conf.webhooks_per_partner` of them.
    """
    validate_properties(url=url, kinds=kinds, label=label)
    partner = Partner.objects.filter(name=partner_name).first()
    if partner is None:
        raise PartnerNotFound
    # Committed events may still lack a position; they are in the past of this endpoint.
    position = feed.catch_up()
    # Counted under the lock of the feed, so two calls at once cannot exceed the limit.
    limit = conf.webhooks_per_partner() if actor.kind == ActorKind.KEY else None
    if limit is not None and WebhookEndpoint.objects.present().filter(partner=partner).count() >= limit:
        raise WebhooksFull
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
    text = webhook_secrets.generate_secret()
    endpoint.secret = webhook_secrets.encrypt_secret(endpoint, text)
    endpoint.save(update_fields=["secret"])
    endpoint.refresh_from_db(fields=["public_id", "created_at"])
    record_change(endpoint, Change.CREATED, position=endpoint.position, actor=actor)
    after = {"url": outgoing_urls.mask_url(url), "kinds": endpoint.kinds, "label": label, "position": position}
    record_in_journal(endpoint, DeskEntry.Kind.CREATED, data={"after": after}, actor=actor)
    return EndpointWithSecret(endpoint, text)


def validate_properties(*, url: str, kinds: Sequence[str], label: str) -> None:
    """Check what a partner chooses about an endpoint.

    :raises InvalidValue: the URL is not allowed, or a kind or the label is invalid.
    """
    try:
        outgoing_urls.validate_url(url)
    except outgoing_urls.ForbiddenUrl as forbidden:
        raise InvalidValue(str(forbidden)) from forbidden
    if label:
        validate_printable(label, limit=MAX_LABEL_LENGTH, what=_("A webhook's label"))
    if unknown := sorted(set(kinds) - set(Event.Kind.values)):
        raise InvalidValue(sentence("There is no kind of event called %(name)s.", name=repr(unknown[0][:40])))


def list_webhooks(*, partner_id: int) -> list[WebhookEndpoint]:
    """Read the webhooks of a partner that are not deleted, in the order of their creation."""
    return list(WebhookEndpoint.objects.present().filter(partner_id=partner_id).order_by("pk"))


def find_webhook(*, partner_id: int, public_id: UUID) -> WebhookEndpoint:
    """Read one webhook of a partner.

    :raises WebhookNotFound: the partner has no such webhook, or it was deleted.
    """
    endpoint = WebhookEndpoint.objects.present().filter(partner_id=partner_id, public_id=public_id).first()
    if endpoint is None:
        raise WebhookNotFound
    return endpoint


@transaction.atomic(savepoint=False)
def change_webhook(
    *,
    endpoint: WebhookEndpoint,
    url: str | None = None,
    kinds: Sequence[str] | None = None,
    label: str | None = None,
    active: bool | None = None,
    reason: str = "",
    actor: Actor,
) -> None:
    """Change what a partner chooses about an endpoint. Does nothing where all values are as before.

    Deliverers read the new values within seconds. A new URL ends the wait after failures. Locks the endpoint.

    :param url: None leaves it unchanged, and so with the other values.
    :param active: False pauses the endpoint; True resumes it, or ends its wait after failures.
    :raises InvalidValue: the URL is not allowed, or a kind or the label is invalid.
    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises WebhookNotFound: it was deleted.
    """
    row = lock_unchanged(endpoint, reason=reason, actor=actor)
    before: dict[str, Any] = {"url": row.url, "kinds": row.kinds, "label": row.label}
    after: dict[str, Any] = {
        "url": row.url if url is None else url,
        "kinds": row.kinds if kinds is None else sorted(set(kinds)),
        "label": row.label if label is None else label,
    }
    if after != before:
        validate_properties(url=after["url"], kinds=after["kinds"], label=after["label"])
        WebhookEndpoint.objects.filter(pk=row.pk).update(**after)
        if row.url != after["url"]:
            WebhookEndpoint.objects.filter(pk=row.pk).update(failures=0, failing_since=None, next_try_at=None, problem="")
            WebhookBlockedBasket.objects.filter(endpoint=row).update(next_try_at=Now())
            row.next_try_at = None
        take_lanes(row)
        record_change(row, Change.CHANGED, position=row.position, actor=actor, reason=reason)
        audit_log.record_change(
            about="webhookendpoint",
            subject=str(row.pk),
            partner_id=row.partner_id,
            before=before | {"url": outgoing_urls.mask_url(before["url"])},
            after=after | {"url": outgoing_urls.mask_url(after["url"])},
            reason=reason,
            actor=actor,
        )
    if active is False and row.state == State.ACTIVE:
        webhook_control.pause(endpoint=row, reason=reason, actor=actor)
    elif active and row.is_resumable:
        webhook_control.resume(endpoint=row, reason=reason, actor=actor)


@transaction.atomic(savepoint=False)
def rotate_secret(*, endpoint: WebhookEndpoint, overlap: timedelta, reason: str = "", actor: Actor) -> str:
    """Give an endpoint a new secret. During the overlap, the secrets that signed until now sign each message as well.

    Deliverers use the new secret within seconds. Locks the endpoint.

    :param overlap: from zero, which ends all earlier secrets at once, to `MAX_OVERLAP`.
    :returns: the new secret. It cannot be read again later.
    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises WebhookNotFound: it was deleted.
    """
    row = lock_unchanged(endpoint, reason=reason, actor=actor)
    ((now,),) = execute(NOW, [])
    text = webhook_secrets.generate_secret()
    previous, until = None, None
    if overlap:
        # A secret that cannot be decrypted signs nothing anyway.
        with suppress(UnreadableSecret):
            previous = webhook_secrets.encrypt_previous(row, webhook_secrets.read_secrets(row, now=now))
            until = max(now + overlap, row.previous_secret_until or now)
    WebhookEndpoint.objects.filter(pk=row.pk).update(
        secret=webhook_secrets.encrypt_secret(row, text), previous_secret=previous, previous_secret_until=until
    )
    take_lanes(row)
    record_change(row, Change.ROTATED, position=row.position, actor=actor, reason=reason)
    data = {"step": Change.ROTATED.value, "after": {"overlap_seconds": int(overlap.total_seconds())}}
    record_in_journal(row, data=data, reason=reason, actor=actor)
    return text


@transaction.atomic(savepoint=False)
def delete_webhook(*, endpoint: WebhookEndpoint, reason: str = "", actor: Actor) -> None:
    """Delete an endpoint: nothing is sent any more, and its secrets and attempts are erased. Its row and its changes stay.

    A request that is in flight ends, and its outcome is dropped. Locks the endpoint, then its lanes.

    :raises ReasonRequired: the reason is empty, and the actor is not a key of the partner.
    :raises WebhookNotFound: it was deleted before.
    """
    row = lock_unchanged(endpoint, reason=reason, actor=actor)
    WebhookEndpoint.objects.filter(pk=row.pk).update(
        state=State.DELETED,
        secret=webhook_secrets.encrypt_secret(row, ""),
        previous_secret=None,
        previous_secret_until=None,
        failures=0,
        failing_since=None,
        next_try_at=None,
        test_requested_at=None,
    )
    WebhookLane.objects.filter(endpoint=row).delete()
    WebhookBlockedBasket.objects.filter(endpoint=row).delete()
    WebhookAttempt.objects.filter(endpoint=row).delete()
    record_change(row, Change.DELETED, position=row.position, actor=actor, reason=reason)
    before = {"url": outgoing_urls.mask_url(row.url), "kinds": row.kinds, "label": row.label, "state": row.state}
    record_in_journal(row, DeskEntry.Kind.REMOVED, data={"before": before}, reason=reason, actor=actor)


@transaction.atomic(savepoint=False)
def request_test(*, endpoint: WebhookEndpoint, reason: str = "", actor: Actor) -> None:
    """Request a test message, which a deliverer sends within seconds: also to an endpoint that is paused or given up.

    Its outcome is among the latest attempts. A request that a deliverer has not taken yet counts once. Locks the endpoint.

    :raises WebhookNotFound: it was deleted.
    """
    if not WebhookEndpoint.objects.present().filter(pk=endpoint.pk).update(test_requested_at=Now()):
        raise WebhookNotFound
    record_in_journal(endpoint, DeskEntry.Kind.TESTED, reason=reason, actor=actor)
