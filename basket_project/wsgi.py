"""The WSGI application that a process server loads, and what must happen to a request before Django sees it.

Each function wraps the application; none knows anything of baskets.
"""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")

Application = Callable[..., Iterable[bytes]]

NOWHERE = "//"
# What fits into the buffers on the way needs nobody to read it; what is longer than this is cut off on purpose.
BUFFERED_BYTES = 64 * 1024
DRAINED_BYTES = 16 * 1024 * 1024
DRAIN_SECONDS = 2.0


def refusing_broken_paths(application: Application) -> Application:
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
                environ["PATH_INFO"] = NOWHERE
        return application(environ, start_response)

    return serve


def forgetting_broken_media_types(application: Application) -> Application:
    """Take away a media type that Django cannot parse: it would fail before any handler of ours is there to answer."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "*" in environ.get("CONTENT_TYPE", ""):  # Only the encoded parameters of RFC 2231 can go wrong.
            try:
                parse_header_parameters(environ["CONTENT_TYPE"])
            except ValueError:
                environ["CONTENT_TYPE"] = ""
        return application(environ, start_response)

    return serve


def reading_to_the_end(application: Application) -> Application:
    """Read what the application left of a long body, and throw it away, for a moment at most.

    A client that is still sending when it is refused would see a cut connection and not the answer. One that asked
    whether to send has not begun: reading would tell it to.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = application(environ, start_response)
        declared = "0" if environ.get("HTTP_EXPECT") else environ.get("CONTENT_LENGTH") or "0"
        if declared.isdecimal() and BUFFERED_BYTES < int(declared[:20]) <= DRAINED_BYTES:
            # A thread of its own, because a client that announces more than it sends would hold this one for ever. It
            # ends with the connection.
            reader = threading.Thread(target=_drain, args=(environ["wsgi.input"],), daemon=True)
            reader.start()
            reader.join(DRAIN_SECONDS)
        return answer

    return serve


def _drain(stream: Any) -> None:
    while stream.read(BUFFERED_BYTES):
        pass


application = reading_to_the_end(refusing_broken_paths(forgetting_broken_media_types(get_wsgi_application())))
