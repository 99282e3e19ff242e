"""Which calls are throttled, and how that is answered. The counting itself is in `baskets.domain.access.rate_limits`."""

from datetime import timedelta
from uuid import UUID

from django.http import HttpRequest

from baskets import conf
from baskets.api.auth.api_keys import Caller
from baskets.api.exceptions import ApiError
from baskets.api.idempotency import key_of
from baskets.domain import idempotency
from baskets.domain.access import rate_limits
from baskets.net.client_address import client_source

MINUTE = timedelta(minutes=1)
# What a guess is answered. An expired token is none, nor is one of another user: an app must learn of those at once.
GUESSES = frozenset({"api_key_invalid", "token_invalid"})


def limit_of(caller: Caller) -> int:
    """How many calls a key may make within a minute; 0 is no limit."""
    return conf.calls_per_minute() if caller.calls_per_minute is None else caller.calls_per_minute


def take_turn(request: HttpRequest, *, caller: Caller, basket_id: UUID | None) -> None:
    """Count a call against the limit of its key, where it has one.

    A repeat whose answer is remembered is not counted: it does nothing, and its caller needs the answer. It is looked
    for without a lock, so one that arrives while the first is still under way counts.

    :param basket_id: the basket to which an Idempotency-Key of this call belongs; None where it has no say.
    :raises ApiError: throttled.
    """
    limit = limit_of(caller)
    if not limit:
        return
    key = key_of(request)
    if basket_id is not None and key is not None and idempotency.is_remembered(basket_id=basket_id, key=key):
        return
    seconds = rate_limits.hit(subject=rate_limits.key_subject(caller.prefix), limit=limit, window=MINUTE)
    if seconds is not None:
        raise throttled(seconds)


def slowed_down(request: HttpRequest, refusal: ApiError, *, never: bool) -> ApiError:
    """Count a failed attempt to get in against its source, and return how it is answered: beyond the limit, to wait.

    Only failures come here, so a good key gets in however many bad ones are sent from the same address.

    :param never: whether this call is answered with its refusal all the same; it counts nevertheless.
    """
    limit = conf.failures_per_minute()
    if not limit or refusal.reason not in GUESSES:
        return refusal
    seconds = rate_limits.hit(subject=rate_limits.anonymous_subject("source", client_source(request)), limit=limit, window=MINUTE)
    return refusal if never or seconds is None else throttled(seconds)


def throttled(seconds: int) -> ApiError:
    """Tell a caller to wait."""
    return ApiError("throttled", headers={"Retry-After": str(seconds)})
