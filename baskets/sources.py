"""Where a request comes from, as far as that can be known: what failed attempts are counted by."""

from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

from baskets import conf

# Whoever has one address of IPv6 has all of its network, so the network is the source.
NETWORK_BITS = 64
UNKNOWN = "unknown"


def source_of(request: Any) -> str:
    """Name the source of a request: its address, or its network.

    It is the other end of the connection, unless a proxy's header is trusted; of that, the last entry, which the proxy
    has added itself. Entries before it may be the caller's own invention.
    """
    header = conf.client_address_header()
    given = request.META.get(header, "") if header else ""
    return _network(given.rpartition(",")[2].strip()) or _network(request.META.get("REMOTE_ADDR", "")) or UNKNOWN


def _network(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), NETWORK_BITS), strict=False))
