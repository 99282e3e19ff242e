"""Idempotency-Key: one effect and one stored response, equal to the byte. Refusals are not stored."""

from datetime import timedelta
from typing import Any

import pytest

from baskets.api.views import baskets
from baskets.models import CheckoutSession, IdempotencyRecord, Partner
from tests.api.conftest import Api, Sells, Unchanged
from tests.time_travel import age_rows

REUSED = (422, 422, "idempotency_key_reused")
FINISH = "/baskets/users/ada/checkout/sessions/finish-active"


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1", unsold=5)
    sells("p2")


def calls(api: Api) -> Any:
    """One call of each kind, in an order in which all succeed."""
    place, start = "/baskets/users/ada/products/p1", "/baskets/users/ada/checkout/sessions"
    return [
        lambda key: api.post(place, {"count": 2}, Idempotency_Key=key),
        lambda key: api.patch(place, {"count": 3}, Idempotency_Key=key),
        lambda key: api.delete(place, Idempotency_Key=key),
        lambda key: api.post(place, {"count": 1}, Idempotency_Key=key),
        lambda key: api.post(start, {"language": "de"}, Idempotency_Key=key),
        lambda key: api.post(FINISH, {"ordered": False}, Idempotency_Key=key),
        lambda key: api.post(start + "?testMode=true", Idempotency_Key=key),
        lambda key: api.post(FINISH, {"ordered": True}, Idempotency_Key=key),
        lambda key: api.delete("/baskets/users/ada", Idempotency_Key=key),
    ]


@pytest.mark.parametrize("number", range(9))
def test_repeat_returns_the_stored_response_to_the_byte(api: Api, number: int, unchanged: Unchanged) -> None:
    for earlier in calls(api)[:number]:
        assert earlier(f"earlier-{id(earlier)}").status == 200
    call = calls(api)[number]
    first = call("the-key")
    assert first.status == 200
    assert "Idempotency-Replayed" not in first.headers
    unchanged()
    for _ in range(2):
        again = call("the-key")
        assert (again.status, again.raw) == (first.status, first.raw)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.headers["Content-Type"] == "application/json"


def test_stored_response_does_not_change_with_the_basket(api: Api) -> None:
    first = api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="k")
    api.place("p2")
    api.delete("/baskets/users/ada")
    assert api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="k").raw == first.raw
    assert api.basket()["cart"] == []


def test_the_v2_path_is_the_same_request(api: Api, unchanged: Unchanged) -> None:
    first = api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="k")
    unchanged()
    again = api.post("/v2/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="k")
    assert (again.raw, again.headers["Idempotency-Replayed"]) == (first.raw, "true")


def test_provider_and_tracking_do_not_make_another_request(api: Api, unchanged: Unchanged) -> None:
    path = "/baskets/users/ada/products/p1"
    first = api.post(path, {"count": 2}, Idempotency_Key="k")
    unchanged()
    again = api.post(path + "?provider_id=netflix", {"count": 2}, Idempotency_Key="k", X_JAY_Tracking="e30=")
    assert again.raw == first.raw


def test_test_mode_makes_another_request(api: Api, unchanged: Unchanged) -> None:
    api.place("p1")
    path = "/baskets/users/ada/checkout/sessions"
    first = api.post(path, Idempotency_Key="k")
    unchanged()
    assert api.post(path + "?testMode=false", Idempotency_Key="k").raw == first.raw
    answer = api.post(path + "?testMode=true", Idempotency_Key="k")
    assert answer.refusal == REUSED
    assert answer.body["data"] == api.basket()


PLACE = "/baskets/users/ada/products/p1"
SAME = [
    (PLACE, [b'{"count":2}', b'{ "count" : 2 }', b'\r\n{\t"count": 2.0}\n', b'{"count": 2e0}', b'{"count": 20E-1}', b'{"\\u0063ount": 2}']),
    (PLACE, [b"", b"{}", b" {\n} "]),
    (PLACE, [b'{"count": 2, "x": [1, "\\u00e9"]}', b'{"x":[1.0,"\xc3\xa9"],"count":2}']),
    (PLACE, [b'{"x": {"b": 2.50, "a": 1e400}}', b'{"x": {"a": 10e399, "b": 25e-1}}']),
    (PLACE, [b'{"x": "\\ud83d\\ude00\\u0000\\ud800"}', b'{"x": "\xf0\x9f\x98\x80\\u0000\\uD800"}']),
    (FINISH, [b'{"ordered": true, "orderNo": null}', b'{"orderNo":null,"ordered":true}']),
    (FINISH[: -len("/finish-active")], [b"", b"{}"]),
]


@pytest.mark.parametrize(("path", "bodies"), SAME)
def test_equivalent_body_is_the_same_request(api: Api, path: str, bodies: list[bytes], unchanged: Unchanged) -> None:
    api.place("p2")
    if path == FINISH:
        api.start()
    first = api.request("POST", path, raw=bodies[0], Idempotency_Key="k")
    assert first.status == 200
    unchanged()
    for raw in bodies:
        again = api.request("POST", path, raw=raw, Idempotency_Key="k")
        assert (again.status, again.raw, again.headers.get("Idempotency-Replayed")) == (200, first.raw, "true"), raw


DIFFERENT = [
    (b'{"count": 2}', b'{"count": 3}'),
    (b'{"count": 1}', b"{}"),
    (b'{"count": 2}', b'{"count": 2, "x": null}'),
    (b'{"x": 1}', b'{"x": true}'),
    (b'{"x": 0}', b'{"x": false}'),
    (b'{"x": 2}', b'{"x": "2"}'),
    (b'{"x": 2.5}', b'{"x": "2.5"}'),
    (b'{"x": 2.5}', b'{"x": 2.50000000000000000000000000001}'),
    (b'{"x": [1, 2]}', b'{"x": [2, 1]}'),
    (b'{"x": null}', b'{"x": "null"}'),
    (b'{"x": {"a": 1}}', b'{"x": ["a", 1]}'),
    (b'{"x": "e\\u0301"}', b'{"x": "\\u00e9"}'),
    (b'{"x": 1e400}', b'{"x": 1e401}'),
]


@pytest.mark.parametrize(("body", "other"), DIFFERENT)
def test_different_body_is_another_request(api: Api, body: bytes, other: bytes, unchanged: Unchanged) -> None:
    assert api.request("POST", PLACE, raw=body, Idempotency_Key="k").status == 200
    unchanged()
    assert api.request("POST", PLACE, raw=other, Idempotency_Key="k").refusal == REUSED


def test_other_spelling_of_the_order_number_is_another_request(api: Api, unchanged: Unchanged) -> None:
    """A program repeats the same bytes. What a person types is a new request, and needs a new key."""
    api.place("p1")
    order_no = api.start().data["orderNo"]
    first = api.finish(True, order_no=order_no, Idempotency_Key="k")
    unchanged()
    assert api.finish(True, order_no=order_no, Idempotency_Key="k").raw == first.raw
    assert api.finish(True, order_no=order_no.lower(), Idempotency_Key="k").refusal == REUSED


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/baskets/users/ada/products/p1", {"count": 2}),
        ("POST", "/baskets/users/ada/products/p2", {"count": 2}),
        ("POST", "/baskets/users/ada/products/p1", {"count": 3}),
        ("POST", "/baskets/users/ada/products/p1", {"count": 2, "x": 1}),
        ("DELETE", "/baskets/users/ada", {"count": 2}),
        ("POST", "/baskets/users/ada/checkout/sessions", {"count": 2}),
    ],
)
def test_other_request_with_the_same_key_is_refused(api: Api, method: str, path: str, body: Any, unchanged: Unchanged) -> None:
    before = api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="k").data
    unchanged()
    answer = api.request(method, path, body, Idempotency_Key="k")
    assert answer.refusal == REUSED
    assert answer.body["data"] == before


