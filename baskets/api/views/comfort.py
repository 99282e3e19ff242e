"""The calls for a user's comfort settings, which only users of the partner itself have."""

from collections.abc import Mapping
from typing import cast

import structlog
from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.auth.permissions import BearerTokenOfClientKeys, PartnerUserRequired
from baskets.api.schema import operations
from baskets.api.serializers.representations import render_basket
from baskets.api.serializers.requests import ChangeComfortRequest
from baskets.api.views.base import ApiViewSet
from baskets.domain import comfort
from baskets.domain.actors import Actor
from baskets.domain.timestamps import format_timestamp
from baskets.encryption import UnreadableSecret
from baskets.models.basket_snapshot import BasketSnapshot, Owner, read_basket

log = structlog.get_logger(__name__)

FIELDS: dict[str, comfort.ComfortField] = {"customerId": "customer_id", "paymentToken": "payment_token"}


class ComfortViewSet(ApiViewSet):
    """The settings of one user, stored with that user's consent."""

    permission_classes = (BearerTokenOfClientKeys, PartnerUserRequired)

    @operations.get_comfort
    def show(self, request: Request, **_: str) -> HttpResponse:
        """Return the stored settings."""
        self.validated()
        try:
            stored = self.read(comfort.read_comfort, owner=self.owner)
        except UnreadableSecret:
            log.warning("comfort_unreadable")
            stored = comfort.ComfortSettings()
        return self.respond(
            {
                "customerId": stored.customer_id,
                "paymentToken": stored.payment_token,
                "consentedAt": format_timestamp(stored.consented_at),
            }
        )

    @operations.change_comfort
    def change(self, request: Request, **_: str) -> HttpResponse:
        """Store or delete comfort settings."""
        data = self.validated(ChangeComfortRequest)
        values = {field: cast("str | None", data[name]) for name, field in FIELDS.items() if name in data}
        basket = self.execute(_change_comfort, render=render_basket, values=values, consent=data.get("consent"))
        return self.respond(basket)


def _change_comfort(
    *, owner: Owner, actor: Actor, values: Mapping[comfort.ComfortField, str | None], consent: bool | None
) -> BasketSnapshot | None:
    """Change the settings, and read the basket that the response shows. No event records the settings."""
    del actor
    comfort.change_comfort(owner=owner, values=values, consent=consent)
    return read_basket(owner.basket_id)
