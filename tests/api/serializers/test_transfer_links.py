"""Addresses of transfers: query and fragment stay unchanged, and only addresses that a browser can open are accepted."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baskets.api.serializers.transfer_links import append_params, decrypt_link, encrypt_link, is_http_url, qr_image

OURS = "jaySource=Example+TV&jayToken=t-1_x"


@pytest.mark.parametrize(
    ("url", "after"),
    [
        ("https://tv.example", f"https://tv.example?{OURS}"),
        ("https://tv.example/", f"https://tv.example/?{OURS}"),
        ("https://tv.example/a?", f"https://tv.example/a?{OURS}"),
        ("https://tv.example/a?b=c", f"https://tv.example/a?b=c&{OURS}"),
        ("https://tv.example/a?b=c%20d&e&f=%C3%A4+g#h?i=j", f"https://tv.example/a?b=c%20d&e&f=%C3%A4+g&{OURS}#h?i=j"),
        ("https://tv.example/#/route", f"https://tv.example/?{OURS}#/route"),
        ("https://tv.example/?b=c#", f"https://tv.example/?b=c&{OURS}#"),
        ("https://tv.example/?jayToken=old&b=c&jay%54oken=older&jaySource=x", f"https://tv.example/?b=c&{OURS}"),
        ("https://tv.example/?xjayToken=mine&jaytoken=mine", f"https://tv.example/?xjayToken=mine&jaytoken=mine&{OURS}"),
        ("http://[::1]:8080/?a=b;c=d", f"http://[::1]:8080/?a=b;c=d&{OURS}"),
    ],
)
def test_rest_of_the_address_stays_unchanged(url: str, after: str) -> None:
    assert is_http_url(url)
    assert append_params(url, source="Example TV", token="t-1_x") == after


@given(
    query=st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.from_regex(r"[a-z%+ ]{0,5}", fullmatch=True))),
    source=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20),
)
def test_appended_parameters_and_the_query_can_be_parsed(query: list[tuple[str, str]], source: str) -> None:
    url = "https://tv.example/p?" + "&".join(f"{name}={value.replace('%', '%25').replace(' ', '%20')}" for name, value in query) + "#f"
    parts = urlsplit(append_params(url, source=source, token="t"))
    before = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert parse_qsl(parts.query, keep_blank_values=True) == [*before, ("jaySource", source), ("jayToken", "t")]
    assert (parts.path, parts.fragment) == ("/p", "f")


NO_ADDRESS = [
    *("", "x", "//tv.example/", "tv.example", "javascript:alert(1)", "data:text/html,x", "ftp://tv.example/", "https://", "https:///a"),
    *("HTTPS:tv.example", "https://tv.example/ a", "https://tv.example/\n", "https://tv.example\\@evil.example/", " https://tv.example/"),
    *("https://tv.example:99999/", "https://tv.example:x/", "https://[::1/", 'https://tv.example/"><script>', "https://tv.example/\u202e"),
    "https://tv.example/" + "x" * 2000,
]


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_address_that_a_browser_cannot_open_is_refused(url: str) -> None:
    assert not is_http_url(url)


def test_qr_image_is_a_png() -> None:
    assert qr_image("https://tv.example/?" + OURS).startswith(b"\x89PNG\r\n")


def test_name_of_an_image_is_encrypted() -> None:
    name = encrypt_link(url="https://tv.example/?jayToken=secret-1", token="secret-1", partner_id=1)
    assert "/" not in name
    assert "secret" not in name
    assert decrypt_link(name) == ("https://tv.example/?jayToken=secret-1", "secret-1")
    for rubbish in ("", "x", name[:-1], "x" + name, "\u00e4", "\ud800", name.swapcase()):
        assert decrypt_link(rubbish) is None
