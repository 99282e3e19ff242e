"""HTTP client for URLs that partners configure: https, public hosts only, bounded in time and size. Follows no redirects.

The host is resolved once, all its IP addresses are checked, and the connection goes to one of them: a second look-up
could return another address. The certificate must be valid for the host.

# Note [The status line decides]
# A status line is the answer of the receiver. What follows cannot change it, so a caller that needs no body gets the
# status even if the rest is slow, malformed, endless or missing. Interim responses (1xx) are skipped.
"""

import contextlib
import functools
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import urllib3
from django.db import connection as database
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

from baskets import conf

MAX_URL_LENGTH = 2000
# A separate limit for each: the look-up of the host, all attempts to connect together, and the TLS handshake.
CONNECT_SECONDS = 3.0
DEFAULT_PORTS = {"http": 80, "https": 443}
MIN_UNPRIVILEGED_PORT = 8000
# The IANA special-purpose address registries, multicast, and ranges that IANA has not assigned to the public internet. The
# list does not rely on `ipaddress`, because older versions of Python know fewer ranges. Ranges that embed IPv4 addresses
# are refused completely, because a gateway can map any of them to an internal host.
REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network, with the unspecified address
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # shared address space of carriers (CGNAT)
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, with the metadata services of clouds
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunneling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private use
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, with the broadcast address
        # Global unicast is 2000::/3. Below it: unspecified, loopback, IPv4-compatible (::/96), IPv4-mapped (::ffff:0:0/96),
        # NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard-only (100::/64) and the dummy prefix (100:0:0:1::/64).
        "::/3",
        # IETF protocol assignments: Teredo (2001::/32), anycast of PCP and TURN (2001:1::/32), benchmarking (2001:2::/48),
        # AMT (2001:3::/32), AS112 (2001:4:112::/48), ORCHID (2001:10::/28, 2001:20::/28) and DETs (2001:30::/28).
        "2001::/23",
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
        # Above 2000::/3: SRv6 segments (5f00::/16), unique local (fc00::/7), link-local (fe80::/10), site-local (fec0::/10)
        # and multicast (ff00::/8).
        "4000::/2",
        "8000::/1",
    )
)
# Resolvers treat a host whose last label is a number as an IPv4 address, also in forms such as 127.1, 0x7f.1 and 2130706433.
NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


class ForbiddenUrl(Exception):
    """The URL must not be requested; the message states why."""


