"""Guests: an API key creates them, and a token of the service identifies them. The tests forge tokens themselves."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from baskets.domain.actors import Actor
from baskets.models import Event
from tests.api.conftest import Api, PassTime, Sells, Unchanged, assert_as_published

GUESTS = "/baskets/guests"
KEYS = "/baskets/.well-known/jwks.json"
TOKEN_INVALID = (401, 2002, "token_invalid")
OPERATOR = Actor.system("tests")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    for number in range(1, 23):
        sells(f"p{number}")


def as_guest(app: Api, guest: Any) -> Api:
    """Return the app with the token of a guest."""
    return Api(app.key, headers={"Authorization": f"Bearer {guest['jwt']}"})


def published() -> Any:
    response = Client().get(KEYS)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.headers["Cache-Control"] == "public, max-age=60"
    assert_as_published(path=KEYS, method="GET", status=200, body=response.json(), headers=response.headers)
    return response.json()


def test_guest_of_a_client_key_can_use_every_basket_call(app: Api) -> None:
    guest = app.post(GUESTS, {"products": [{"productId": "p1", "count": 2}, {"productId": "p2"}]}).data
    assert set(guest) == {"userId", "jwt", "expires", "basket"}
    assert guest["basket"]["cart"] == [{"productId": "p1", "count": 2}, {"productId": "p2", "count": 1}]
    user, browser = guest["userId"], as_guest(app, guest)
    assert browser.basket(user) == guest["basket"]
    assert browser.place("p3", 3, user=user).status == 200
    assert browser.patch(f"/baskets/users/{user}/products/p1", {"count": 4}).status == 200
    order_no = browser.start(user=user).data["orderNo"]
    assert browser.finish(True, user=user).data["cart"] == []
    assert browser.session(order_no, user=user).data["status"] == "ORDERED"
    assert browser.delete(f"/baskets/users/{user}").status == 200


@pytest.mark.parametrize("body", [{}, {"products": []}, {"products": None}, {"else": 1}])
def test_guest_may_begin_without_products(api: Api, body: Any) -> None:
    guest = api.post(GUESTS, body).data
    assert guest["basket"] | {"expires": "", "lastChanged": ""} == {
        "expires": "",
        "lastChanged": "",
        "cart": [],
        "saved": [],
        "checkout": [],
    }
    assert guest["basket"]["expires"] == guest["expires"]
    assert re.fullmatch(r"guest-[0-9a-f]{32}", guest["userId"])


def test_missing_body_counts_as_an_empty_one(app: Api) -> None:
    assert app.post(GUESTS).status == 200
    assert app.post(f"/v2{GUESTS}").status == 200


def test_counts_of_the_same_product_add_up_at_its_first_position(app: Api) -> None:
    products = [("p2", 1), ("p1", 2), ("p2", 3), ("p1", 997)]
    body = {"products": [{"productId": product, "count": count} for product, count in products]}
    assert app.post(GUESTS, body).data["basket"]["cart"] == [{"productId": "p2", "count": 4}, {"productId": "p1", "count": 999}]


def test_count_means_the_same_as_for_a_user(app: Api) -> None:
    """0 saves for later, null and absent are 1. Counts of the same product add up first."""
    products = [("p1", 0), ("p2", None), ("p3", 2.0), ("p4", 0), ("p5", 0), ("p4", 3), ("p5", 0)]
    answer = app.post(GUESTS, {"products": [{"productId": product, "count": count} for product, count in products]})
    basket = answer.data["basket"]
    assert basket["cart"] == [{"productId": "p2", "count": 1}, {"productId": "p3", "count": 2}, {"productId": "p4", "count": 3}]
    assert basket["saved"] == [{"productId": "p1", "count": 1}, {"productId": "p5", "count": 1}]
    assert as_guest(app, answer.data).basket(answer.data["userId"]) == basket
    assert Event.objects.get().data == {"cart": basket["cart"], "saved": basket["saved"]}


def test_guest_has_the_same_limit_of_saved_items(app: Api, settings: Any, unchanged: Unchanged) -> None:
    settings.BASKETS_SAVED_LIMIT = 2
    unchanged()
    answer = app.post(GUESTS, {"products": [{"productId": f"p{number}", "count": 0} for number in range(1, 4)]})
    assert answer.refusal == (422, 422, "saved_full")
    assert answer.body["data"] == NO_BASKET


def test_the_timeline_begins_with_the_guest(app: Api) -> None:
    app.post(f"{GUESTS}?provider_id=netflix", {"products": [{"productId": "p1"}]})
    event = Event.objects.get()
    assert (event.kind, event.number, event.revision) == ("guest_created", 1, 1)
    assert (event.actor, event.tracking) == (str(app.key).split("_")[1], {"provider_id": "netflix"})
    assert event.data == {"cart": [{"productId": "p1", "count": 1}], "saved": []}


def test_every_call_creates_another_guest_despite_an_idempotency_key(app: Api) -> None:
    answers = [app.post(GUESTS, {}, Idempotency_Key="same") for _ in range(3)]
    assert len({answer.data["userId"] for answer in answers}) == 3
    assert not any("Idempotency-Replayed" in answer.headers for answer in answers)
    assert app.post(GUESTS, {}, Idempotency_Key="ä b").status == 200


def test_changes_do_not_prolong_the_basket_of_a_guest(app: Api, pass_time: PassTime) -> None:
    guest = app.post(GUESTS, {}).data
    user = guest["userId"]
    pass_time(timedelta(days=29), user=user)
    ends = as_guest(app, guest).basket(user)["expires"]
    assert as_guest(app, guest).place("p1", user=user).data["expires"] == ends
    pass_time(timedelta(days=1, seconds=1), user=user)
    assert as_guest(app, guest).basket(user) == {"cart": [], "saved": [], "checkout": []}


NO_BASKET = {"cart": [], "saved": [], "checkout": []}


@pytest.mark.parametrize(
    ("products", "refusal", "fields"),
    [
        ([{"productId": "p1"}, {"productId": "nothing"}], (404, 404, "product_unknown"), None),
        ([{"productId": f"p{number}"} for number in range(1, 22)], (422, 422, "cart_full"), None),
        ("p1", (422, 3002, "validation_failed"), {"products"}),
        ({}, (422, 3002, "validation_failed"), {"products"}),
        (["p1"], (422, 3002, "validation_failed"), {"products[0]"}),
        ([None], (422, 3002, "validation_failed"), {"products[0]"}),
        ([{"productId": "p1"}, {"count": 1}], (422, 3002, "validation_failed"), {"products[1].productId"}),
        ([{"productId": 1}], (422, 3002, "validation_failed"), {"products[0].productId"}),
        ([{"productId": "a\nb"}], (422, 3002, "validation_failed"), {"products[0].productId"}),
        ([{"productId": "x" * 256}], (422, 3002, "validation_failed"), {"products[0].productId"}),
        ([{"productId": "", "count": "2"}], (422, 3002, "validation_failed"), {"products[0].productId", "products[0].count"}),
        *(
            ([{"productId": "p1", "count": count}], (422, 3002, "validation_failed"), {"products[0].count"})
            for count in (-1, 1000, 1.5, True, "1", 2**63)
        ),
        ([{"productId": "p1", "count": 500}] * 2, (422, 3002, "validation_failed"), {"products"}),
    ],
)
def test_guest_with_an_invalid_product_is_not_created(app: Api, products: Any, refusal: Any, fields: Any, unchanged: Unchanged) -> None:
    unchanged()
    answer = app.post(GUESTS, {"products": products})
    assert answer.refusal == refusal
    if fields is not None:
        assert answer.fields == fields
    if refusal[1] == 422:
        assert answer.body["data"] == NO_BASKET


def test_bearer_token_of_a_guest_call_must_be_valid(app: Api, unchanged: Unchanged) -> None:
    guest = app.post(GUESTS, {}).data
    assert as_guest(app, guest).post(GUESTS, {}).status == 200
    unchanged()
    assert app.post(GUESTS, {}, Authorization="Bearer x").refusal == TOKEN_INVALID
