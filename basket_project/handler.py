"""The WSGI handler of the service. Contains no rule about baskets."""

from collections.abc import Callable
from typing import Any

from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.handlers.wsgi import LimitedStream, WSGIHandler, WSGIRequest
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
        request = Request(environ)
        response: HttpResponseBase = self._middleware_chain(request)  # type: ignore[attr-defined] # The stubs do not know it.
        response._resource_closers += (request.close, thread_connection().close_if_unusable_or_obsolete)  # type: ignore[attr-defined]  # noqa: SLF001 (as Django does)
        cookies = (("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values())
        start_response(f"{response.status_code} {response.reason_phrase}", [*header_fields(response), *cookies])
        return response


class Request(WSGIRequest):
    """Django's request, without a script prefix, in six tenths of the instructions. It cleans what Django would misread.

    - A method with small letters becomes an unknown one: methods are case-sensitive (RFC 9110, 9.1), and Django reads `get` as GET.
    - A path that is not UTF-8 is routed to a URL that does not exist. Django would percent-encode the invalid bytes again, and so
      give one user id a second spelling. A middleware cannot repair that, because it no longer sees the bytes.
    - A media type that Django cannot parse is removed: it would raise before any error handler is active.
    - Cookies outside of the admin are removed: only the admin reads them, and parsing them can be expensive.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        if not environ["REQUEST_METHOD"].isupper():
            environ["REQUEST_METHOD"] = UNKNOWN_METHOD
        path = environ.get("PATH_INFO") or "/"
        if not path.isascii():
            try:
                path = path.encode("latin-1").decode("utf-8")
            except UnicodeError:
                path = UNROUTABLE_PATH
        environ["PATH_INFO"], environ["SCRIPT_NAME"] = path, ""
        if not path.startswith(ADMIN):
            environ.pop("HTTP_COOKIE", None)
        if "*" in environ.get("CONTENT_TYPE", ""):  # Only the encoded parameters of RFC 2231 can fail.
            try:
                parse_header_parameters(environ["CONTENT_TYPE"])
            except ValueError:
                environ["CONTENT_TYPE"] = ""
        self.environ = self.META = environ
        self.path = self.path_info = path
        self.method = environ["REQUEST_METHOD"]
        self._set_content_type_params(environ)  # type: ignore[attr-defined] # The stubs do not know it.
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        self._stream = LimitedStream(environ["wsgi.input"], length)  # type: ignore[assignment] # As Django does.
        self._read_started = False
        self.resolver_match = None
