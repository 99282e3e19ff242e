"""Names the source of a request, its address or network, as far as that can be known: what limits are counted by."""

import re
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

from baskets import conf

# One customer has all addresses of such a network, so the network is the source.
IPV6_PREFIX_BITS = 64
# A translator on our side puts all callers of IPv4 into one network.
NAT64_NETWORK = IPv6Network("64:ff9b::/96")
UNKNOWN = "unknown"
# Some proxies add the port: `192.0.2.1:50000`, `[2001:db8::1]:50000`.
ADDRESS_WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)


def client_source(request: Any) -> str:
    """Name the source of a request: its address, or its network.

    It is the other end of the connection, unless a proxy's header is trusted. Of that list, each trusted proxy has added one entry
    at the end, and the entry of the outermost one names the caller. Entries before it may be the caller's own invention.
    """
    header, proxies = conf.client_address_header(), conf.trusted_proxies()
    given = request.META.get(header, "") if header else ""
    entries = given.rsplit(",", proxies)[-proxies:]
    return _normalize_address(entries[0].strip()) or _normalize_address(request.META.get("REMOTE_ADDR", "")) or UNKNOWN


def _normalize_address(text: str) -> str | None:
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
