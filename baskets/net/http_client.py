"""HTTP client for URLs that partners configure: https, public hosts only, bounded in time and size. Follows no redirects.

The host is resolved once for each connection, all its IP addresses are checked, and the connection goes to one of them: a second
look-up could return another address. The certificate must be valid for the host. `kept_connections` lets requests share connections.

# Note [The status line decides]
# A status line is the answer of the receiver. What follows cannot change it, so a caller that needs no body gets the
# status even if the rest is slow, malformed, endless or missing. Interim responses (1xx) are skipped.
"""

import contextlib
import functools
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

import urllib3
from django.db import connection as database
from django.utils.translation import gettext_noop
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

from baskets.net.kept_connections import Connection, KeptConnections
from baskets.net.outgoing_urls import ForbiddenUrl, origin_of, require_public, validate_url
from baskets.net.watchdog import Watchdog

# A separate limit for each: the look-up of the host, all attempts to connect together, and the TLS handshake.
CONNECT_SECONDS = 3.0
# The same for an unknown name and for one with a private address: partners see it, and must not learn names of internal hosts.
NO_ADDRESS = gettext_noop("The name of the host has no address on the public internet.")
# How many look-ups may run at once, those included that were abandoned because the resolver hangs.
MAX_LOOKUPS = 64
# What is read of an unwanted body, so that its connection can be used again. A longer or slower body costs the connection.
MAX_DRAINED_BYTES = 16 * 1024
MAX_DRAIN_SECONDS = 0.05


class RequestFailed(Exception):
    """The request failed; the message states why and quotes nothing that was sent.

    :param connected: whether a connection was made.
    :param timed_out: whether the response did not come in time.
    """

    def __init__(self, message: str, *, connected: bool = True, timed_out: bool = False) -> None:
        super().__init__(message)
        self.connected, self.timed_out = connected, timed_out


@dataclass(frozen=True, kw_only=True)
class Response:
    """The final response.

    :param headers: a case-insensitive mapping; empty if the headers could not be read.
    :param body: empty unless the caller passed `max_body_bytes`.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def send_request(
    url: str,
    *,
    method: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float,
    max_body_bytes: int | None = None,
    kept: KeptConnections | None = None,
) -> Response:
    """Send one request and return the final response, whatever its status. See Note [The status line decides].

    A kept connection that the receiver closed before it responded is replaced by a new one: the receiver may get the request twice.

    >>> send_request("https://example.com/hook", method="POST", body=b"{}", timeout_seconds=5).status
    204

    :param timeout_seconds: for everything after the connection is made.
    :param max_body_bytes: the maximum length of the response body; a longer or incomplete body is an error. None: the body is
        not returned, and `Response.body` is empty.
    :param kept: connections to use and to leave open; None opens one and closes it.
    :raises ForbiddenUrl: the URL is invalid or forbidden, or its host has an address outside the public internet.
    :raises RequestFailed: there was no connection, no status in time, or no complete body of at most `max_body_bytes`.
    :raises RuntimeError: a transaction is open.
    """
    if database.in_atomic_block:
        message = "an outgoing request must not be sent inside a transaction"
        raise RuntimeError(message)
    parts = validate_url(url)
    request = _Request(
        parts=parts, method=method, headers=headers or {}, body=body, timeout_seconds=timeout_seconds, max_body_bytes=max_body_bytes
    )
    if kept and (connection := kept.take(origin_of(parts))):
        try:
            return _communicate(connection, request, kept)
        except RequestFailed as failed:
            if not isinstance(failed.__cause__, ConnectionError) or failed.timed_out:
                raise
    return _communicate(Connection(socket=_connect(parts), opened_at=time.monotonic()), request, kept)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The arguments of `send_request`."""

    parts: SplitResult
    method: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_seconds: float
    max_body_bytes: int | None


def _communicate(used: Connection, request: _Request, kept: KeptConnections | None) -> Response:
    """Send a request over a connection, receive the response, and keep or close the connection."""
    connected = used.socket
    # The timeout of a socket restarts with every byte received; the watchdog limits the whole exchange.
    deadline = time.monotonic() + request.timeout_seconds
    guarded = _watchdog.guard(connected, deadline)
    is_reusable = False
    try:
        content = _head(request, is_kept=kept is not None) + (request.body or b"")
        connected.settimeout(request.timeout_seconds)
        # A receiver may respond and close the connection before it has read the whole request.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connected.sendall(content)
        response = http.client.HTTPResponse(connected, method=request.method)
        with contextlib.closing(response):
            _read_head(response, required=request.max_body_bytes is not None)
            body_read = b"" if request.max_body_bytes is None else _read_body(response, request.max_body_bytes, deadline=deadline)
            is_reusable = kept is not None and _drain(response, connected)
        return Response(status=response.status, headers=response.headers or http.client.HTTPMessage(), body=body_read)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        timed_out = time.monotonic() >= deadline
        raise RequestFailed(
            f"No whole answer within {request.timeout_seconds:g} s." if timed_out else f"The call failed: {type(error).__name__}.",
            timed_out=timed_out,
        ) from error
    finally:
        _watchdog.release(guarded)
        if kept and is_reusable:
            kept.put(origin_of(request.parts), used)
        else:
            connected.close()


