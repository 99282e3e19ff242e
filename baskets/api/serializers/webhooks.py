"""The bodies of the calls for webhooks: what partners send, and what they get.

The docstrings and help texts are part of the published schema.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from baskets.api.serializers.fields import StrictBooleanField, StrictStringField
from baskets.api.serializers.requests import RequestSerializer
from baskets.api.serializers.responses import TIME_HELP
from baskets.domain.events.payloads import message_id
from baskets.domain.events.webhook_endpoints import MAX_OVERLAP
from baskets.domain.events.webhook_requests import public_name
from baskets.domain.timestamps import TIMESTAMP_RULE, format_timestamp, parse_timestamp
from baskets.domain.validation import MAX_LABEL_LENGTH
from baskets.models import Event, FeedPosition, WebhookAttempt, WebhookEndpoint
from baskets.net import outgoing_urls

# --- Requests ---------------------------------------------------------------------


class WebhookUrlField(StrictStringField):
    """The URL to which events are posted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_length=outgoing_urls.MAX_URL_LENGTH,
            help_text=(
                "Where events are posted to: `https://`, a host with addresses on the public internet only, and the port 80, 443 or one "
                "from 8000 up."
            ),
            **options,
        )

    def to_internal_value(self, data: Any) -> str:
        """Accept a URL to which this service may send requests. Its host is resolved with each delivery, not here."""
        url = super().to_internal_value(data)
        try:
            outgoing_urls.validate_url(url)
        except outgoing_urls.ForbiddenUrl as forbidden:
            raise serializers.ValidationError(str(forbidden)) from None
        return url


class EventKindField(serializers.ChoiceField):
    """A kind of event."""

    default_error_messages = {"invalid_choice": "Must be a kind of event."}

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=Event.Kind.values, **options)

    def to_internal_value(self, data: Any) -> str:
        """Accept a string that names a kind."""
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice")
        return data


class EventKindsField(serializers.ListField):
    """Kinds of events; none: all."""

    default_error_messages = {"not_a_list": "Must be an array."}

    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=EventKindField(),
            max_length=len(Event.Kind.values),
            help_text="The kinds of events to receive. Empty: all, later ones included.",
            **options,
        )


