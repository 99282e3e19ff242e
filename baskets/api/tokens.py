"""The bearer token of a user: the one door where tokens are let in. It knows no issuer yet, so it lets none in."""

from django.http import HttpRequest

from baskets.api.authentication import Caller
from baskets.api.errors import ApiError

MISSING_CHALLENGE = 'Bearer realm="baskets"'
INVALID_CHALLENGE = 'Bearer realm="baskets", error="invalid_token"'


def check_token(request: HttpRequest, *, caller: Caller, user_id: str | None, required_of_apps: bool) -> None:
    """Let a call pass only if its token is good, or if it needs none.

    A token that is sent is checked, whatever the key; a key inside an app needs one wherever a user's basket is meant.

    :param user_id: the user the token must belong to; None where no user is addressed.
    :param required_of_apps: whether a client key needs a token for this call.
    :raises ApiError: token_missing, token_invalid.
    """
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        verify(token.strip(), caller=caller, user_id=user_id)
    elif required_of_apps and caller.in_an_app:
        raise ApiError("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})


def verify(token: str, *, caller: Caller, user_id: str | None) -> None:
    """Verify a token against the issuers that are trusted; there are none yet.

    :raises ApiError: token_invalid.
    """
    del token, caller, user_id
    raise ApiError("token_invalid", headers={"WWW-Authenticate": INVALID_CHALLENGE})
