"""Who gets in: keys, tokens and versions. Every endpoint against every kind of caller is in `test_walls`."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from baskets.domain.access import api_keys
from baskets.domain.actors import Actor
from tests.api.conftest import Api, Issue, Sells, Unchanged

INVALID = (401, 401, "api_key_invalid")
TOKEN_MISSING = (401, 2002, "token_missing")
TOKEN_INVALID = (401, 2002, "token_invalid")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")


def test_a_good_key_costs_one_query_as_well(api: Api) -> None:
    with CaptureQueriesContext(connection) as captured:
        api.get("/baskets/users/ada")
    assert len(captured) == 2


def test_a_key_with_an_end_date_works_until_then(issue: Issue) -> None:
    assert Api(issue(expires_in=timedelta(days=1))).get("/baskets/users/ada").status == 200


def test_a_revoked_key_stops_at_once(issue: Issue) -> None:
    key = issue()
    assert Api(key).get("/baskets/users/ada").status == 200
    api_keys.revoke_api_key(prefix=key.split("_")[1], reason="stolen", actor=Actor.system("test"))
    assert Api(key).get("/baskets/users/ada").refusal == INVALID


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Token x", "", "Bearerx y", "\x00"])
def test_other_authorization_schemes_count_as_no_token(app: Api, api: Api, authorization: str) -> None:
    assert app.get("/baskets/users/ada", Authorization=authorization).refusal == TOKEN_MISSING
    assert api.get("/baskets/users/ada", Authorization=authorization).status == 200


@pytest.mark.parametrize(
    "authorization",
    ["Bearer x", "bearer x", "BEARER  x", "Bearer", "Bearer ", "Bearer a b", "Bearer ä", "Bearer \x00",
     "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.", "Bearer " + "x" * 100_000],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/baskets/users/ada", "/baskets/products/details"])
def test_token_is_checked_with_every_key(app: Api, api: Api, authorization: str, path: str, unchanged: Unchanged) -> None:
    unchanged()
    method = "GET" if "users" in path else "POST"
    for caller in (app, api):
        answer = caller.request(method, path, Authorization=authorization)
        assert answer.refusal == TOKEN_INVALID
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="baskets", error="invalid_token"'


def test_product_details_need_no_token(app: Api) -> None:
    assert app.post("/baskets/products/details", ["p1"]).data["unknown"] == []


def test_the_same_user_id_of_another_partner_is_another_user(api: Api, other_partner: Api) -> None:
    api.place("p1", 2)
    api.start()
    assert other_partner.basket() == {"cart": [], "saved": [], "checkout": []}
    assert other_partner.finish(True).refusal == (422, 2005, "basket_not_found")
    assert other_partner.delete("/baskets/users/ada").refusal == (404, 2005, "basket_not_found")
    other_partner.place("p1", 1)
    assert api.basket()["checkout"] == [{"productId": "p1", "count": 2, "stocked": None}]


# --- Versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        ({}, "2025-09-15"),
        ({"X_API_Version": "2025-07-21"}, "2025-07-21"),
        ({"x_jay_api_version": "2025-07-21"}, "2025-07-21"),
        ({"x_jay_api_version": "2025-07-21", "X_API_Version": "2025-09-15"}, "2025-07-21"),
        ({"x_jay_api_version": "2025-09-15", "X_API_Version": "1999-01-01"}, "2025-09-15"),
    ],
)
def test_the_answer_names_the_version_that_was_used(api: Api, headers: dict[str, str], used: Any) -> None:
    for path, status in (("/baskets/users/ada", 200), ("/baskets/users/ada/checkout/sessions/0", 404), ("/nowhere", 404)):
        answer = api.get(path, **headers)
        assert (answer.status, answer.headers["X-API-Version"]) == (status, used)


@pytest.mark.parametrize("version", ["2024-01-01", "v2", "2025-09-15 ,x", "2025-9-15", "", "ä", "\x00", "x" * 10_000])
@pytest.mark.parametrize("name", ["x_jay_api_version", "X_API_Version"])
def test_an_unknown_version_is_refused_before_any_work(api: Api, version: str, name: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        answer = api.get("/baskets/users/ada", **{name: version})
    assert answer.refusal == (406, 406, "version_unsupported")
    assert answer.headers["X-API-Version"] == "2025-09-15"
