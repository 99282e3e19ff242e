"""Renders responses as bytes, and builds the WSGI environment of one whole request. Does no input or output."""

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from basket_project.http_server.request_queue import QueuedRequest

Application = Callable[..., Iterable[bytes]]
Headers = Sequence[tuple[str, str]]

_PHRASES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def render_response(status: str | int, headers: Headers, body: bytes, *, date: str, minor: int, keep: bool, head_only: bool) -> bytes:
    """Render a response with its framing headers.

    :param status: a number, or a WSGI status such as `200 OK`.
    :param date: the value of the header `Date`.
    :param minor: minor HTTP version of the request: 0 or 1.
    :param keep: whether the connection stays open.
    :param head_only: whether the request was HEAD, so the body is omitted.
    """
    line = _PHRASES[status] if isinstance(status, int) else status
    bodiless = line[:3] in {"204", "304"}
    fields = "".join([f"\r\n{name}: {value}" for name, value in headers])
    if not bodiless and "\r\ncontent-length:" not in fields.lower():
        fields += f"\r\nContent-Length: {len(body)}"
    if not keep:
        fields += "\r\nConnection: close"
    elif not minor:
        fields += "\r\nConnection: keep-alive"
    head = f"HTTP/1.1 {line}\r\nDate: {date}{fields}\r\n\r\n".encode("latin-1")
    return head if head_only or bodiless else head + body


def build_environ(request: QueuedRequest, base: dict[str, Any]) -> dict[str, Any]:
    """Build the WSGI environment of a whole request.

    :param base: the part that all requests share, from `base_environ`.
    """
    head, address = request.head, request.connection.address
    environ = base | head.headers
    environ["REQUEST_METHOD"] = head.method
    environ["PATH_INFO"] = head.path
    environ["QUERY_STRING"] = head.query
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.minor else "HTTP/1.0"
    environ["REMOTE_ADDR"] = address[0]
    environ["REMOTE_PORT"] = str(address[1])
    environ["wsgi.input"] = io.BytesIO(request.body)
    if head.length is None:  # The body was chunked.
        environ["CONTENT_LENGTH"] = str(len(request.body))
    return environ


def base_environ(host: str, port: int) -> dict[str, Any]:
    """Return the part of the WSGI environment that all requests share."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


class StartResponse:
    """Receives status and headers of a response: the WSGI callable `start_response`."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: Headers = ()

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        """Store status and headers. The legacy `write` callable of WSGI is not supported: Django returns its body."""
        del exc_info
        self.status, self.headers = status, headers
        return _unsupported


def _unsupported(_: bytes) -> object:
    raise NotImplementedError("Return the body.")
