"""The calls that guests begin with: a basket and a token, and the public keys that verify tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.auth.permissions import BearerTokenIfSent
from baskets.api.exceptions import invalid
from baskets.api.protocol.envelope import encode_json, json_response
from baskets.api.schema import operations
from baskets.api.serializers.representations import render_guest
from baskets.api.serializers.requests import CreateGuestRequest
from baskets.api.views.base import ApiViewSet
from baskets.domain.access import guest_tokens, signing_keys
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor
from baskets.domain.baskets import guests, transfers
from baskets.domain.baskets.transfers import TransferNotFound
from baskets.models.basket_snapshot import BasketSnapshot, Owner

# A verifier that meets an unknown `kid` fetches the keys again.
KEYS_CACHE_CONTROL = "public, max-age=60"


@dataclass(frozen=True, kw_only=True)
class GuestAccess:
    """A basket, and the token that gives a device access to it."""

    owner: Owner
    snapshot: BasketSnapshot
    token: guest_tokens.IssuedToken


class GuestViewSet(ApiViewSet):
    """Users whom the partner does not know, for every key."""

    permission_classes = (BearerTokenIfSent,)
    # The response is a secret.
    takes_idempotency_key = False

    @property
    def owner(self) -> Owner:
        """A new guest, who has no basket yet."""
        return guests.new_guest(partner_id=self.caller.partner_id)

    @property
    def routing_key(self) -> str | None:
        """The token of a transfer, if there is one."""
        return next(iter(self.query("jayToken")), None)

    @operations.create_guest
    def create(self, request: Request) -> HttpResponse:
        """Create a guest with a basket and a token, or redeem the transfer of another device's basket."""
        counts: Mapping[str, int] = self.validated(CreateGuestRequest)["products"]
        if tokens := self.query("jayToken"):
            return self._redeem(tokens, counts)
        guest = self.execute(_create_guest, render=_render_access, counts_for_client=True, counts=counts)
        return self.respond(guest)

    def _redeem(self, tokens: list[str], counts: Mapping[str, int]) -> HttpResponse:
        """Give access to the basket that another device has offered."""
        if counts:
            raise invalid({"products": "Must not be there with a jayToken: the basket has its own."})
        if len(tokens) > 1:
            raise invalid({"jayToken": "Must be given once."})
        try:
            guest = self.execute(_redeem_transfer, render=_render_access, counts_for_client=True, token=tokens[0])
        except TransferNotFound:
            raise invalid({"jayToken": "Is unknown, used, or past its minute."}) from None
        return self.respond(guest)


def _create_guest(*, owner: Owner, actor: Actor, counts: Mapping[str, int], limits: ClientLimits | None) -> GuestAccess:
    snapshot = guests.create_guest_basket(owner=owner, counts=counts, limits=limits, actor=actor)
    return GuestAccess(owner=owner, snapshot=snapshot, token=guest_tokens.issue_guest_token(owner=owner, at=snapshot.at))


def _redeem_transfer(*, owner: Owner, actor: Actor, token: str, limits: ClientLimits | None) -> GuestAccess:
    redeemed = transfers.redeem_transfer(partner_id=owner.partner_id, token=token, limits=limits, actor=actor)
    issued = guest_tokens.issue_guest_token(owner=redeemed.owner, transferred=True, at=redeemed.snapshot.at)
    return GuestAccess(owner=redeemed.owner, snapshot=redeemed.snapshot, token=issued)


def _render_access(access: GuestAccess) -> dict[str, Any]:
    return render_guest(user_id=access.owner.user_id, token=access.token, snapshot=access.snapshot)


class KeyViewSet(ApiViewSet):
    """The public keys of the service, without authentication."""

    authentication_classes = ()
    permission_classes = ()

    @operations.get_keys
    def show(self, request: Request) -> HttpResponse:
        """Return the public keys that verify the tokens of guests."""
        self.validated()
        keys = self.read(signing_keys.public_keys)
        return json_response(encode_json({"keys": keys}), headers={"Cache-Control": KEYS_CACHE_CONTROL})
