"""The calls for a user's comfort settings: for users whom their partner itself knows, and for nobody else."""

from typing import Any, cast

import structlog
from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.schema import operations
from baskets.api.serializers.representations import render_basket
from baskets.api.serializers.requests import ChangeComfortRequest
from baskets.api.views.base import ApiViewSet
from baskets.db.errors import read_with_reconnect
from baskets.domain import comfort
from baskets.domain.timestamps import format_timestamp
from baskets.encryption import UnreadableSecret
from baskets.models.basket_snapshot import read_basket

log = structlog.get_logger(__name__)

FIELDS: dict[str, comfort.ComfortField] = {"customerId": "customer_id", "paymentToken": "payment_token"}


class ComfortViewSet(ApiViewSet):
    """What is stored for one user, with that user's consent."""

    known_users_only = True

    @operations.get_comfort
    def show(self, request: Request, **_: str) -> HttpResponse:
        """Show the user what is stored."""
        self.read()
        try:
            stored = read_with_reconnect(lambda: comfort.read_comfort(owner=self.owner))
        except UnreadableSecret:
            log.warning("comfort_unreadable")
            stored = comfort.ComfortSettings()
        return json_response(
            success_body(
                {
                    "customerId": stored.customer_id,
                    "paymentToken": stored.payment_token,
                    "consentedAt": format_timestamp(stored.consented_at),
                }
            )
        )

    @operations.change_comfort
    def change(self, request: Request, **_: str) -> HttpResponse:
        """Store or delete comfort settings."""
        given = self.read(ChangeComfortRequest)
        said = {field: cast("str | None", given[name]) for name, field in FIELDS.items() if name in given}

        def change() -> dict[str, Any]:
            comfort.change_comfort(owner=self.owner, values=said, consent=given.get("consent"))
            contents = read_basket(self.owner.basket_id)
            return render_basket(contents)

        return self.perform(change)
