"""The WSGI application that a process server loads."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")

NOWHERE = "//"
DRAINED_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 64 * 1024


def refusing_broken_paths(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
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


def reading_to_the_end(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Read what the application left of a body, and throw it away.

    A client that is still sending when it is refused would see a cut connection and not the answer. Bounded: beyond
    that, cutting the connection is the answer.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = application(environ, start_response)
        left = DRAINED_BYTES
        while left > 0 and (piece := environ["wsgi.input"].read(PIECE_BYTES)):
            left -= len(piece)
        return answer

    return serve


application = reading_to_the_end(refusing_broken_paths(get_wsgi_application()))
