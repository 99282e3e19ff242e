"""The calls that guests begin with: a basket and a token, and the public keys that tokens are checked with."""

from collections.abc import Mapping
from typing import Any, cast

from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.exceptions import invalid
from baskets.api.protocol.envelope import encode_json, json_response, success_body
from baskets.api.schema import operations
from baskets.api.serializers.representations import render_guest
from baskets.api.serializers.requests import CreateGuestRequest
from baskets.api.views.base import ApiViewSet
from baskets.db.errors import read_with_reconnect
from baskets.domain import runner
from baskets.domain.access import guest_tokens, signing_keys
from baskets.domain.baskets import guests, transfers
from baskets.domain.baskets.transfers import TransferNotFound
from baskets.models.basket_snapshot import Owner

# A key that signs is new to whoever keeps this; they look again for a `kid` that they do not know.
KEYS_ARE_GOOD_FOR = "public, max-age=60"


class GuestViewSet(ApiViewSet):
    """Users whom the partner does not know, for whoever has a key."""

    token_required = False
    takes_idempotency_key = False

    @property
    def owner(self) -> Owner:
        """Whose basket a refusal shows: that of a guest who has none."""
        return guests.new_guest(partner_id=self.caller.partner_id)

    @operations.create_guest
    def create(self, request: Request) -> HttpResponse:
        """Create a guest with a basket and a token."""
        counts: dict[str, int] = cast("dict[str, int]", self.read(CreateGuestRequest)["products"])
        if brought := self.query("jayToken"):
            return self._take_over(brought, counts)
        actor = self.actor

        with self.client_limits() as limits:

            def create() -> dict[str, Any]:
                owner = guests.new_guest(partner_id=self.caller.partner_id)
                contents = guests.create_guest_basket(owner=owner, counts=counts, limits=limits, actor=actor)
                token = guest_tokens.issue_guest_token(owner=owner, at=contents.at)
                return render_guest(user_id=owner.user_id, token=token, contents=contents)

            # The answer is a secret, so it is stored for no Idempotency-Key.
            return json_response(success_body(runner.run(create)))

    def _take_over(self, brought: list[str], counts: Mapping[str, int]) -> HttpResponse:
        """Give access to the basket that another device has offered."""
        if counts:
            raise invalid({"products": "Must not be there with a jayToken: the basket has its own."})
        if len(brought) > 1:
            raise invalid({"jayToken": "Must be given once."})
        actor = self.actor

        try:
            with self.client_limits() as limits:

                def take() -> dict[str, Any]:
                    taken = transfers.redeem_transfer(partner_id=self.caller.partner_id, token=brought[0], limits=limits, actor=actor)
                    token = guest_tokens.issue_guest_token(owner=taken.owner, transferred=True, at=taken.contents.at)
                    return render_guest(user_id=taken.owner.user_id, token=token, contents=taken.contents)

                return json_response(success_body(runner.run(take)))
        except TransferNotFound:
            raise invalid({"jayToken": "Is unknown, used, or past its minute."}) from None


class KeyViewSet(ApiViewSet):
    """Our public keys, for everybody."""

    key_required = False

    @operations.get_keys
    def show(self, request: Request) -> HttpResponse:
        """Show the public keys with which the tokens of guests are checked."""
        self.read()
        return json_response(
            encode_json({"keys": read_with_reconnect(signing_keys.public_keys)}), headers={"Cache-Control": KEYS_ARE_GOOD_FOR}
        )
