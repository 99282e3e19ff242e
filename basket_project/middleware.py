"""Restricts Django's middleware for pages to the paths that need it: an API call has no session, no staff user and no messages.

Subclasses instead of wrappers, because Django's system checks look for the original classes.
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
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.gzip import GZipMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import ResolverMatch, URLResolver, get_resolver
from django.utils import timezone, translation
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.deprecation import MiddlewareMixin

from baskets.admin.core.error_pages import render_error
from baskets.admin.core.languages import load_catalogs
from baskets.api.exceptions import response_for_exception
from baskets.api.protocol.envelope import add_missing_headers

ADMIN = "/admin/"
PAGES = (ADMIN, "/docs", "/redoc")
# Static files and the admin are elsewhere.
CALLS = ("/baskets", "/v2/")
# Pages that show a secret more than once: the second factor at its set-up, and the sessions of an account.
SECRET_PAGES = ("/admin/login/", "/admin/account/", "/admin/password_change/")


class PathScopedMiddleware(MiddlewareMixin):
    """Applies a middleware to paths with certain prefixes only."""

    path_prefixes: str | tuple[str, ...] = ADMIN

    def __call__(self, request: HttpRequest) -> Any:
        """Handle one request, with or without the middleware."""
        return self.handle(request) if request.path_info.startswith(self.path_prefixes) else self.get_response(request)

    def handle(self, request: HttpRequest) -> Any:
        """Handle one request with the middleware."""
        return super().__call__(request)


class CallDispatch:
    """Runs the view of a call of the API. All middleware behind this one concerns pages and files only.

    The call still gets the headers that this middleware would add.
    """

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        response = HttpResponse()
        for middleware in (SecurityMiddleware, XFrameOptionsMiddleware):
            middleware(lambda _: response)(HttpRequest())
        del response.headers["Content-Type"]
        self._headers = response.headers
        self._resolver = get_resolver("baskets.api.urls")
        self._patterns = [
            (one.pattern.regex.search, one, str(one.pattern) if isinstance(one, URLResolver) else "") for one in self._resolver.url_patterns
        ]

    def __call__(self, request: HttpRequest) -> Any:
        """Handle one request."""
        if not request.path_info.startswith(CALLS):
            return self.get_response(request)
        try:
            match = request.resolver_match = self._resolve(request.path_info)
            response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        except Exception as error:  # noqa: BLE001 (every exception has a response)
            response = response_for_exception(error)
        add_missing_headers(response, self._headers)
        return response

    def _resolve(self, path: str) -> ResolverMatch:
        """Resolve a path as the root resolver does, without what that records for its page of tried patterns.

        :raises Resolver404: no pattern matches.
        """
        below_root = path[1:]
        for is_possible, pattern, prefix in self._patterns:  # Only what can match is worth the calls of `resolve`.
            if is_possible(below_root) and (match := pattern.resolve(below_root)):
                match.route = prefix + match.route
                return match
        return self._resolver.resolve(path)


class AdminDatabase(PathScopedMiddleware):
    """Ensures a working database connection: pages are not retried, so the persistent connection is checked before each."""

    def process_request(self, request: HttpRequest) -> None:
        """Close a broken connection; the first statement opens a new one."""
        if connection.connection is not None and not connection.is_usable():
            connection.close()


class AdminBodies(PathScopedMiddleware):
    """Refuses oversized forms before they are read: no page accepts large files, and the sign-in form is public."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return 413 for a form above the limit."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if length.isdecimal() and int(length[:20]) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return None
        return HttpResponse(render_error(request, 413), status=413)


class AdminCaching(PathScopedMiddleware):
    """Forbids caches to store pages, even those that Django permits."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Add the header unless the view has set one."""
        if not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        return response


class AdminLanguage(PathScopedMiddleware):
    """Shows pages in the language that the user has chosen, else in the first one that the browser asks for and that exists.

    Django's own middleware leaves the language of a request to the thread. A thread serves the API as well, so here the language ends
    with the request.
    """

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        load_catalogs()

    def handle(self, request: HttpRequest) -> Any:
        """Handle one request in its language."""
        language = translation.get_language_from_request(request)
        with translation.override(language):
            request.LANGUAGE_CODE = language
            response: Any = self.get_response(request)
        response.headers.setdefault("Content-Language", language)
        patch_vary_headers(response, ("Accept-Language",))
        return response


class AdminTimeZone(PathScopedMiddleware):
    """Shows times in the time zone that the browser sends in a cookie, or in UTC."""

    def handle(self, request: HttpRequest) -> Any:
        """Handle one request in its time zone; the thread's zone is restored afterwards."""
        with timezone.override(request_time_zone(request)):
            return self.get_response(request)


def request_time_zone(request: HttpRequest) -> tzinfo:
    """Return the time zone from the cookie if it exists, else UTC. The cookie is untrusted input."""
    name = unquote(request.COOKIES.get("desk_zone", ""))
    return ZoneInfo(name) if name in _zones() else UTC


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


class AdminSession(PathScopedMiddleware, SessionMiddleware):
    """Staff sessions."""


class AdminAuthentication(PathScopedMiddleware, AuthenticationMiddleware):
    """The signed-in member of staff."""


class AdminMessages(PathScopedMiddleware, MessageMiddleware):
    """Messages shown to staff after an action."""


class PagesPolicy(PathScopedMiddleware, CSPMiddleware):
    """The content security policy of all pages."""

    path_prefixes = PAGES


class PagesCompression(PathScopedMiddleware, GZipMiddleware):
    """Compresses pages, except responses that contain a secret beside input of the caller (BREACH).

    A response to a form stays uncompressed: new keys, secrets and recovery codes are shown by no other. On the pages that are
    compressed, Django masks the form's token differently each time, and adds random bytes to the length.
    """

    path_prefixes = PAGES

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Compress the response if nothing in it is secret."""
        if request.method not in ("GET", "HEAD") or request.path_info.startswith(SECRET_PAGES):
            return response
        compressed: HttpResponseBase = super().process_response(request, response)
        return compressed
