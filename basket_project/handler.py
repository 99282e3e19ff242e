"""The WSGI handler of the service. Contains no rule about baskets."""

from collections.abc import Callable
from typing import Any

from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http.response import HttpResponseBase
from django.utils.http import parse_header_parameters

from baskets.api.protocol.envelope import header_fields
from baskets.db.backend.base import thread_connection

UNROUTABLE_PATH = "//"
UNKNOWN_METHOD = "UNKNOWN"
ADMIN = "/admin/"


class Handler(WSGIHandler):
    """Django's handler, without what this service does not use, and with requests that Django cannot misread.

    It has no cache, no script prefix, one URL configuration, and one database for each thread. So it sends no signal when a request
    begins, and disconnects Django's receivers of its end, except that the thread's connection is checked after each request.
    """

    def __init__(self) -> None:
        super().__init__()
        for receiver in (close_caches, close_old_connections, reset_urlconf):
            request_finished.disconnect(receiver)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> HttpResponseBase:
        """Answer one request."""
        _clean(environ)
        request = WSGIRequest(environ)
        response: HttpResponseBase = self._middleware_chain(request)  # type: ignore[attr-defined] # The stubs do not know it.
        response._resource_closers += (request.close, thread_connection().close_if_unusable_or_obsolete)  # type: ignore[attr-defined]  # noqa: SLF001 (as Django does)
        cookies = (("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values())
        start_response(f"{response.status_code} {response.reason_phrase}", [*header_fields(response), *cookies])
        return response


def _clean(environ: dict[str, Any]) -> None:
    """Clean what Django would misread, before it parses a request.

    - A method with small letters becomes an unknown one: methods are case-sensitive (RFC 9110, 9.1), and Django reads `get` as GET.
    - A path that is not UTF-8 is routed to a URL that does not exist. Django would percent-encode the invalid bytes again, and so
      give one user id a second spelling. A middleware cannot repair that, because it no longer sees the bytes.
    - A media type that Django cannot parse is removed: it would raise before any error handler is active.
    - Cookies outside of the admin are removed: only the admin reads them, and parsing them can be expensive.
    """
    if not environ["REQUEST_METHOD"].isupper():
        environ["REQUEST_METHOD"] = UNKNOWN_METHOD
    path = environ.get("PATH_INFO", "")
    if not path.startswith(ADMIN):
        environ.pop("HTTP_COOKIE", None)
    if not path.isascii():
        try:
            path.encode("latin-1").decode("utf-8")
        except UnicodeError:
            environ["PATH_INFO"] = UNROUTABLE_PATH
    if "*" in environ.get("CONTENT_TYPE", ""):  # Only the encoded parameters of RFC 2231 can fail.
        try:
            parse_header_parameters(environ["CONTENT_TYPE"])
        except ValueError:
            environ["CONTENT_TYPE"] = ""
