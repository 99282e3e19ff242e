"""Django's middleware for pages, kept away from the API: a call has no session, no staff and no message.

Subclasses and not wrappers, because Django's system checks look for the original classes.
"""

import functools
from datetime import UTC, tzinfo
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo, available_timezones

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.deprecation import MiddlewareMixin

ADMIN = "/admin/"
PAGES = (ADMIN, "/docs", "/redoc")


class PathScopedMiddleware(MiddlewareMixin):
    """Lets a middleware work for some addresses, and passes all others on untouched."""

    addresses: str | tuple[str, ...] = ADMIN

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request, with or without the middleware."""
        return super().__call__(request) if request.path_info.startswith(self.addresses) else self.get_response(request)


class AdminDatabase(PathScopedMiddleware):
    """A living connection for a page: it has no second try, so it asks first whether the kept one has died."""

    def process_request(self, request: HttpRequest) -> None:
        """Drop a dead connection; the first statement opens a new one."""
        if connection.connection is not None and not connection.is_usable():
            connection.close()


class AdminBodies(PathScopedMiddleware):
    """Refuses a form of absurd size before it is read: no page has a file to take, and anybody may send one to the login."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Refuse, or let pass."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if length.isdecimal() and int(length[:20]) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return None
        return HttpResponse("This form is too large.", status=413, content_type="text/plain")


class AdminCaching(PathScopedMiddleware):
    """Lets nobody on the way keep a page, those included that Django would allow to be kept."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Say so, where nothing has been said yet."""
        if not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        return response


class AdminTimeZone(PathScopedMiddleware):
    """Shows times in the zone that the browser of a member of staff names, and in UTC where it names none that there is."""

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request in its zone, and leave the thread as it was."""
        if not request.path_info.startswith(self.addresses):
            return self.get_response(request)
        with timezone.override(request_time_zone(request)):
            return self.get_response(request)


def request_time_zone(request: HttpRequest) -> tzinfo:
    """The zone a browser names, if it is one that there is: the name is a stranger's word."""
    name = unquote(request.COOKIES.get("desk_zone", ""))
    return ZoneInfo(name) if name in _zones() else UTC


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


class AdminSession(PathScopedMiddleware, SessionMiddleware):
    """Sessions of staff."""


class AdminAuthentication(PathScopedMiddleware, AuthenticationMiddleware):
    """Staff, by their session."""


class AdminMessages(PathScopedMiddleware, MessageMiddleware):
    """What a page tells staff after an action."""


class PagesPolicy(PathScopedMiddleware, CSPMiddleware):
    """The content security policy of everything a browser shows."""

    addresses = PAGES
