"""The WSGI application that a process server loads, and what must happen to a request before Django sees it.

Each function wraps the application; none knows anything of baskets.
"""

import gc
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")

Application = Callable[..., Iterable[bytes]]

NOWHERE = "//"
# What fits into the buffers on the way needs nobody to read it; what is longer than this is cut off on purpose.
BUFFERED_BYTES = 64 * 1024
DRAINED_BYTES = 16 * 1024 * 1024
_draining = threading.Lock()


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
    """Read what the application left of a long body that it refused, and throw it away.

    A client that is still sending when it is refused would see a cut connection and not the answer. One that asked
    whether to send has not begun: reading would tell it to.

    # Note [Waiting for a body]
    # A read waits until the client has sent what is read, and a client may send nothing more. So nothing is read for a
    # caller who is not known, and only one request of a process is read to its end at a time: whoever has a key and
    # wants to do harm holds one thread with it. It is not read by another thread that could be given up after a while:
    # the process server answers nobody any more while such a read waits beside an answer that was sent.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = application(environ, start_response)
        declared = "0" if environ.get("HTTP_EXPECT") else environ.get("CONTENT_LENGTH") or "0"
        # These two come after the key was looked at; who has none is cut off.
        refused_late = getattr(answer, "status_code", 0) in {413, 415} and "HTTP_X_API_KEY" in environ
        long = declared.isdecimal() and BUFFERED_BYTES < int(declared[:20]) <= DRAINED_BYTES
        if refused_late and long and _draining.acquire(blocking=False):
            try:
                while environ["wsgi.input"].read(BUFFERED_BYTES):
                    pass
            finally:
                _draining.release()
        return answer

    return serve


def settle() -> None:
    """Load the program before the first request comes, and spare the garbage collector from looking through it.

    With the interpreter's own thresholds the collector takes a twentieth of a request's time, and stops the process for a
    tenth of a second when it looks through everything. A refused request leaves some fifty objects behind that refer to each
    other, so they are not left for long either.
    """
    get_resolver().url_patterns  # noqa: B018 (asking for them loads them)
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)


application = reading_to_the_end(refusing_broken_paths(forgetting_broken_media_types(get_wsgi_application())))
settle()
