"""Which source a request has: behind no proxy, one, or several, in IPv4 and IPv6."""

from types import SimpleNamespace

import pytest
from pytest_django import Settings

from baskets.net.client_address import client_source

PEER = "203.0.113.7"


def source(forwarded: str | None = None, *, peer: str = PEER) -> str:
    meta = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    return client_source(SimpleNamespace(META=meta))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:50000", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]:50000", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.2", "192.0.2.2"),
    ],
)
def test_address_is_read_however_it_is_written(address: str, expected: str, settings: Settings) -> None:
    settings.BASKETS_CLIENT_ADDRESS_HEADER = "X-Forwarded-For"
    assert source(address) == source(f"198.51.100.1, {address}") == expected
    settings.BASKETS_CLIENT_ADDRESS_HEADER = ""
    assert source(peer=address) == expected


@pytest.mark.parametrize(
    "forwarded",
    [None, "", ",", "unknown", "192.0.2.1, _hidden", "192.0.2.999", "[192.0.2.1", "1:2", "a" * 5000],
    ids=lambda text: repr(text)[:20],
)
def test_without_an_address_in_the_header_the_peer_is_the_source(forwarded: str | None, settings: Settings) -> None:
    settings.BASKETS_CLIENT_ADDRESS_HEADER = "X-Forwarded-For"
    assert source(forwarded) == PEER
    assert source(forwarded, peer="") == "unknown"


def test_header_is_not_read_unless_it_is_named(settings: Settings) -> None:
    assert source("192.0.2.1") == PEER


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (1, "192.0.2.1, 192.0.2.2, 192.0.2.3", "192.0.2.3"),
        (2, "192.0.2.1, 192.0.2.2, 192.0.2.3", "192.0.2.2"),
        (2, "2001:db8:1:2::1,192.0.2.3", "2001:db8:1:2::/64"),
        (3, "192.0.2.1, 192.0.2.2, 192.0.2.3", "192.0.2.1"),
        # Fewer entries than proxies: the call came past the outer one, and the first entry is all there is.
        (4, "192.0.2.1, 192.0.2.2, 192.0.2.3", "192.0.2.1"),
        (2, "192.0.2.3", "192.0.2.3"),
    ],
)
def test_entry_of_the_outermost_trusted_proxy_names_the_caller(proxies: int, forwarded: str, expected: str, settings: Settings) -> None:
    settings.BASKETS_CLIENT_ADDRESS_HEADER = "X-Forwarded-For"
    settings.BASKETS_TRUSTED_PROXIES = proxies
    assert source(forwarded) == expected
