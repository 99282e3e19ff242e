"""Webhooks of partners: made, paused, resumed and set back, each with a line on who did it. The delivering is in `deliveries`."""

import base64
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models.functions import Now

from baskets.domain.access.partners import PartnerNotFound
from baskets.domain.actors import Actor
from baskets.domain.events import feed
from baskets.domain.support.guards import REASON_LIMIT, RepairNotApplicable, StaleState, require_reason
from baskets.domain.validation import MAX_LABEL_LENGTH, InvalidValue, validate_printable
from baskets.encryption import encrypt
from baskets.models import Event, FeedPosition, FeedState, Partner, WebhookChange, WebhookEndpoint
from baskets.net import http_client

SECRET_BYTES = 32
ENCRYPTION_PURPOSE = "webhookendpoint.secret"
State, Change = WebhookEndpoint.State, WebhookChange.Kind


@transaction.atomic(savepoint=False)
def create_webhook(
    *, partner_name: str, url: str, kinds: Sequence[str] = (), label: str = "", from_the_beginning: bool = False, actor: Actor
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint, and return it with the text of its secret, which is told here and nowhere else.

    It is told of what happens from now on. The secret is stored encrypted, because every message is signed with it.

    :param kinds: of events; none is all of them.
    :param from_the_beginning: begin with the oldest event of the feed instead.
    :raises PartnerNotFound: there is no partner of this name.
    :raises InvalidValue: the address may not be called, or a kind or the label cannot be used.
    """
    try:
        http_client.validate_url(url)
    except http_client.ForbiddenUrl as forbidden:
        raise InvalidValue(str(forbidden)) from forbidden
    if label:
        validate_printable(label, limit=MAX_LABEL_LENGTH, what="A webhook's label")
    if unknown := sorted(set(kinds) - set(Event.Kind.values)):
        raise InvalidValue(f"There is no kind of event called {unknown[0][:40]!r}.")
    partner = Partner.objects.filter(name=partner_name).first()
    if partner is None:
        raise PartnerNotFound
    text = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    # What has happened so far is past, also where nobody has read the feed for long.
    position = feed.catch_up()
    if from_the_beginning:
        position = FeedState.objects.get().purged_position
    endpoint = WebhookEndpoint.objects.create(
        partner=partner,
        url=url,
        label=label,
        secret=b"",
        kinds=sorted(set(kinds)),
        position=position,
    )
    # The secret is bound to its row, whose key is known only now.
    endpoint.secret = encrypt(text, purpose=ENCRYPTION_PURPOSE, context=endpoint.pk)
    endpoint.save(update_fields=["secret"])
    record_change(endpoint, Change.CREATED, position=endpoint.position, actor=actor)
    return endpoint, text


def pause(*, endpoint: WebhookEndpoint, expected_changes: int, reason: str, actor: Actor) -> None:
    """Tell an endpoint of nothing until it is resumed; a delivery that is under way ends, and is kept or comes again.

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
        fits=lambda row: row.state == State.ACTIVE,
        expected=expected_changes,
        reason=reason,
        actor=actor,
    )


def resume(*, endpoint: WebhookEndpoint, expected_changes: int, reason: str, actor: Actor) -> None:
    """Deliver to an endpoint at once, from where it stands: after a pause, after it was given up, or before its next try is due.

    It counts as one that has never failed, so a pause that the receiver requested ends too.
    Locks the endpoint. Parameters and refusals as `pause`.

    :raises RepairNotApplicable: it is active, and does not wait for its next try.
    """
    _change(
        endpoint, Change.RESUMED, State.ACTIVE, fits=lambda row: row.is_resumable, expected=expected_changes, reason=reason, actor=actor
    )


def replay(*, endpoint: WebhookEndpoint, since: datetime, expected_changes: int, reason: str, actor: Actor) -> None:
    """Tell an endpoint again of everything that happened since a moment; it is active afterwards.

    Locks the endpoint. Other parameters and refusals as `pause`.

    :param since: of the first event that comes again.
    :raises RepairNotApplicable: nothing that was delivered is as young as that.
    """
    _change(
        endpoint,
        Change.REPLAYED,
        State.ACTIVE,
        fits=lambda _: True,
        expected=expected_changes,
        reason=reason,
        actor=actor,
        place=lambda row: _position_before(row, since),
    )


def _position_before(endpoint: WebhookEndpoint, since: datetime) -> int:
    """The place before the first event since a moment, which must have been passed."""
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
    fits: Callable[[WebhookEndpoint], bool],
    expected: int,
    reason: str,
    actor: Actor,
    place: Callable[[WebhookEndpoint], int] | None = None,
) -> None:
    require_reason(reason)
    row = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
    done = list(row.changes.order_by("pk"))
    if len(done) != expected:
        raise StaleState(since=done[expected:])
    if not fits(row):
        raise RepairNotApplicable(f"The webhook is {row.get_state_display()}.")
    position = row.position if place is None else place(row)
    if position < (purged := FeedState.objects.get().purged_position):
        reason = f"{reason} (events up to position {purged} may have been purged since)"[:REASON_LIMIT]
    # Who delivers just now loses the lease, but nobody else gets one before it has run out: no event is sent twice at once.
    WebhookEndpoint.objects.filter(pk=row.pk).update(
        state=to,
        position=position,
        failures=0,
        failing_since=None,
        next_try_at=None,
        lease=None,
    )
    record_change(row, kind, position=position, actor=actor, reason=reason)


def record_change(endpoint: WebhookEndpoint, kind: WebhookChange.Kind, *, position: int, actor: Actor, reason: str = "") -> None:
    """Keep a line on what was done."""
    WebhookChange.objects.create(endpoint=endpoint, kind=kind, reason=reason, actor=actor.name, position=position, created_at=Now())


def count_changes(endpoint: WebhookEndpoint) -> int:
    """Count the changes of an endpoint: the state that the next one is decided upon."""
    return WebhookChange.objects.filter(endpoint=endpoint).count()
