"""Calls from pages of other origins: which origins a browser is told may read our answers. The headers are the library's.

A preflight carries no key, so it is answered for the origins of all partners; the answer itself is for the origins of the
partner whose key was sent. Neither lets anybody in: that is the business of keys and tokens.
"""

import re
import time
from dataclasses import dataclass

import structlog
from corsheaders.middleware import CorsMiddleware
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from baskets.api.auth.api_keys import Caller
from baskets.db.errors import fault_of, reading
from baskets.models import Partner

log = structlog.get_logger("baskets.api")

API_PATHS = re.compile(r"/(?:v2/)?baskets(?:/|$)")
# How long a process goes by what it last read of the partners' origins.
CACHE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class PartnerOrigins:
    """The origins of all partners that have any, and when they were read."""

    by_partner: dict[int, frozenset[str]]
    read_at: float


class OriginCache:
    """What this process knows of the partners' origins."""

    origins: PartnerOrigins | None = None


class PartnerCorsMiddleware(CorsMiddleware):
    """CORS for the calls of the API, and for nothing else the service has."""

    def check_preflight(self, request: HttpRequest) -> HttpResponseBase | None:
        """Answer a preflight before anything else about it is looked at."""
        if super().check_preflight(request) is None or "HTTP_ORIGIN" not in request.META:
            return None
        response = HttpResponse(status=204)
        del response.headers["Content-Type"]
        return response

    def is_enabled(self, request: HttpRequest) -> bool:
        """Tell whether an address is one of the API's calls."""
        return API_PATHS.match(request.path_info) is not None

    def add_response_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Say who may read an answer. A call that no page has made needs only the word that one would be answered otherwise."""
        if "HTTP_ORIGIN" in request.META or response.has_header("Vary"):
            return super().add_response_headers(request, response)
        if self.is_enabled(request):
            response.headers["Vary"] = "origin"
        return response

    def check_signal(self, request: HttpRequest) -> bool:
        """Tell whether a partner has allowed the origin. The library asks this where the deployment has not."""
        origin = request.META["HTTP_ORIGIN"]
        allowed = origins_by_partner()
        caller = getattr(request, "user", None)
        if isinstance(caller, Caller):
            return origin in allowed.get(caller.partner_id, ())
        # A preflight, or a call that failed before its key was known: the page should be able to read why.
        return any(origin in origins for origins in allowed.values())


def origins_by_partner() -> dict[int, frozenset[str]]:
    """Read which origins each partner allows, at most once in a while.

    Where the database cannot be asked, what was last read holds: a call that fails should be readable as what it is.
    """
    known = OriginCache.origins
    if known is not None and time.monotonic() - known.read_at < CACHE_SECONDS:
        return known.by_partner
    try:
        rows = reading(lambda: list(Partner.objects.exclude(origins=[]).values_list("pk", "origins")))
    except DatabaseError as error:
        log.warning("origins_failed", fault=fault_of(error).name, error=type(error).__qualname__)
        return {} if known is None else known.by_partner
    OriginCache.origins = PartnerOrigins(by_partner={pk: frozenset(origins) for pk, origins in rows}, read_at=time.monotonic())
    return OriginCache.origins.by_partner
