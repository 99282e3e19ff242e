"""The bearer token of a user: the one door where tokens are let in. Which ones are good is decided in the domain."""

from django.http import HttpRequest

from baskets.api.auth.api_keys import Caller
from baskets.api.exceptions import ApiError
from baskets.domain.access import bearer_tokens
from baskets.domain.access.bearer_tokens import BearerUser
from baskets.domain.access.jwks_cache import KeysUnavailable

MISSING_CHALLENGE = 'Bearer realm="baskets"'
INVALID_CHALLENGE = 'Bearer realm="baskets", error="invalid_token"'


def check_token(request: HttpRequest, *, caller: Caller, user_id: str | None, required_of_apps: bool) -> BearerUser | None:
    """Let a call pass only if its token is good, or if it needs none; return whom the token names.

    A token that is sent is checked, whatever the key; a key inside an app needs one wherever a user's basket is meant.

    :param user_id: the user the token must belong to; None where no user is addressed.
    :param required_of_apps: whether a client key needs a token for this call.
    :raises ApiError: token_missing, token_invalid, token_expired, token_user_mismatch, token_keys_unavailable.
    """
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return _verified(token.strip(), caller=caller, user_id=user_id)
    if required_of_apps and caller.in_an_app:
        raise ApiError("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})
    return None


def require_known_user(bearer: BearerUser | None) -> None:
    """Let a call pass only with the token of a user whom the partner itself has signed for.

    :raises ApiError: token_missing, guest_not_allowed.
    """
    if bearer is None:
        raise ApiError("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})
    if bearer.guest:
        raise ApiError("guest_not_allowed")


def _verified(token: str, *, caller: Caller, user_id: str | None) -> BearerUser:
    try:
        user = bearer_tokens.verify(token=token, partner_id=caller.partner_id)
    except bearer_tokens.TokenExpired:
        raise _refused("token_expired") from None
    except KeysUnavailable as unavailable:
        raise ApiError("token_keys_unavailable", headers={"Retry-After": str(unavailable.seconds)}) from None
    except bearer_tokens.TokenInvalid:
        raise _refused("token_invalid") from None
    if user_id is not None and user.user_id != user_id:
        raise _refused("token_user_mismatch")
    return user


def _refused(reason: str) -> ApiError:
    return ApiError(reason, headers={"WWW-Authenticate": INVALID_CHALLENGE})
