"""Which URLs the service refuses to call: their form, the special-purpose networks, and the ports."""

import contextlib
import ipaddress
from typing import Any

import pytest
from django.core import checks

from baskets.net import http_client
from baskets.net.outgoing_urls import ForbiddenUrl, validate_url
from tests.net.http_servers import resolve_to

NOT_CALLED = [
    "x",
    "",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "https://",
    "https://./",
    "https:///path",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com/#part",
    "https://example.com:99999/",
    "https://example.com:0/",
    "https://exämple.com/",
    "https://exa mple.com/",
    "https://example.com/\r\nX: y",
    "https://example.com/" + "x" * 2000,
    "https://[::1",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://[fe80::1%25eth0]/",
    # Resolvers read this as 127.0.0.1, old ones as 8.0.0.1.
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7F.1/",
    "https://127.1/",
    "https://127.0.0.01/",
    "https://0x/",
    "https://010.0.0.1/",
]


@pytest.mark.parametrize("url", NOT_CALLED)
def test_forbidden_url_is_refused_before_its_host_is_resolved(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = resolve_to(monkeypatch, "8.8.8.8")
    with pytest.raises(ForbiddenUrl):
        validate_url(url)
    with pytest.raises(ForbiddenUrl):
        http_client.send_request(url, method="GET", timeout_seconds=1)
    assert names == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com./",
        "https://example.com:8443/hook?a=b",
        "https://EXAMPLE.com/",
        "https://xn--bcher-kva.example/",
        "https://hooks.example.123abc/",
        "https://8.8.8.8/",
        "https://[2606:4700::1]/x",
    ],
)
def test_public_address_is_accepted(url: str) -> None:
    assert validate_url(url).geturl() == url


# The special-purpose registries of IANA for IPv4 and IPv6, multicast, and unassigned ranges.
RANGES = [
    ("0.0.0.0", "0.255.255.255", "this network"),  # noqa: S104 (not bound to)
    ("10.0.0.0", "10.255.255.255", "private use"),
    ("100.64.0.0", "100.127.255.255", "shared address space"),
    ("127.0.0.0", "127.255.255.255", "loopback"),
    ("169.254.0.0", "169.254.255.255", "link-local"),
    ("172.16.0.0", "172.31.255.255", "private use"),
    ("192.0.0.0", "192.0.0.255", "IETF protocol assignments"),
    ("192.0.2.0", "192.0.2.255", "documentation"),
    ("192.31.196.0", "192.31.196.255", "AS112"),
    ("192.52.193.0", "192.52.193.255", "AMT"),
    ("192.88.99.0", "192.88.99.255", "6to4 relays"),
    ("192.168.0.0", "192.168.255.255", "private use"),
    ("192.175.48.0", "192.175.48.255", "AS112"),
    ("198.18.0.0", "198.19.255.255", "benchmarking"),
    ("198.51.100.0", "198.51.100.255", "documentation"),
    ("203.0.113.0", "203.0.113.255", "documentation"),
    ("224.0.0.0", "239.255.255.255", "multicast"),
    ("240.0.0.0", "255.255.255.255", "reserved, and broadcast"),
    ("::", "::", "unspecified"),
    ("::1", "::1", "loopback"),
    ("::2", "::ffff:ffff", "IPv4-compatible"),
    ("::ffff:0:0", "::ffff:255.255.255.255", "IPv4-mapped"),
    ("::ffff:127.0.0.1", "::ffff:8.8.8.8", "IPv4-mapped loopback and public"),
    ("64:ff9b::", "64:ff9b::ffff:ffff", "NAT64"),
    ("64:ff9b::7f00:1", "64:ff9b::808:808", "NAT64 of loopback and public"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "NAT64, local use"),
    ("100::", "100::ffff:ffff:ffff:ffff", "discard-only"),
    ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", "dummy prefix"),
    ("200::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "not assigned"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo"),
    ("2001:0:808:808::80ff:fffe", "2001:0:808:808::f7f7:f7f7", "Teredo of loopback and public"),
    ("2001:1::1", "2001:1::3", "anycast of protocols"),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking"),
    ("2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", "AMT"),
    ("2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff", "AS112"),
    ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "ORCHID"),
    ("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "ORCHID, version 2"),
    ("2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", "DETs"),
    ("2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "IETF protocol assignments"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4"),
    ("2002:7f00:1::", "2002:808:808::", "6to4 of loopback and public"),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "AS112"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "not assigned"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "SRv6 segments"),
    ("6000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "not assigned"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique local"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
]
# The public addresses next to those ranges.
NEIGHBOURS = [
    *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
    *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.1.255", "192.0.3.0"),
    *("192.31.195.255", "192.31.197.0", "192.52.192.255", "192.52.194.0", "192.88.98.255", "192.88.100.0", "192.167.255.255"),
    *("192.169.0.0", "192.175.47.255", "192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0"),
    *("203.0.112.255", "203.0.114.0", "223.255.255.255"),
    *("2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
    *("2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::"),
    *("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]


def literal(address: str) -> str:
    return f"https://[{address}]/" if ":" in address else f"https://{address}/"


@pytest.fixture
def old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a version of Python that knows no special ranges, because the check must not depend on the version."""
    for family in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        for name in ("is_global", "is_private", "is_reserved", "is_multicast"):
            monkeypatch.setattr(family, name, property(lambda _: pytest.fail("The interpreter was consulted.")))


@pytest.mark.parametrize(("first", "last", "_purpose"), RANGES)
def test_special_purpose_range_is_refused_as_literal_and_as_resolved_address(
    first: str, last: str, _purpose: str, old_python: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (first, last):
        with pytest.raises(ForbiddenUrl, match="not on the public internet"):
            validate_url(literal(address))
        resolve_to(monkeypatch, address)
        with pytest.raises(ForbiddenUrl, match="has no address on the public internet"):
            http_client.send_request("https://example.com/", method="GET", timeout_seconds=1)


@pytest.mark.parametrize("address", NEIGHBOURS)
def test_neighbour_of_special_purpose_range_is_accepted(address: str, old_python: None) -> None:
    assert validate_url(literal(address)).hostname == address


@pytest.mark.parametrize(
    ("port", "admitted"),
    [(1, False), (22, False), (25, False), (79, False), (80, True), (81, False), (442, False), (443, True), (444, False),
     (6379, False), (7999, False), (8000, True), (8443, True), (65535, True)],
)  # fmt: skip
def test_port_is_admitted_by_number_by_setting_and_in_closed_networks(port: int, admitted: bool, settings: Any) -> None:
    url = f"https://example.com:{port}/"
    with contextlib.nullcontext() if admitted else pytest.raises(ForbiddenUrl, match="port 80, 443, or one from 8000 up"):
        validate_url(url)
    settings.BASKETS_OUTGOING_PORTS = [port]
    assert validate_url(url).port == port
    settings.BASKETS_OUTGOING_PORTS = []
    settings.BASKETS_INTERNAL_ADDRESSES = True
    assert validate_url(url).port == port


@pytest.mark.parametrize(("ports", "problems"), [([], 0), ([1, 65535], 0), ([0], 1), ([-1, 65536], 2)])
def test_port_that_does_not_exist_is_reported_by_check(ports: list[int], problems: int, settings: Any) -> None:
    settings.BASKETS_OUTGOING_PORTS = ports
    assert [problem.id for problem in checks.run_checks()] == ["baskets.E033"] * problems