def _head(request: _Request, *, is_kept: bool) -> bytes:
    """Return the request line and the headers.

    :raises ValueError: one of them has a character that is not printable ASCII.
    """
    parts = request.parts
    lines = [
        f"{request.method} {parts.path or '/'}{f'?{parts.query}' if parts.query else ''} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Accept-Encoding: identity",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    if not is_kept:
        lines.append("Connection: close")
    if request.body is not None:
        lines.append(f"Content-Length: {len(request.body)}")
    if not all(line.isprintable() for line in lines):
        message = "a header must not have control characters"
        raise ValueError(message)
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _drain(response: http.client.HTTPResponse, connected: socket.socket) -> bool:
    """Read the rest of a short body that has arrived.

    :returns: whether the response is complete and the receiver keeps the connection open.
    """
    if response.will_close or _is_complete(response):
        return not response.will_close
    deadline, left = time.monotonic() + MAX_DRAIN_SECONDS, MAX_DRAINED_BYTES
    try:
        connected.settimeout(MAX_DRAIN_SECONDS)
        while left > 0 and not _is_complete(response) and time.monotonic() < deadline:
            left -= len(response.read1(left))
    except (http.client.HTTPException, OSError, ValueError):
        return False
    return _is_complete(response)


def _is_complete(response: http.client.HTTPResponse) -> bool:
    return response.isclosed() or response.length == 0


def _read_head(response: http.client.HTTPResponse, *, required: bool) -> None:
    """Read the status and the headers of the final response.

    :param required: whether malformed headers are an error; otherwise the status is enough.
    """
    try:
        response.begin()
        while response.status < http.HTTPStatus.OK:
            response.headers = None  # type: ignore[assignment]  # `begin` reads the next response if it has no headers yet.
            response.will_close = True  # Unless the headers of the final response are read and differ.
            response.begin()
    except (http.client.HTTPException, OSError, ValueError):
        # Before the status line is read, `status` is a string.
        if required or not isinstance(response.status, int) or response.status < http.HTTPStatus.OK:  # type: ignore[redundant-expr]
            raise


def _read_body(response: http.client.HTTPResponse, max_body_bytes: int, *, deadline: float) -> bytes:
    """Read the body to its end, where a body that is shorter than announced shows.

    :param deadline: on the monotonic clock.
    """
    content = b""
    while len(content) <= max_body_bytes and (chunk := response.read(max_body_bytes + 1 - len(content))):
        content += chunk
    if len(content) > max_body_bytes:
        raise RequestFailed(f"The answer is longer than {max_body_bytes} bytes.")
    # A body without a length that the watchdog has cut off looks complete.
    if response.length or time.monotonic() >= deadline:
        raise http.client.IncompleteRead(content, response.length)
    return content


def _connect(parts: SplitResult) -> socket.socket:
    """Check all IP addresses of the host, and connect to the first one that accepts.

    Each attempt may take its share of the time that is left.
    """
    _, host, port = origin_of(parts)
    deadline, problem = time.monotonic() + CONNECT_SECONDS, "TimeoutError"
    addresses = _resolve(host, port)
    for index, address in enumerate(addresses):
        # One address that does not respond leaves time for the others.
        seconds_left = (deadline - time.monotonic()) / (len(addresses) - index)
        if seconds_left <= 0:
            break
        connection: HTTPConnection
        if parts.scheme == "https":
            connection = HTTPSConnection(
                address, port, timeout=seconds_left, ssl_context=_tls_context(), cert_reqs="CERT_REQUIRED", server_hostname=host
            )
        else:
            connection = HTTPConnection(address, port, timeout=seconds_left)
        try:
            connection.connect()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            connection.close()
            problem = type(error).__name__
        else:
            return connection.sock
    raise RequestFailed(f"No connection: {problem}.", connected=False)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Load the system's certificate authorities once per process, because loading takes longer than a request."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_default_certs()
    return context


def _resolve(host: str, port: int) -> tuple[str, ...]:
    """Resolve a host; unless all its IP addresses are public, none is used.

    The system's resolver has no timeout, so it runs in a daemon thread that is abandoned after `CONNECT_SECONDS`. At most
    `MAX_LOOKUPS` such threads exist.
    """
    addresses: list[str] = []

    def resolve() -> None:
        try:
            with contextlib.suppress(OSError, UnicodeError):
                addresses.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        finally:
            lookups.release()

    deadline, lookups = time.monotonic() + CONNECT_SECONDS, _lookups
    if lookups.acquire(timeout=CONNECT_SECONDS):
        resolver = threading.Thread(target=resolve, daemon=True)
        resolver.start()
        resolver.join(max(0.0, deadline - time.monotonic()))
    # A host may be listed once for each protocol.
    found = tuple(dict.fromkeys(addresses))
    if not found:
        raise RequestFailed(NO_ADDRESS, connected=False)
    for address in found:
        try:
            require_public(address)
        except ForbiddenUrl:
            raise ForbiddenUrl(NO_ADDRESS) from None
    return found


_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)


_watchdog = Watchdog()
