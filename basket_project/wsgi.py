"""The WSGI application that a process server loads, and what must happen to a request before Django sees it.

Each function wraps the application; none knows anything of baskets.
"""

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


def reject_broken_paths(application: Application) -> Application:
    """Send a path that is not UTF-8 to an address that does not exist.

    Django would percent-encode the broken bytes again, and so give the same user id a second spelling; by the time a
    middleware sees the path, the bytes are gone.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.isascii():
            try:
                path.encode("latin-1").decode("utf-8")
            except UnicodeError:
                environ["PATH_INFO"] = UNROUTABLE_PATH
        return application(environ, start_response)

    return serve


def drop_broken_media_types(application: Application) -> Application:
    """Take away a media type that Django cannot parse: it would fail before any handler of ours is there to answer."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "*" in environ.get("CONTENT_TYPE", ""):  # Only the encoded parameters of RFC 2231 can go wrong.
            try:
                parse_header_parameters(environ["CONTENT_TYPE"])
            except ValueError:
                environ["CONTENT_TYPE"] = ""
        return application(environ, start_response)

    return serve


def drop_cookies(application: Application) -> Application:
    """Take away cookies where nothing reads them: only the admin has any, and reading them can be expensive."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(ADMIN):
            environ.pop("HTTP_COOKIE", None)
        return application(environ, start_response)

    return serve


def preload() -> None:
    """Load the program before the first request comes, and spare the garbage collector from looking through it.

    With the interpreter's own thresholds the collector takes a twentieth of a request's time, and stops the process for a
    tenth of a second when it looks through everything. A refused request leaves some fifty objects behind that refer to each
    other, so they are not left for long either.
    """
    get_resolver().url_patterns  # noqa: B018 (asking for them loads them)
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)


application = drop_cookies(reject_broken_paths(drop_broken_media_types(get_wsgi_application())))
preload()
