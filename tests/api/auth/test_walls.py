"""Every endpoint against everybody who may come: generated from the URL table, so that no new endpoint is forgotten.

And the walls between partners: no response reveals whether another partner's basket exists.
"""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from baskets.api.auth import api_keys as auth_api_keys
from baskets.domain.access import api_keys
from baskets.domain.actors import Actor
from baskets.models import ApiKey, Basket
from tests.api.conftest import Api, Issue, Sells, Unchanged
from tests.api.endpoints import CALLS, ENDPOINTS, OF_A_USER, UNDER_V2, AccessLevel, Endpoint, url_table

MISSING = (401, 401, "api_key_missing")
INVALID = (401, 401, "api_key_invalid")
TOKEN_MISSING = (401, 2002, "token_missing")
TOKEN_INVALID = (401, 2002, "token_invalid")
SERVER_KEY_REQUIRED = (403, 403, "server_key_required")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")
    sells("p2", unsold=9)


# --- The table ---------------------------------------------------------------------------------


def test_every_url_pattern_is_listed() -> None:
    there = list(url_table())
    assert len(set(there)) == len(there)
    assert {(endpoint.method, endpoint.route) for endpoint in ENDPOINTS} == {at for at in there if not at[1].startswith("v2/")}


def test_only_the_calls_of_the_api_exist_under_v2() -> None:
    behind_v2 = {(method, route.removeprefix("v2/")) for method, route in url_table() if route.startswith("v2/")}
    assert behind_v2 == {(endpoint.method, endpoint.route) for endpoint in UNDER_V2}


# --- Who gets in --------------------------------------------------------------------------------


@pytest.fixture
def bad_keys(issue: Issue) -> dict[str, str]:
    """One key of each kind that must not get in."""
    revoked = issue()
    api_keys.revoke_api_key(prefix=revoked.split("_")[1], reason="stolen", actor=Actor.system("test"))
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
        "twice": f"{good},{good}",
        "malformed": "let me in",
        "not ASCII": "bk_ключ_секрет",
        "NUL": "bk_\x00",
        "percent": "%00%ff",
        "surrogate": "bk_\udcff",
        "huge": "bk_" + "a" * 100_000,
    }


@pytest.mark.parametrize("endpoint", CALLS, ids=str)
def test_call_without_a_valid_key_is_refused(endpoint: Endpoint, bad_keys: dict[str, str], unchanged: Unchanged) -> None:
    unchanged()
    for prefix in ("", "/v2"):
        at = Endpoint(method=endpoint.method, route=endpoint.route, path=prefix + endpoint.path, body=endpoint.body)
        answer = at.call(Api(None))
        assert answer.refusal == MISSING
        assert answer.headers["WWW-Authenticate"].startswith("ApiKey ")
        for kind, key in bad_keys.items():
            assert at.call(Api(key)).refusal == INVALID, kind


@pytest.mark.parametrize("endpoint", CALLS, ids=str)
def test_client_key_without_a_token_works_only_without_a_user_in_the_path(endpoint: Endpoint, app: Api) -> None:
    answer = endpoint.call(app)
    if endpoint.access in (AccessLevel.USER, AccessLevel.KNOWN_USER):
        assert answer.refusal == TOKEN_MISSING
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    elif endpoint.access is AccessLevel.SERVER:
        assert answer.refusal == SERVER_KEY_REQUIRED
    else:
        assert answer.status == 200


