"""The calls with which a partner's back end manages its webhooks: their secrets, test messages, deliveries and replays."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.auth.permissions import BearerTokenIfSent, ServerKeyRequired
from baskets.api.schema import webhook_operations
from baskets.api.serializers.requests import EmptyBody
from baskets.api.serializers.webhooks import (
    ChangeWebhookRequest,
    CreateWebhookRequest,
    ReplayWebhookRequest,
    RotateSecretRequest,
    render_deliveries,
    render_webhook,
    render_webhooks,
)
from baskets.api.views.base import ApiViewSet
from baskets.domain.actors import Actor
from baskets.domain.errors import WebhookNotFound
from baskets.domain.events import webhook_attempts, webhook_control, webhook_endpoints
from baskets.domain.events.webhook_endpoints import EndpointWithSecret
from baskets.models import FeedPosition, Partner, WebhookAttempt, WebhookEndpoint
from baskets.models.basket_snapshot import Owner


class WebhookViewSet(ApiViewSet):
    """The webhooks of the partner. Each call is one unit of work."""

    permission_classes = (BearerTokenIfSent, ServerKeyRequired)

    @property
    def owner(self) -> Owner:
        """The partner itself, as the scope of an Idempotency-Key: no user has an empty id."""
        return Owner(partner_id=self.caller.partner_id, user_id="")

    @property
    def owner_or_none(self) -> None:
        """No basket belongs to a refusal."""
        return

    @webhook_operations.list_webhooks
    def index(self, request: Request) -> HttpResponse:
        """List the webhooks."""
        self.validated()
        return self.respond(render_webhooks(self.read(lambda: webhook_endpoints.list_webhooks(partner_id=self.caller.partner_id))))

    @webhook_operations.get_webhook
    def show(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """Show one webhook."""
        self.validated()
        return self.respond(render_webhook(self.read(lambda: _find(self.owner, webhook_id))))

    @webhook_operations.change_webhook
    def change(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """Change, pause or resume a webhook."""
        values = dict(self.validated(ChangeWebhookRequest))
        return self.respond(self.execute(_changing(webhook_id, webhook_endpoints.change_webhook), render=render_webhook, **values))

    @webhook_operations.delete_webhook
    def destroy(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """Delete a webhook."""
        self.validated(EmptyBody)
        return self.respond(self.execute(_delete, render=render_webhooks, webhook_id=webhook_id))

    @webhook_operations.test_webhook
    def test(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """Request a test message."""
        self.validated(EmptyBody)
        return self.respond(self.execute(_changing(webhook_id, webhook_endpoints.request_test), render=render_webhook))

    @webhook_operations.replay_webhook
    def replay(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """Have events delivered again."""
        since: datetime = self.validated(ReplayWebhookRequest)["since"]
        return self.respond(self.execute(_changing(webhook_id, webhook_control.replay), render=render_webhook, since=since))

    @webhook_operations.list_deliveries
    def deliveries(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """List the latest requests to a webhook."""
        self.validated()
        return self.respond(render_deliveries(*self.read(lambda: _latest(self.owner, webhook_id))))


class WebhookSecretViewSet(WebhookViewSet):
    """The calls whose response has a secret, which is stored for no Idempotency-Key."""

    takes_idempotency_key = False

    @webhook_operations.create_webhook
    def create(self, request: Request) -> HttpResponse:
        """Create a webhook."""
        values = self.validated(CreateWebhookRequest)
        options = {name: values[name] for name in ("url", "kinds", "label", "strict")}
        return self.respond(self.execute(_create, render=_render_secret, from_the_beginning=values["fromTheBeginning"], **options))

    @webhook_operations.rotate_webhook_secret
    def rotate(self, request: Request, *, webhook_id: str) -> HttpResponse:
        """Give a webhook a new secret."""
        overlap = timedelta(seconds=self.validated(RotateSecretRequest)["overlapSeconds"])
        return self.respond(self.execute(_rotate, render=_render_secret, webhook_id=webhook_id, overlap=overlap))


def _find(owner: Owner, webhook_id: str) -> WebhookEndpoint:
    """Read a webhook by the id that the API prints.

    :raises WebhookNotFound: the text is not such an id, or the partner has no such webhook.
    """
    prefix, _, text = webhook_id.partition("-")
    try:
        public_id = UUID(text)
    except ValueError:
        raise WebhookNotFound from None
    if (prefix, text) != ("wh", public_id.hex):
        raise WebhookNotFound
    return webhook_endpoints.find_webhook(partner_id=owner.partner_id, public_id=public_id)


def _changing(webhook_id: str, change: Callable[..., None]) -> Callable[..., WebhookEndpoint]:
    """Return the operation that changes a webhook, and returns it as it is afterwards."""

    def operation(*, owner: Owner, actor: Actor, **values: Any) -> WebhookEndpoint:
        endpoint = _find(owner, webhook_id)
        change(endpoint=endpoint, actor=actor, **values)
        endpoint.refresh_from_db()
        return endpoint

    return operation


def _delete(*, owner: Owner, actor: Actor, webhook_id: str) -> Sequence[WebhookEndpoint]:
    webhook_endpoints.delete_webhook(endpoint=_find(owner, webhook_id), actor=actor)
    return webhook_endpoints.list_webhooks(partner_id=owner.partner_id)


def _create(*, owner: Owner, actor: Actor, **values: Any) -> EndpointWithSecret:
    name = Partner.objects.values_list("name", flat=True).get(pk=owner.partner_id)
    return webhook_endpoints.create_webhook(partner_name=name, actor=actor, **values)


def _rotate(*, owner: Owner, actor: Actor, webhook_id: str, overlap: timedelta) -> EndpointWithSecret:
    endpoint = _find(owner, webhook_id)
    secret = webhook_endpoints.rotate_secret(endpoint=endpoint, overlap=overlap, actor=actor)
    endpoint.refresh_from_db()
    return EndpointWithSecret(endpoint, secret)


def _render_secret(created: EndpointWithSecret) -> dict[str, Any]:
    return render_webhook(created.endpoint) | {"secret": created.secret}


def _latest(owner: Owner, webhook_id: str) -> tuple[list[WebhookAttempt], dict[int, FeedPosition]]:
    attempts = webhook_attempts.latest_attempts(endpoint_id=_find(owner, webhook_id).pk, limit=2 * webhook_attempts.MAX_KEPT_PER_OUTCOME)
    return attempts, webhook_attempts.events_of(attempts)
