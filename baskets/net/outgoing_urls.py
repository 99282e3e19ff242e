"""Which URLs and IP addresses the service may call: https, public hosts only. Sends nothing and resolves nothing: `http_client` does."""

import functools
import hashlib
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext_noop

from baskets import conf

MAX_URL_LENGTH = 2000
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


class Origin(NamedTuple):
    """Where a connection leads to.

    :param host: as certificates name it: without a trailing dot.
    :param port: that of the scheme where the URL has none.
    """

    scheme: str
    host: str
    port: int


def validate_url(url: str) -> SplitResult:
    """Check a URL, without resolving its host.

    :returns: the parts of the URL.
    :raises ForbiddenUrl: it is not an https URL of a public host with an allowed port, or has a user, a password or a fragment.
    """
    return _parse(url, internal=conf.internal_addresses_allowed(), ports=tuple(conf.outgoing_ports()))


@functools.lru_cache(maxsize=1024)
def _parse(url: str, *, internal: bool, ports: tuple[int, ...]) -> SplitResult:
    schemes = {"https", "http"} if internal else {"https"}
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenUrl(gettext_noop("An address has at most 2000 plain ASCII characters, and no spaces."))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ForbiddenUrl(gettext_noop("That is not an address.")) from None
    if parts.scheme not in schemes:
        raise ForbiddenUrl(gettext_noop("An address begins with https://."))
    if not (parts.hostname or "").removesuffix(".") or port == 0:
        raise ForbiddenUrl(gettext_noop("An address names a host."))
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ForbiddenUrl(gettext_noop("An address has no user, password or fragment."))
    _, host, port = origin_of(parts)
    if not internal and port < MIN_UNPRIVILEGED_PORT and port not in {*DEFAULT_PORTS.values(), *ports}:
        raise ForbiddenUrl(gettext_noop("An address has the port 80, 443, or one from 8000 up."))
    if _parse_ip(host) is not None:
        require_public(host)
    elif NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
        raise ForbiddenUrl(gettext_noop("An IPv4 address has four decimal numbers."))
    return parts


def mask_url(url: str) -> str:
    """Return a URL for records that others than its owner read: path and query may contain a secret, so a digest replaces them.

    >>> mask_url("https://hooks.example.com/in?token=secret")
    'https://hooks.example.com/… (9ec60363)'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/… ({hashlib.sha256(url.encode()).hexdigest()[:8]})"


def require_public(address: str) -> None:
    """Check an IP address.

    :raises ForbiddenUrl: it is in one of `REFUSED_NETWORKS`, or not an IP address at all, and internal addresses are not allowed.
    """
    ip = _parse_ip(address)
    if not conf.internal_addresses_allowed() and (ip is None or any(ip in network for network in REFUSED_NETWORKS)):
        raise ForbiddenUrl(gettext_noop("The host is not on the public internet."))


@functools.lru_cache(maxsize=1024)
def origin_of(parts: SplitResult) -> Origin:
    """Return the origin of a URL that was checked."""
    return Origin(parts.scheme, (parts.hostname or "").removesuffix("."), parts.port or DEFAULT_PORTS[parts.scheme])


def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
