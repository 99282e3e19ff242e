"""Determines the source of a request, by which rate limits count: an IPv4 address or an IPv6 network."""

import re
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

from baskets import conf

# One customer usually controls a whole /64, so the network is the source and not the single address.
IPV6_PREFIX_BITS = 64
# A NAT64 gateway maps all IPv4 callers into this one network.
NAT64_NETWORK = IPv6Network("64:ff9b::/96")
UNKNOWN = "unknown"
# Some proxies add the port: `192.0.2.1:50000`, `[2001:db8::1]:50000`.
ADDRESS_WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)


def client_source(request: Any) -> str:
    """Return the source of a request.

    The source is the peer of the connection, unless the header of a proxy is trusted. Each trusted proxy appends one entry to
    that header, and the entry of the outermost trusted proxy names the caller. The caller can forge all entries before it.

    :returns: an IPv4 address such as `192.0.2.1`, an IPv6 network such as `2001:db8::/64`, or `unknown`.
    """
    header, proxies = conf.client_address_header(), conf.trusted_proxies()
    given = request.META.get(header, "") if header else ""
    entries = given.rsplit(",", proxies)[-proxies:]
    return _normalize_address(entries[0].strip()) or _normalize_address(request.META.get("REMOTE_ADDR", "")) or UNKNOWN


def _normalize_address(text: str) -> str | None:
    """Return the source that an address belongs to, or None if the text is not an IP address."""
    if found := ADDRESS_WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    if address in NAT64_NETWORK:
        return str(IPv4Address(int(address) & 0xFFFFFFFF))
    return str(IPv6Network((int(address), IPV6_PREFIX_BITS), strict=False))