@pytest.mark.parametrize("endpoint", CALLS, ids=str)
def test_malformed_token_is_refused_with_every_key(endpoint: Endpoint, app: Api, api: Api, unchanged: Unchanged) -> None:
    unchanged()
    for caller in (api, app):
        for token in ("x", "", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."):
            answer = endpoint.call(caller, Authorization=f"Bearer {token}")
            assert answer.refusal in ([SERVER_KEY_REQUIRED, TOKEN_INVALID] if endpoint.access is AccessLevel.SERVER else [TOKEN_INVALID])


@pytest.mark.parametrize("endpoint", CALLS, ids=str)
def test_server_key_is_accepted(endpoint: Endpoint, api: Api) -> None:
    answer = endpoint.call(api)
    if endpoint.access is AccessLevel.KNOWN_USER:
        assert answer.refusal == TOKEN_MISSING
    else:
        assert answer.status not in {401, 403, 405}


# --- Equal work ---------------------------------------------------------------------------------


def test_all_kinds_of_invalid_keys_get_the_same_response_for_the_same_work(
    bad_keys: dict[str, str], unchanged: Unchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    unchanged()
    done: list[str] = []

    def counted(name: str, function: Any) -> Any:
        return lambda *given: (done.append(name), function(*given))[1]

    monkeypatch.setattr(auth_api_keys, "digest_key", counted("digest", auth_api_keys.digest_key))
    monkeypatch.setattr(auth_api_keys.hmac, "compare_digest", counted("comparison", auth_api_keys.hmac.compare_digest))
    answers, work = set(), set()
    for key in bad_keys.values():
        done.clear()
        with CaptureQueriesContext(connection) as captured:
            answer = Api(key).get("/baskets/users/ada", X_Request_ID="same")
        assert answer.refusal == INVALID
        answers.add((answer.raw, tuple(sorted(answer.headers.items()))))
        work.add((tuple(done), tuple(query["sql"].partition("prefix")[0] for query in captured)))
    assert len(answers) == 1
    [(steps, statements)] = work
    assert steps == ("digest", "comparison")
    # The look-up of the key, and the count of the failure.
    assert len(statements) == 2


# --- The walls between partners ------------------------------------------------------------------


@pytest.fixture
def order_no(api: Api) -> str:
    """Ada of our partner has everything that can be had, and one checkout that was ordered and one that is active."""
    api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="known")
    api.start()
    api.finish(True)
    api.place("p2", 1)
    number: str = api.start().data["orderNo"]
    api.place("p1", 4)
    api.post("/baskets/users/ada/products/p2", {"count": 0})
    return number


def seen(answer: Any, *, user: str, order: str) -> Any:
    """What a caller learns from a response, without its own input, times and random values."""
    text = answer.raw.decode().replace(order, "ORDER").replace(user, "USER")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r'"orderNo":"[^"]+"', '"orderNo":"ORDER"', text)
    headers = {name: value for name, value in answer.headers.items() if name not in {"X-Request-ID", "Content-Length"}}
    return answer.status, headers, json.loads(text)


def shape(value: Any) -> Any:
    """What kind of thing an answer is, where its content is drawn by lot."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value)


@pytest.mark.parametrize("endpoint", OF_A_USER, ids=str)
@pytest.mark.parametrize("key", [None, "known", "unknown"])
def test_basket_of_another_partner_looks_like_a_missing_one(
    endpoint: Endpoint, key: str | None, order_no: str, api: Api, other_partner: Api
) -> None:
    """Response, headers and statements are equal for a user of the first partner and for an unknown user."""
    headers = {"Idempotency_Key": key} if key and endpoint.method != "GET" else {}
    other_partner.basket("unknown")  # Now its key is cached, and each call verifies it in the same way.
    before = api.basket(), list(Basket.objects.filter(user_id="ada").exclude(partner__name="Other").values())
    found, work = [], []
    for user, order in (("ada", order_no), ("eve", "7K3M-9QXT-2WBD-H4VA")):
        with CaptureQueriesContext(connection) as captured:
            answer = endpoint.call(other_partner, user=user, order=order, **headers)
        result = seen(answer, user=user, order=order)
        found.append((*result[:2], shape(result[2])) if endpoint.secret and answer.status == 200 else result)
        work.append([re.sub(r'"s\d+_x\d+"', "", query["sql"].split("'")[0]) for query in captured])
    assert found[0] == found[1]
    assert work[0] == work[1]
    assert (api.basket(), list(Basket.objects.filter(user_id="ada").exclude(partner__name="Other").values())) == before


def test_order_number_of_another_partner_looks_like_an_unknown_one(order_no: str, api: Api, other_partner: Api) -> None:
    other_partner.place("p1")
    for number in (order_no, "7K3M-9QXT-2WBD-H4VA"):
        assert other_partner.finish(True, order_no=number).refusal == (422, 422, "order_unknown")
        assert other_partner.session(number).refusal == (404, 404, "order_unknown")
    assert api.session(order_no).data["status"] == "ACTIVE"


def test_idempotency_keys_of_partners_are_separate(api: Api, other_partner: Api) -> None:
    ours = api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="same")
    theirs = other_partner.post("/baskets/users/ada/products/p1", {"count": 5}, Idempotency_Key="same")
    assert [answer.data["cart"][0]["count"] for answer in (ours, theirs)] == [2, 5]
    assert "Idempotency-Replayed" not in theirs.headers
    again = other_partner.post("/baskets/users/ada/products/p1", {"count": 5}, Idempotency_Key="same")
    assert (again.raw, again.headers["Idempotency-Replayed"]) == (theirs.raw, "true")


def test_stock_is_shown_alike_to_all_partners(order_no: str, api: Api, other_partner: Api) -> None:
    """The catalog is shared: what one partner's checkout holds is missing for the other, by number and not by name."""
    assert api.post("/baskets/products/details", ["p2"]).raw == other_partner.post("/baskets/products/details", ["p2"]).raw