class WebhookLabelField(StrictStringField):
    """A text that reminds the partner what a webhook is for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_LABEL_LENGTH, allow_blank=True, help_text="What it is for; printable characters.", **options)

    def to_internal_value(self, data: Any) -> str:
        """Accept printable characters."""
        label = super().to_internal_value(data)
        if label and not (label.isprintable() and label.strip()):
            raise serializers.ValidationError("Must have printable characters only.")
        return label


class CreateWebhookRequest(RequestSerializer):
    """The body of the call that creates a webhook."""

    url = WebhookUrlField()
    kinds = EventKindsField(default=list, allow_null=True)
    label = WebhookLabelField(default="", allow_null=True)  # type: ignore[assignment]  # a member of the wire, not DRF's label
    strict = StrictBooleanField(
        default=False,
        allow_null=True,
        help_text="true: one event at a time, in the order of the feed; an event that fails stops all others. It cannot be changed later.",
    )
    fromTheBeginning = StrictBooleanField(
        default=False, allow_null=True, help_text="true: begins with the oldest event of the feed, not with the next one."
    )


class ChangeWebhookRequest(RequestSerializer):
    """The body of PATCH on a webhook. A member that is null or absent stays unchanged."""

    url = WebhookUrlField(default=None, allow_null=True)
    kinds = EventKindsField(default=None, allow_null=True)
    label = WebhookLabelField(default=None, allow_null=True)  # type: ignore[assignment]  # a member of the wire, not DRF's label
    active = StrictBooleanField(
        default=None,
        allow_null=True,
        help_text="false: pauses delivery; events wait. true: resumes it at once, also after it was given up or while it waits.",
    )


class OverlapField(serializers.IntegerField):
    """A number of seconds."""

    default_error_messages = {"invalid": "Must be a whole number."}

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=int(MAX_OVERLAP.total_seconds()), **options)

    def to_internal_value(self, data: Any) -> int:
        """Accept a whole number as `parse_json` returns it."""
        if type(data) is not int:
            self.fail("invalid")
        return data


class RotateSecretRequest(RequestSerializer):
    """The body of the call that gives a webhook a new secret."""

    overlapSeconds = OverlapField(
        default=24 * 60 * 60,
        allow_null=True,
        help_text="How long the secrets before sign as well. 0 ends them at once: for a secret that leaked. Absent: 86400.",
    )


@extend_schema_field({"type": "string", "format": "date-time"})
class TimestampField(serializers.Field[datetime, str, str, Any]):
    """A time with its offset from UTC."""

    default_error_messages = {"invalid": TIMESTAMP_RULE}

    def to_internal_value(self, data: Any) -> datetime:
        """Parse a time; refuse one without an offset, which could mean several moments."""
        at = parse_timestamp(data) if isinstance(data, str) else None
        if at is None:
            self.fail("invalid")
        return at


class ReplayWebhookRequest(RequestSerializer):
    """The body of the call that has events delivered again."""

    since = TimestampField(help_text="The time of the first event to deliver again, with its offset from UTC.")


# --- Responses --------------------------------------------------------------------


class Webhook(serializers.Serializer[Any]):
    """A webhook of the partner. Its secret is shown only by the calls that make one."""

    webhookId = serializers.CharField(help_text="Names the webhook for good.")
    url = serializers.CharField(help_text="Where events are posted to.")
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=Event.Kind.values), help_text="The kinds of events it receives. Empty: all."
    )
    label = serializers.CharField(help_text="What it is for; may be empty.")  # type: ignore[assignment]  # a member of the wire, not DRF's label
    strict = serializers.BooleanField(help_text="One event at a time, in the order of the feed.")
    state = serializers.ChoiceField(
        choices=["active", "paused", "dead"], help_text="`dead`: given up, because it failed for days or answered 410."
    )
    createdAt = serializers.DateTimeField(help_text=TIME_HELP)
    deliveredAt = serializers.DateTimeField(allow_null=True, help_text="The last delivery that was acknowledged.")
    failingSince = serializers.DateTimeField(allow_null=True, help_text="Null: the last delivery was acknowledged.")
    nextTryAt = serializers.DateTimeField(allow_null=True, help_text="Set while all deliveries wait after failures: until then.")
    problem = serializers.CharField(allow_null=True, help_text="How the last delivery failed.")
    previousSecretUntil = serializers.DateTimeField(
        allow_null=True, help_text="Until when earlier secrets sign as well; null: the present one signs alone."
    )


class WebhookList(serializers.Serializer[Any]):
    """All webhooks of the partner, in the order of their creation."""

    webhooks = Webhook(many=True, help_text="The webhooks, the oldest first.")


class WebhookWithSecret(Webhook):
    """A webhook and its new secret."""

    secret = serializers.CharField(help_text="Verifies the signature of each message. Store it: it cannot be read again.")


class Delivery(serializers.Serializer[Any]):
    """One request to a webhook, and its outcome."""

    eventId = serializers.CharField(allow_null=True, help_text="The `id` of the event; null for a test message or a purged event.")
    kind = serializers.ChoiceField(choices=Event.Kind.values, allow_null=True, help_text="The kind of the event.")
    test = serializers.BooleanField(help_text="Whether it was a test message.")
    acknowledged = serializers.BooleanField(help_text="Whether the response had a status from 200 to 299.")
    status = serializers.IntegerField(
        allow_null=True, min_value=100, max_value=999, help_text="The HTTP status; null if there was no response."
    )
    durationMs = serializers.IntegerField(min_value=0, help_text="Milliseconds from the request to its outcome.")
    problem = serializers.CharField(allow_null=True, help_text="Why it was not acknowledged.")
    endedAt = serializers.DateTimeField(help_text=TIME_HELP)


class DeliveryList(serializers.Serializer[Any]):
    """The latest requests to a webhook, the newest first: at most 50 that were acknowledged, and 50 others."""

    deliveries = Delivery(many=True, help_text="The latest requests, the newest first.")


def render_webhook(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return the JSON object of a webhook, without its secret."""
    return {
        "webhookId": public_name(endpoint),
        "url": endpoint.url,
        "kinds": endpoint.kinds,
        "label": endpoint.label,
        "strict": endpoint.strict,
        "state": endpoint.state,
        "createdAt": format_timestamp(endpoint.created_at),
        "deliveredAt": format_timestamp(endpoint.delivered_at),
        "failingSince": format_timestamp(endpoint.failing_since),
        "nextTryAt": format_timestamp(endpoint.next_try_at),
        "problem": endpoint.problem or None,
        "previousSecretUntil": format_timestamp(endpoint.previous_secret_until),
    }


def render_webhooks(endpoints: Iterable[WebhookEndpoint]) -> dict[str, Any]:
    """Return the JSON object of a list of webhooks."""
    return {"webhooks": [render_webhook(endpoint) for endpoint in endpoints]}


def render_deliveries(attempts: Iterable[WebhookAttempt], events: Mapping[int, FeedPosition]) -> dict[str, Any]:
    """Return the JSON object of the latest requests.

    :param events: by position in the feed.
    """
    return {"deliveries": [_render_delivery(attempt, events.get(attempt.position or 0)) for attempt in attempts]}


def _render_delivery(attempt: WebhookAttempt, entry: FeedPosition | None) -> dict[str, Any]:
    return {
        "eventId": message_id(entry) if entry else None,
        "kind": entry.kind if entry else None,
        "test": attempt.position is None,
        "acknowledged": attempt.acknowledged,
        "status": attempt.status,
        "durationMs": round(attempt.duration.total_seconds() * 1000),
        "problem": attempt.problem or None,
        "endedAt": format_timestamp(attempt.ended_at),
    }
