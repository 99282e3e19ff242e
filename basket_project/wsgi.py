"""The WSGI application that a process server loads."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")

NOWHERE = "//"


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


application = refusing_broken_paths(get_wsgi_application())
