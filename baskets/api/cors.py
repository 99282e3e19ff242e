"""CORS: decides which origins may read a response; `django-cors-headers` writes the headers. Grants no access: keys and tokens do.

A preflight carries no key, so it allows the origins of all partners. The response to the call itself allows only the
origins of the partner whose key was sent. See ADR 28.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

import structlog
from corsheaders.middleware import CorsMiddleware
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders

from baskets.api.auth.api_keys import Caller
from baskets.api.protocol.envelope import add_missing_headers, has_plain_header
from baskets.db.errors import fault_of, read_with_reconnect
from baskets.models import Partner

log = structlog.get_logger("baskets.api")

API_PATHS = re.compile(r"/(?:v2/)?baskets(?:/|$)")
VARY = ResponseHeaders({"Vary": "origin"})
# The time for which a process reuses the origins that it read last.
CACHE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class PartnerOrigins:
    """The origins of all partners that have any.

    :param read_at: `time.monotonic()` of the read, in seconds.
    """

    by_partner: dict[int, frozenset[str]]
    read_at: float


class OriginCache:
    """The origins that this process read last; None before the first read."""

    origins: PartnerOrigins | None = None


class PartnerCorsMiddleware(CorsMiddleware):
    """CORS for the calls of the API. Pages, health and metrics have none."""

    def __call__(self, request: HttpRequest) -> Any:
        """Handle one request. A preflight has an `Origin`."""
        if "HTTP_ORIGIN" in request.META:
            return super().__call__(request)
        response: Any = self.get_response(request)
        return self.add_response_headers(request, response)

    def check_preflight(self, request: HttpRequest) -> HttpResponseBase | None:
        """Answer a preflight before any other check, with 204 and no body."""
        if super().check_preflight(request) is None:
            return None
        response = HttpResponse(status=204)
        del response.headers["Content-Type"]
        return response

    def is_enabled(self, request: HttpRequest) -> bool:
        """Return whether an address belongs to the API."""
        return API_PATHS.match(request.path_info) is not None

    def add_response_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Add the CORS headers. A call without an `Origin` gets only `Vary`, for caches."""
        if "HTTP_ORIGIN" in request.META or has_plain_header(response, "vary"):
            return super().add_response_headers(request, response)
        if self.is_enabled(request):
            add_missing_headers(response, VARY)
        return response

    def check_signal(self, request: HttpRequest) -> bool:
        """Return whether a partner allows the origin. The library calls this for origins that the settings do not list."""
        origin = request.META["HTTP_ORIGIN"]
        allowed = origins_by_partner()
        caller = getattr(request, "user", None)
        if isinstance(caller, Caller):
            return origin in allowed.get(caller.partner_id, ())
        # A preflight, or a call that failed before its key was known: the page must be able to read the reason.
        return any(origin in origins for origins in allowed.values())


def origins_by_partner() -> dict[int, frozenset[str]]:
    """Return the allowed origins of each partner, read at most once in `CACHE_SECONDS`.

    While the database is not available, the last read counts, so that a page can read the failure of its call.

    :returns: origins by the primary key of the partner; only partners that have any.
    """
    cached = OriginCache.origins
    if cached is not None and time.monotonic() - cached.read_at < CACHE_SECONDS:
        return cached.by_partner
    try:
        rows = read_with_reconnect(lambda: list(Partner.objects.exclude(origins=[]).values_list("pk", "origins")))
    except DatabaseError as error:
        log.warning("origins_failed", fault=fault_of(error).name, error=type(error).__qualname__)
        return {} if cached is None else cached.by_partner
    OriginCache.origins = PartnerOrigins(by_partner={pk: frozenset(origins) for pk, origins in rows}, read_at=time.monotonic())
    return OriginCache.origins.by_partner
