"""DRF permissions: which key and which bearer token a call needs. A permission raises its own refusal.

Note [Refusals of permissions]
DRF would answer a permission that returns False with one reason for all. These raise an `ApiError` instead, so that partners
learn what is missing.
"""

from typing import cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from baskets import conf
from baskets.api.auth.api_keys import Caller
from baskets.api.auth.bearer import MISSING_CHALLENGE, check_token
from baskets.api.exceptions import ApiError
from baskets.domain.access.bearer_tokens import BearerUser


def _caller(request: Request) -> Caller:
    caller: Caller = request.user  # type: ignore[assignment] # The views of people are elsewhere.
    return caller


def _user(request: Request) -> BearerUser | None:
    """Return the user whom the bearer token names."""
    return cast("BearerUser | None", request.auth)


class BearerTokenIfSent(BasePermission):
    """A bearer token is optional, but one that is sent must be valid, and belong to the user of the address."""

    required_of_client_keys = False

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Check the token; the user whom it names becomes `request.auth`.

        :raises ApiError: `token_missing`, `token_invalid`, `token_expired`, `token_user_mismatch`, `token_keys_unavailable`.
        """
        user_id = view.kwargs.get("user_id")
        request.auth = check_token(request, caller=_caller(request), user_id=user_id, required_of_apps=self.required_of_client_keys)
        return True


class BearerTokenOfClientKeys(BearerTokenIfSent):
    """A client key needs the bearer token of the user."""

    required_of_client_keys = True


class ServerKeyRequired(BasePermission):
    """The call is for back ends: no token opens it to a client key."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Check the kind of the key.

        :raises ApiError: `server_key_required`.
        """
        del view
        if _caller(request).is_client_key:
            raise ApiError("server_key_required")
        return True


class PartnerUserRequired(BasePermission):
    """The call is for users whom the partner itself knows: it needs a token of the partner's issuers, with every kind of key."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Check whose token it is.

        :raises ApiError: `token_missing`, `guest_not_allowed`.
        """
        del view
        user = _user(request)
        if user is None:
            raise ApiError("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})
        if user.guest:
            raise ApiError("guest_not_allowed")
        return True


class TransferAllowed(BasePermission):
    """A device that received its basket in a transfer may not pass it on, unless the operator permits that."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Check whether the token was issued in a transfer.

        :raises ApiError: `transfer_not_allowed`.
        """
        del view
        user = _user(request)
        if user and user.transferred and not conf.transferred_guests_may_transfer():
            raise ApiError("transfer_not_allowed")
        return True
