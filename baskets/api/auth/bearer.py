"""Checks the `Authorization: Bearer` header. The rules of verification are in `baskets.domain.access.bearer_tokens`."""

from django.http import HttpRequest

from baskets.api.auth.api_keys import Caller
from baskets.api.exceptions import ApiError
from baskets.domain.access import bearer_tokens
from baskets.domain.access.bearer_tokens import BearerUser
from baskets.domain.access.jwks_cache import KeysUnavailable

MISSING_CHALLENGE = 'Bearer realm="baskets"'
INVALID_CHALLENGE = 'Bearer realm="baskets", error="invalid_token"'


def check_token(request: HttpRequest, *, caller: Caller, user_id: str | None, required_of_apps: bool) -> BearerUser | None:
    """Check the bearer token of a request. A token that is sent is checked, whatever the kind of the key.

    :param user_id: the user whom the token must name; None where the address names no user.
    :param required_of_apps: whether a client key needs a token for the call.
    :returns: the user whom the token names; None if none was sent.
    :raises ApiError: `token_missing`, `token_invalid`, `token_expired`, `token_user_mismatch`, `token_keys_unavailable`.
    """
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return _verify(token.strip(), caller=caller, user_id=user_id)
    if required_of_apps and caller.is_client_key:
        raise ApiError("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})
    return None


def _verify(token: str, *, caller: Caller, user_id: str | None) -> BearerUser:
    try:
        user = bearer_tokens.verify(token=token, partner_id=caller.partner_id)
    except bearer_tokens.TokenExpired:
        raise _error("token_expired") from None
    except KeysUnavailable as unavailable:
        raise ApiError("token_keys_unavailable", headers={"Retry-After": str(unavailable.seconds)}) from None
    except bearer_tokens.TokenInvalid:
        raise _error("token_invalid") from None
    if user_id is not None and user.user_id != user_id:
        raise _error("token_user_mismatch")
    return user


def _error(reason: str) -> ApiError:
    return ApiError(reason, headers={"WWW-Authenticate": INVALID_CHALLENGE})
