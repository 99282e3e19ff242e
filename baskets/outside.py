"""Calls to addresses that partners name: https, to hosts of the public internet only, and bounded in time and size.

A name is resolved once, what it resolves to is checked, and the connection goes to that very address: a second
look-up could say something else. Redirects are never followed. Nobody calls this inside of a transaction.
"""

import http.client
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import urllib3
from django.db import connection as database
from urllib3.connection import HTTPConnection, HTTPSConnection

from baskets import conf

LONGEST_URL = 2000
CONNECT_SECONDS = 3.0
# Networks that carry an IPv4 address inside of an IPv6 one, and so may lead to where nobody meant to go.
TRANSLATED = [ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]


class ForbiddenAddress(Exception):
    """The address is not one that may be called; the sentence says why."""


class Unreachable(Exception):
    """The call came to nothing; the sentence says why, and quotes nothing that was sent."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the other side answered."""

    status: int
    body: bytes


def checked_url(url: str) -> SplitResult:
    """Take an address apart that somebody wants to be called, without resolving its name.

    :raises ForbiddenAddress: it is no plain https address.
    """
    schemes = {"https", "http"} if conf.internal_addresses_allowed() else {"https"}
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenAddress(f"An address has at most {LONGEST_URL} plain ASCII characters, and no spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ForbiddenAddress("That is no address.") from None
    if parts.scheme not in schemes:
        raise ForbiddenAddress("An address begins with https://.")
    if not parts.hostname or port == 0:
        raise ForbiddenAddress("An address names a host.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ForbiddenAddress("An address has no user, password or fragment.")
    if _as_ip(parts.hostname) is not None:
        _require_public(parts.hostname)
    return parts


def call(
    url: str, *, method: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, seconds: float, longest: int
) -> Reply:
    """Make one call and return the answer, whatever its status.

    :param seconds: for everything after the connection is made; then it is cut.
    :param longest: bytes of the body that are taken; a longer one is an error.
    :raises ForbiddenAddress: the address may not be called.
    :raises Unreachable: nobody answered, or not in time, or too much.
    """
    if database.in_atomic_block:
        message = "nobody outside is called inside of a transaction"
        raise RuntimeError(message)
    parts = checked_url(url)
    host = parts.hostname or ""
    connection = _connected(parts, host)
    # A socket's own time-out begins anew with every byte; this one does not.
    until = time.monotonic() + seconds
    watchdog = threading.Timer(seconds, _cut, [connection.sock])
    watchdog.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers={"Host": parts.netloc, **(headers or {})}, preload_content=False)
        answer = connection.getresponse()
        taken = b""
        # Read on to the end: that is where an answer shorter than it promised to be is found out.
        while len(taken) <= longest and (more := answer.read(longest + 1 - len(taken), decode_content=False)):
            taken += more
        if len(taken) > longest:
            raise Unreachable(f"The answer is longer than {longest} bytes.")
        if time.monotonic() >= until:
            raise Unreachable(f"No whole answer within {seconds:g} s.")
        return Reply(status=answer.status, body=taken)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        late = time.monotonic() >= until
        raise Unreachable(f"No whole answer within {seconds:g} s." if late else f"The call failed: {type(error).__name__}.") from error
    finally:
        watchdog.cancel()
        connection.close()


def _connected(parts: SplitResult, host: str) -> HTTPConnection:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _resolved(host, port)
    connection: HTTPConnection
    if parts.scheme == "https":
        connection = HTTPSConnection(
            address, port, timeout=CONNECT_SECONDS, cert_reqs="CERT_REQUIRED", server_hostname=host, assert_hostname=host
        )
    else:
        connection = HTTPConnection(address, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        connection.close()
        raise Unreachable(f"No connection: {type(error).__name__}.") from error
    return connection


def _resolved(host: str, port: int) -> str:
    """Resolve a name to one address; every address it has must be public, or none is taken."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable("The name of the host cannot be resolved.") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        _require_public(address)
    return addresses[0]


def _require_public(address: str) -> None:
    if conf.internal_addresses_allowed():
        return
    ip = _as_ip(address)
    if ip is not None and isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in TRANSLATED):
            raise ForbiddenAddress("The host is not on the public internet.")
        ip = ip.ipv4_mapped or ip
    if ip is None or not ip.is_global or ip.is_multicast or ip.is_reserved:
        raise ForbiddenAddress("The host is not on the public internet.")


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _cut(line: socket.socket) -> None:
    """End a call from another thread: whoever waits for it wakes up with an error.

    It is the socket that is cut, because a connection lets go of it where the other side means to close.
    """
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # It had ended by itself meanwhile.
