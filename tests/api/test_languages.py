"""The API speaks the language of the sources, whatever a caller asks for, and whatever page its thread has shown before."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.api.conftest import Api, Sells

pytestmark = pytest.mark.django_db
FIXED = {"X-Request-ID": "same-request"}
BASKET = "/baskets/users/ada"
CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", BASKET, None),
    ("PUT", BASKET, {}),
    ("POST", f"{BASKET}/products/no-such-product", {"count": 1}),
    ("POST", f"{BASKET}/products/lamp", {"count": "many"}),
    ("POST", "/baskets/users/ben/checkout/sessions", {}),
    ("POST", f"{BASKET}/checkout/sessions/finish-active", {}),
    ("POST", "/baskets/users/ben/checkout/sessions/finish-active", {"ordered": True}),
    ("GET", "/baskets/events?limit=-1&after=x", None),
    ("GET", "/v2/baskets/products/details", None),
    ("GET", "/no/such/path", None),
    ("GET", "/schema", None),
    ("GET", "/docs", None),
    ("GET", "/docs/try-it", None),
)


def test_calls_answer_the_same_bytes_in_every_language(api: Api, sells: Sells) -> None:
    sells("lamp")
    api.place("lamp")
    staff = Client()
    staff.force_login(User.objects.create(username="greta", is_staff=True, is_superuser=True))
    client = Client(raise_request_exception=False)

    def answers(language: str | None) -> list[tuple[int, bytes, dict[str, str]]]:
        found = []
        for method, path, body in CALLS:
            headers = {"X-API-Key": str(api.key), **FIXED} | ({"Accept-Language": language} if language else {})
            data = b"" if body is None else json.dumps(body).encode()
            response = client.generic(method, path, data, content_type="application/json", headers=headers)
            found.append((response.status_code, response.content, dict(response.headers)))
        return found

    english = answers(None)
    assert {status for status, _, _ in english} >= {200, 404, 405, 422}
    assert 'lang="de"' in staff.get("/admin/", headers={"accept-language": "de"}).content.decode()
    assert answers("de") == english
    assert not any("Content-Language" in headers or "Accept-Language" in headers.get("Vary", "") for _, _, headers in english)
