"""Who gets in: keys, tokens, versions, and the walls between partners."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from baskets.domain import partners
from baskets.domain.actors import Actor
from baskets.models import ApiKey
from tests.api.conftest import Api, Issue, Sells, Unchanged

MISSING = (401, 401, "api_key_missing")
INVALID = (401, 401, "api_key_invalid")
TOKEN_MISSING = (401, 2002, "token_missing")
TOKEN_INVALID = (401, 2002, "token_invalid")
CALLS = [
    ("GET", "/baskets/users/ada"),
    ("DELETE", "/baskets/users/ada"),
    ("POST", "/baskets/users/ada/products/p1"),
    ("PATCH", "/baskets/users/ada/products/p1"),
    ("DELETE", "/baskets/users/ada/products/p1"),
    ("POST", "/baskets/users/ada/checkout/sessions"),
    ("POST", "/baskets/users/ada/checkout/sessions/finish-active"),
    ("GET", "/baskets/users/ada/checkout/sessions/0000"),
]


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("POST", "/baskets/products/details")])
@pytest.mark.parametrize("prefix", ["", "/v2"])
def test_every_call_needs_a_key(method: str, path: str, prefix: str, unchanged: Unchanged) -> None:
    unchanged()
    answer = Api(None).request(method, prefix + path)
    assert answer.refusal == MISSING
    assert answer.headers["WWW-Authenticate"].startswith("ApiKey ")


@pytest.fixture
def bad_keys(issue: Issue) -> Any:
    """One key of each kind that must not get in."""
    revoked = issue()
    partners.revoke_api_key(prefix=revoked.split("_")[1], actor=Actor.system("test"))
    expired = issue(expires_in=timedelta(days=1))
    row = ApiKey.objects.filter(prefix=expired.split("_")[1])
    row.update(created_at=row.get().created_at - timedelta(days=2), expires_at=row.get().expires_at - timedelta(days=2))
    good = issue()
    return {
        "unknown": f"bk_{'a' * 12}_{'0' * 64}",
        "revoked": revoked,
        "expired": expired,
        "wrong secret": good[:-4] + ("0000" if good[-4:] != "0000" else "1111"),
        "no secret": good[: good.rindex("_") + 1],
        "shouted": good.upper(),
        "padded": good + " x",
        "malformed": "let me in",
        "not ASCII": "bk_ключ_секрет",
        "NUL": "bk_\x00",
        "percent": "%00%ff",
        "surrogate": "bk_\udcff",
        "huge": "bk_" + "a" * 100_000,
    }


def test_bad_keys_of_all_kinds_get_one_answer_for_one_query(bad_keys: dict[str, str], unchanged: Unchanged) -> None:
    unchanged()
    answers, statements = set(), set()
    for key in bad_keys.values():
        with CaptureQueriesContext(connection) as captured:
            answer = Api(key).get("/baskets/users/ada", X_Request_ID="same")
        assert answer.refusal == INVALID
        answers.add((answer.raw, tuple(sorted(answer.headers.items()))))
        statements.add(len(captured))
    assert len(answers) == 1
    assert statements == {1}


def test_a_good_key_costs_one_query_as_well(api: Api) -> None:
    with CaptureQueriesContext(connection) as captured:
        api.get("/baskets/users/ada")
    assert len(captured) == 2


def test_a_key_with_an_end_date_works_until_then(issue: Issue) -> None:
    assert Api(issue(expires_in=timedelta(days=1))).get("/baskets/users/ada").status == 200


def test_a_revoked_key_stops_at_once(issue: Issue) -> None:
    key = issue()
    assert Api(key).get("/baskets/users/ada").status == 200
    partners.revoke_api_key(prefix=key.split("_")[1], actor=Actor.system("test"))
    assert Api(key).get("/baskets/users/ada").refusal == INVALID


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_client_key_needs_the_users_token(app: Api, method: str, path: str, unchanged: Unchanged) -> None:
    unchanged()
    answer = app.request(method, path)
    assert answer.refusal == TOKEN_MISSING
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Token x", "", "Bearerx y", "\x00"])
def test_other_schemes_are_no_token(app: Api, api: Api, authorization: str) -> None:
    assert app.get("/baskets/users/ada", Authorization=authorization).refusal == TOKEN_MISSING
    assert api.get("/baskets/users/ada", Authorization=authorization).status == 200


@pytest.mark.parametrize(
    "authorization",
    ["Bearer x", "bearer x", "BEARER  x", "Bearer", "Bearer ", "Bearer a b", "Bearer ä", "Bearer \x00",
     "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.", "Bearer " + "x" * 100_000],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/baskets/users/ada", "/baskets/products/details"])
def test_a_token_that_is_sent_is_checked_whatever_the_key(app: Api, api: Api, authorization: str, path: str, unchanged: Unchanged) -> None:
    unchanged()
    method = "GET" if "users" in path else "POST"
    for caller in (app, api):
        answer = caller.request(method, path, Authorization=authorization)
        assert answer.refusal == TOKEN_INVALID
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="baskets", error="invalid_token"'


def test_product_details_need_no_token(app: Api) -> None:
    assert app.post("/baskets/products/details", ["p1"]).data["unknown"] == []


def test_the_same_user_id_of_another_partner_is_another_user(api: Api, other: Api) -> None:
    api.place("p1", 2)
    api.start()
    assert other.basket() == {"cart": [], "saved": [], "checkout": []}
    assert other.finish(True).refusal == (422, 2005, "basket_not_found")
    assert other.delete("/baskets/users/ada").refusal == (404, 2005, "basket_not_found")
    other.place("p1", 1)
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