def test_idempotency_key_belongs_to_one_basket(api: Api, other_partner: Api) -> None:
    for caller, user in ((api, "ada"), (api, "bob"), (other_partner, "ada")):
        answer = caller.post(f"/baskets/users/{user}/products/p1", {"count": 2}, Idempotency_Key="k")
        assert answer.data["cart"] == [{"productId": "p1", "count": 2}]
        assert "Idempotency-Replayed" not in answer.headers


def test_refusal_is_not_stored(api: Api, sells: Sells) -> None:
    path = "/baskets/users/ada/products/new"
    assert api.post(path, Idempotency_Key="k").refusal == (404, 404, "product_unknown")
    assert IdempotencyRecord.objects.count() == 0
    sells("new")
    assert api.post(path, Idempotency_Key="k").status == 200


def test_failure_is_not_stored(api: Api, monkeypatch: pytest.MonkeyPatch, unchanged: Unchanged) -> None:
    unchanged()
    monkeypatch.setattr(baskets, "render_basket", lambda _: 1 / 0)
    answer = api.post("/baskets/users/ada/products/p1", Idempotency_Key="k")
    assert answer.refusal == (500, 3001, "internal_error")


def test_idempotency_key_expires_after_24_hours(api: Api, partner: Partner) -> None:
    path = "/baskets/users/ada/products/p1"
    api.post(path, {"count": 2}, Idempotency_Key="k")
    age_rows(timedelta(hours=24, seconds=1), IdempotencyRecord.objects.all())
    assert api.post(path, {"count": 3}, Idempotency_Key="k").data["cart"] == [{"productId": "p1", "count": 3}]


@pytest.mark.parametrize("key", ["a", "~", "!", "x" * 255, 'a"b', "a,b"])
def test_visible_ascii_key_is_accepted(api: Api, key: str) -> None:
    assert api.post("/baskets/users/ada/products/p1", Idempotency_Key=key).status == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ä", "\x00", "a\tb", "\x7f", "日本", "x" * 100_000])
def test_other_keys_are_refused(api: Api, key: str, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.post("/baskets/users/ada/products/p1", Idempotency_Key=key)
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"Idempotency-Key"}


def test_get_ignores_the_key(api: Api, unchanged: Unchanged) -> None:
    unchanged()
    assert api.get("/baskets/users/ada", Idempotency_Key="a b").status == 200


def test_repeat_after_a_lost_response_starts_no_second_checkout(api: Api) -> None:
    api.place("p1", 2)
    first = api.post("/baskets/users/ada/checkout/sessions", Idempotency_Key="start")
    assert api.post("/baskets/users/ada/checkout/sessions", Idempotency_Key="start").raw == first.raw
    assert CheckoutSession.objects.count() == 1
