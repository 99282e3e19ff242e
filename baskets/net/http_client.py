"""HTTP client for addresses that partners name: https, to hosts of the public internet only, and bounded in time and size.

A name is resolved once, every address it has is checked, and the connection goes to one of those addresses: a second
look-up could return something else. The certificate must be valid for the name. Redirects are never followed. No call
is made inside a transaction.

# Note [The status line decides]
# A receiver that has answered with a status has answered. What follows cannot change the status, so a caller that needs
# no body gets the status even if the rest is slow, broken, endless or missing. Interim responses (1xx) are skipped.
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
# For the look-up of the name, for all attempts to connect, and for the TLS handshake: each.
CONNECT_SECONDS = 3.0
DEFAULT_PORTS = {"http": 80, "https": 443}
MIN_UNPRIVILEGED_PORT = 8000
# The IANA special-purpose address registries, multicast, and what IANA has not assigned to the public internet. The list
# is complete by itself: `ipaddress` knows fewer ranges in older versions of Python. Ranges that embed IPv4 addresses are
# refused as a whole, because a gateway may lead from any of them to an internal host.
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
# A host whose last label is a number is an IPv4 address to a resolver, also in forms such as 127.1, 0x7f.1 and 2130706433.
NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


class ForbiddenUrl(Exception):
    """The address must not be called; the text says why."""


class RequestFailed(Exception):
    """The call failed; the text says why, and quotes nothing that was sent."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """The final response.

    :param headers: looked up in any case of letters; empty if they could not be read.
    :param body: empty if the caller wanted none.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def validate_url(url: str) -> SplitResult:
    """Split an address and check it, without resolving its name.

    :raises ForbiddenUrl: it is not a plain https address of a public host and an admitted port.
    """
    internal = conf.internal_addresses_allowed()
    schemes = {"https", "http"} if internal else {"https"}
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenUrl(f"An address has at most {MAX_URL_LENGTH} plain ASCII characters, and no spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ForbiddenUrl("That is no address.") from None
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
    """Make one call and return the final response, whatever its status.

    See Note [The status line decides].

    :param timeout_seconds: for everything after the connection is made; then the connection is cut.
    :param max_body_bytes: bytes of the response body that are read; a longer or incomplete body is an error. None: no body is
        read, and `Reply.body` is empty.
    :raises ForbiddenUrl: the address must not be called.
    :raises RequestFailed: there was no connection, no status in time, or not the whole body that was wanted.
    """
    if database.in_atomic_block:
        message = "no call to the outside is made inside a transaction"
        raise RuntimeError(message)
    parts = validate_url(url)
    connection = _connect(parts)
    connection.timeout = timeout_seconds
    # The time-out of a socket starts again with every byte; this one does not.
    until = time.monotonic() + timeout_seconds
    watchdog = threading.Timer(timeout_seconds, _shut_down, [connection.sock])
    watchdog.start()
    try:
        # A receiver may answer, and hang up, before it has read the whole request.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body=body, headers={"Host": parts.netloc, "Connection": "close", **(headers or {})})
        response = http.client.HTTPResponse(connection.sock, method=method)
        with contextlib.closing(response):
            _read_head(response, required=max_body_bytes is not None)
            taken = b"" if max_body_bytes is None else _read_body(response, max_body_bytes, until=until)
        return Response(status=response.status, headers=response.headers or http.client.HTTPMessage(), body=taken)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        late = time.monotonic() >= until
        raise RequestFailed(
            f"No whole answer within {timeout_seconds:g} s." if late else f"The call failed: {type(error).__name__}."
        ) from error
    finally:
        watchdog.cancel()
        connection.close()


def _read_head(response: http.client.HTTPResponse, *, required: bool) -> None:
    """Read the status and the headers of the final response.

    :param required: the headers are needed; otherwise the status is enough.
    """
    try:
        response.begin()
        while response.status < http.HTTPStatus.OK:
            response.headers = None  # type: ignore[assignment]  # `begin` reads the next response if it has no headers yet.
            response.begin()
    except (http.client.HTTPException, OSError, ValueError):
        # The status is a text until it was read.
        if required or not isinstance(response.status, int) or response.status < http.HTTPStatus.OK:  # type: ignore[redundant-expr]
            raise


def _read_body(response: http.client.HTTPResponse, max_body_bytes: int, *, until: float) -> bytes:
    """Read to the end of the body: that is where one that is shorter than announced is found out."""
    taken = b""
    while len(taken) <= max_body_bytes and (more := response.read(max_body_bytes + 1 - len(taken))):
        taken += more
    if len(taken) > max_body_bytes:
        raise RequestFailed(f"The answer is longer than {max_body_bytes} bytes.")
    # The end of a body without a length looks the same if the watchdog has cut it.
    if response.length or time.monotonic() >= until:
        raise http.client.IncompleteRead(taken, response.length)
    return taken


def _connect(parts: SplitResult) -> HTTPConnection:
    """Connect to the first address of the host that accepts, after all of them were checked."""
    host, port = _host(parts), _port(parts)
    until, problem = time.monotonic() + CONNECT_SECONDS, "TimeoutError"
    for address in _resolve(host, port):
        left = until - time.monotonic()
        if left <= 0:
            break
        connection: HTTPConnection
        if parts.scheme == "https":
            connection = HTTPSConnection(
                address, port, timeout=left, ssl_context=_tls_context(), cert_reqs="CERT_REQUIRED", server_hostname=host
            )
        else:
            connection = HTTPConnection(address, port, timeout=left)
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
    """Load the certificate authorities of the system, once for a process: that takes longer than a call."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_default_certs()
    return context


def _resolve(host: str, port: int) -> tuple[str, ...]:
    """Resolve a name; every address it has must be public, or none is used.

    The resolver of the system has no time-out, so it runs in a thread that is left behind if it takes too long.
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
    """Return the host as a certificate names it: without the dot that may end a full name."""
    return (parts.hostname or "").removesuffix(".")


def _port(parts: SplitResult) -> int:
    return parts.port or DEFAULT_PORTS[parts.scheme]


def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _shut_down(line: socket.socket) -> None:
    """End a call from another thread: the thread that waits gets an error.

    It is the socket that is shut down, because a connection lets go of it where the other side wants to close. The method
    is that of the plain socket: the one of a TLS socket drops the encryption first, and another thread may be sending.
    """
    with contextlib.suppress(OSError):  # The other side may have ended the connection already.
        socket.socket.shutdown(line, socket.SHUT_RDWR)
