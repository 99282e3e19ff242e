"""The headers of every page of the admin, and the cookies that no other page sets."""

import pytest
from django.test import Client

from tests.admin.auth.signing_in import INDEX, LOGIN

pytestmark = pytest.mark.django_db


def test_no_call_and_no_page_outside_of_the_admin_sets_a_cookie() -> None:
    for path in ("/livez", "/docs", "/redoc", "/schema", "/baskets/users/ada", "/nowhere"):
        assert not Client().get(path).cookies


@pytest.mark.parametrize("path", [LOGIN, INDEX, "/admin/password_change/", "/admin/baskets/basket/", "/admin/nowhere/"])
def test_every_page_of_the_desk_has_its_headers(path: str, root: Client) -> None:
    for client in (root, Client()):
        headers = client.get(path).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", [LOGIN, INDEX, "/admin/password_change/", "/admin/baskets/basket/"])
def test_no_page_of_the_desk_is_kept_on_the_way(path: str, root: Client) -> None:
    assert {"no-store", "private"} <= set(root.get(path).headers["Cache-Control"].split(", "))
