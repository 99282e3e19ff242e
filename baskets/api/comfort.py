"""The calls for a user's comfort settings: for users whom their partner itself knows, and for nobody else."""

from typing import Any, cast

import structlog
from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api import schema
from baskets.api.base import ApiViewSet
from baskets.api.envelope import respond, success
from baskets.api.rendering import no_basket, render_basket, render_time
from baskets.api.serializers import ChangeComfort
from baskets.database import reading
from baskets.domain import comfort
from baskets.encryption import UnreadableSecret
from baskets.models.contents import read_contents

log = structlog.get_logger(__name__)

FIELDS: dict[str, comfort.Field] = {"customerId": "customer_id", "paymentToken": "payment_token"}


class ComfortViewSet(ApiViewSet):
    """What is stored for one user, with that user's consent."""

    known_users_only = True

    @schema.get_comfort
    def show(self, request: Request, **_: str) -> HttpResponse:
        """Show the user what is stored."""
        self.read()
        try:
            stored = reading(lambda: comfort.read_comfort(owner=self.owner))
        except UnreadableSecret:
            log.warning("comfort_unreadable")
            stored = comfort.Settings()
        return respond(
            success(
                {
                    "customerId": stored.customer_id,
                    "paymentToken": stored.payment_token,
                    "consentedAt": None if stored.consented_at is None else render_time(stored.consented_at),
                }
            )
        )

    @schema.change_comfort
    def change(self, request: Request, **_: str) -> HttpResponse:
        """Store or delete comfort settings."""
        given = self.read(ChangeComfort)
        said = {field: cast("str | None", given[name]) for name, field in FIELDS.items() if name in given}

        def change(_: bool) -> dict[str, Any]:  # noqa: FBT001 (the signature is the transaction's)
            comfort.change_comfort(owner=self.owner, said=said, consent=given.get("consent"))
            contents = read_contents(self.owner.basket_id)
            return no_basket() if contents is None else render_basket(contents)

        return self.perform(change)
