"""Decides which calls count against a rate limit. The counting itself is in `baskets.domain.access.rate_limits`."""

from datetime import timedelta
from typing import Protocol

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from baskets import conf
from baskets.api.auth.api_keys import Caller
from baskets.api.exceptions import ApiError
from baskets.api.idempotency import key_of
from baskets.api.protocol.metrics import AUTHENTICATION_FAILURES
from baskets.domain import idempotency
from baskets.domain.access import rate_limits
from baskets.models.basket_snapshot import Owner
from baskets.net.client_address import client_source

MINUTE = timedelta(minutes=1)
# The failures of a caller who guesses. An expired token and a token of another user do not count: an app must learn of those at once.
THROTTLED_FAILURES = frozenset({"api_key_invalid", "token_invalid"})
# How the reasons of failed authentications begin.
FAILURE_PREFIXES = ("api_key_", "token_")


def rate_limit_of(caller: Caller) -> int:
    """Return how many calls a key may make within a minute; 0 means no limit."""
    return conf.calls_per_minute() if caller.calls_per_minute is None else caller.calls_per_minute


class ThrottledView(Protocol):
    """What the throttle needs to know about a viewset.

    :param never_throttled: the actions that do not count.
    :param takes_idempotency_key: whether responses of its actions are stored.
    """

    action: str
    kwargs: dict[str, str]
    takes_idempotency_key: bool
    never_throttled: frozenset[str]

    @property
    def owner(self) -> Owner:
        """The user whose basket the address names."""


class ApiKeyThrottle(BaseThrottle):
    """Counts a call against the limit of its key.

    A repeat whose response is stored does not count: it has no effect, and its caller needs the response. The stored response
    is looked up without a lock, so a repeat that arrives during the first call counts.
    """

    _seconds: int | None = None

    def allow_request(self, request: Request, view: ThrottledView) -> bool:  # type: ignore[override]
        """Count the call, and return whether it is within the limit."""
        caller = request.user
        if not isinstance(caller, Caller) or view.action in view.never_throttled or not (limit := rate_limit_of(caller)):
            return True
        is_stored = view.takes_idempotency_key and request.method not in {"GET", "HEAD"} and "user_id" in view.kwargs
        if is_stored and (key := key_of(request)) is not None:
            basket_id = view.owner.basket_id
            if idempotency.is_remembered(basket_id=basket_id, key=key):
                return True
        self._seconds = rate_limits.hit(subject=rate_limits.key_subject(caller.prefix), limit=limit, window=MINUTE)
        return self._seconds is None

    def wait(self) -> float | None:
        """Return the seconds until the next call is within the limit."""
        return self._seconds


def throttle_failure(request: HttpRequest, refusal: ApiError, *, exempt: bool) -> ApiError:
    """Count a failed authentication in the metrics and against its source.

    Only failures count, so a valid key is accepted however many invalid ones arrive from the same address.

    :param refusal: any refusal; one of another kind is returned unchanged.
    :param exempt: whether the call is answered with its own refusal even beyond the limit.
    :returns: the refusal to answer with: `throttled` beyond the limit.
    """
    if refusal.reason.startswith(FAILURE_PREFIXES):
        AUTHENTICATION_FAILURES.labels(refusal.reason).inc()
    limit = conf.failures_per_minute()
    if not limit or refusal.reason not in THROTTLED_FAILURES:
        return refusal
    seconds = rate_limits.hit(subject=rate_limits.anonymous_subject("source", client_source(request)), limit=limit, window=MINUTE)
    return refusal if exempt or seconds is None else ApiError("throttled", headers={"Retry-After": str(seconds)})