class RequestFailed(Exception):
    """The request failed; the message states why and quotes nothing that was sent."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """The final response.

    :param headers: a case-insensitive mapping; empty if the headers could not be read.
    :param body: empty unless the caller passed `max_body_bytes`.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def validate_url(url: str) -> SplitResult:
    """Check a URL, without resolving its host.

    :returns: the parts of the URL.
    :raises ForbiddenUrl: it is not an https URL of a public host with an allowed port, or has a user, a password or a fragment.
    """
    internal = conf.internal_addresses_allowed()
    schemes = {"https", "http"} if internal else {"https"}
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenUrl(f"An address has at most {MAX_URL_LENGTH} plain ASCII characters, and no spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ForbiddenUrl("That is not an address.") from None
    if parts.scheme not in schemes:
        raise ForbiddenUrl("An address begins with https://.")
    host = _host(parts)
    if not host or port == 0:
        raise ForbiddenUrl("An address names a host.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ForbiddenUrl("An address has no user, password or fragment.")
    port = _port(parts)
    if not internal and port < MIN_UNPRIVILEGED_PORT and port not in {*DEFAULT_PORTS.values(), *conf.outgoing_ports()}:
        raise ForbiddenUrl(f"An address has the port 80, 443, or one from {MIN_UNPRIVILEGED_PORT} up.")
    if _parse_ip(host) is not None:
        _require_public(host)
    elif NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
        raise ForbiddenUrl("An IPv4 address has four decimal numbers.")
    return parts


def send_request(
    url: str,
    *,
    method: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float,
    max_body_bytes: int | None = None,
) -> Response:
    """Send one request and return the final response, whatever its status. See Note [The status line decides].

    >>> send_request("https://example.com/hook", method="POST", body=b"{}", timeout_seconds=5).status
    204

    :param timeout_seconds: for everything after the connection is made.
    :param max_body_bytes: the maximum length of the response body; a longer or incomplete body is an error. None: the body is
        not read, and `Response.body` is empty.
    :raises ForbiddenUrl: the URL is invalid or forbidden, or its host has an address outside the public internet.
    :raises RequestFailed: there was no connection, no status in time, or no complete body of at most `max_body_bytes`.
    :raises RuntimeError: a transaction is open.
    """
    if database.in_atomic_block:
        message = "an outgoing request must not be sent inside a transaction"
        raise RuntimeError(message)
    parts = validate_url(url)
    connection = _connect(parts)
    connection.timeout = timeout_seconds
    # The timeout of a socket restarts with every byte received; the watchdog limits the whole exchange.
    deadline = time.monotonic() + timeout_seconds
    watchdog = threading.Timer(timeout_seconds, _shut_down, [connection.sock])
    watchdog.start()
    try:
        # A receiver may respond and close the connection before it has read the whole request.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body=body, headers={"Host": parts.netloc, "Connection": "close", **(headers or {})})
        response = http.client.HTTPResponse(connection.sock, method=method)
        with contextlib.closing(response):
            _read_head(response, required=max_body_bytes is not None)
            body_read = b"" if max_body_bytes is None else _read_body(response, max_body_bytes, deadline=deadline)
        return Response(status=response.status, headers=response.headers or http.client.HTTPMessage(), body=body_read)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        timed_out = time.monotonic() >= deadline
        raise RequestFailed(
            f"No whole answer within {timeout_seconds:g} s." if timed_out else f"The call failed: {type(error).__name__}."
        ) from error
    finally:
        watchdog.cancel()
        connection.close()


def _read_head(response: http.client.HTTPResponse, *, required: bool) -> None:
    """Read the status and the headers of the final response.

    :param required: whether malformed headers are an error; otherwise the status is enough.
    """
    try:
        response.begin()
        while response.status < http.HTTPStatus.OK:
            response.headers = None  # type: ignore[assignment]  # `begin` reads the next response if it has no headers yet.
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


def _connect(parts: SplitResult) -> HTTPConnection:
    """Check all IP addresses of the host, and connect to the first one that accepts."""
    host, port = _host(parts), _port(parts)
    deadline, problem = time.monotonic() + CONNECT_SECONDS, "TimeoutError"
    for address in _resolve(host, port):
        seconds_left = deadline - time.monotonic()
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
            return connection
    raise RequestFailed(f"No connection: {problem}.")


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Load the system's certificate authorities once per process, because loading takes longer than a request."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_default_certs()
    return context


def _resolve(host: str, port: int) -> tuple[str, ...]:
    """Resolve a host; unless all its IP addresses are public, none is used.

    The system's resolver has no timeout, so it runs in a daemon thread that is abandoned after `CONNECT_SECONDS`.
    """
    addresses: list[str] = []

    def resolve() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            addresses.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    resolver = threading.Thread(target=resolve, daemon=True)
    resolver.start()
    resolver.join(CONNECT_SECONDS)
    found = tuple(addresses)
    if not found:
        raise RequestFailed("The name of the host cannot be resolved.")
    for address in found:
        _require_public(address)
    return found


def _require_public(address: str) -> None:
    ip = _parse_ip(address)
    if not conf.internal_addresses_allowed() and (ip is None or any(ip in network for network in REFUSED_NETWORKS)):
        raise ForbiddenUrl("The host is not on the public internet.")


def _host(parts: SplitResult) -> str:
    """Return the host as certificates name it: without a trailing dot."""
    return (parts.hostname or "").removesuffix(".")


def _port(parts: SplitResult) -> int:
    return parts.port or DEFAULT_PORTS[parts.scheme]


def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _shut_down(connected: socket.socket) -> None:
    """Shut down the socket from the watchdog's thread, so that the waiting thread gets an error.

    The argument is the socket, because a connection drops its socket when the peer announces to close. The plain socket's
    method is called, because that of a TLS socket discards the TLS state first, while another thread may be sending.
    """
    with contextlib.suppress(OSError):  # The peer may have closed the connection already.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
