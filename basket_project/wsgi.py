"""The WSGI application, with a wrapper that cleans a request before Django parses it. Contains no rule about baskets."""

import gc
import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")

Application = Callable[..., Iterable[bytes]]

UNROUTABLE_PATH = "//"
ADMIN = "/admin/"


def clean_requests(application: Application) -> Application:
    """Clean what Django would misread, before it parses a request.

    - A path that is not UTF-8 is routed to a URL that does not exist. Django would percent-encode the invalid bytes again, and so
      give one user id a second spelling. A middleware cannot repair that, because it no longer sees the bytes.
    - A media type that Django cannot parse is removed: it would raise before any error handler is active.
    - Cookies outside of the admin are removed: only the admin reads them, and parsing them can be expensive.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
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
        return application(environ, start_response)

    return serve


def preload() -> None:
    """Load the program before the first request, and exempt it from garbage collection.

    With the default thresholds the collector takes 5% of a request's time, and a full collection stops the process for 100 ms.
    A refused request leaves some fifty objects in cycles, so the thresholds must not be much higher either.
    """
    get_resolver().url_patterns  # noqa: B018 (reading the property loads them)
    from baskets.api.schema.document import openapi_document  # noqa: PLC0415 (needs the settings and the views)

    openapi_document()
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)


application = clean_requests(get_wsgi_application())
preload()
