"""The basket and its items over HTTP: the exact response to each call."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import Api, PassTime, Sells, Unchanged

EMPTY = {"cart": [], "saved": [], "checkout": []}
BASKET_404 = (404, 2005, "basket_not_found")
ITEM_404 = (404, 2006, "product_not_in_basket")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def lists(data: Any) -> Any:
    return {name: data[name] for name in ("cart", "saved", "checkout")}


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")
    sells("p2", unsold=5)


def test_get_without_a_basket_shows_an_empty_one_and_creates_nothing(api: Api, unchanged: Unchanged) -> None:
    unchanged()
    assert api.basket() == EMPTY


def test_basket_times_are_in_whole_seconds(api: Api) -> None:
    data = api.place("p1", 2).data
    assert lists(data) == EMPTY | {"cart": [{"productId": "p1", "count": 2}]}
    assert TIME.fullmatch(data["expires"])
    assert TIME.fullmatch(data["lastChanged"])
    lifetime = datetime.fromisoformat(data["expires"]) - datetime.fromisoformat(data["lastChanged"])
    assert lifetime == timedelta(days=30)
    assert api.basket() == data


def test_the_v2_path_is_the_same_path(api: Api) -> None:
    api.post("/v2/baskets/users/ada/products/p1", {"count": 2})
    assert api.get("/v2/baskets/users/ada").data == api.basket()
    assert api.basket()["cart"] == [{"productId": "p1", "count": 2}]


def test_variant_and_main_product_are_shown_if_set(api: Api, sells: Sells) -> None:
    sells("p3-m", variant="M", main_product_id="p3")
    assert api.place("p3-m").data["cart"] == [{"productId": "p3-m", "count": 1, "variant": "M", "mainProductIdentifier": "p3"}]


@pytest.mark.parametrize("body", [{}, None])
def test_post_without_a_count_places_one_piece(api: Api, body: Any) -> None:
    path = "/baskets/users/ada/products/p1"
    answer = api.post(path) if body is None else api.post(path, body)
    assert answer.data["cart"] == [{"productId": "p1", "count": 1}]


def test_second_post_overwrites_the_count_and_keeps_the_position(api: Api) -> None:
    api.place("p1", 2)
    api.place("p2", 1)
    assert api.place("p1", 3).data["cart"] == [{"productId": "p1", "count": 3}, {"productId": "p2", "count": 1}]


def test_zero_saves_for_later_and_another_count_moves_back(api: Api) -> None:
    api.place("p1", 2)
    assert lists(api.place("p1", 0).data) == EMPTY | {"saved": [{"productId": "p1", "count": 2}]}
    assert lists(api.place("p1", 4).data) == EMPTY | {"cart": [{"productId": "p1", "count": 4}]}


def test_product_saved_without_a_cart_item_has_a_count_of_one(api: Api) -> None:
    assert api.place("p1", 0).data["saved"] == [{"productId": "p1", "count": 1}]


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("count", [1, 0])
def test_product_is_removed_in_three_ways(api: Api, method: str, count: Any) -> None:
    api.place("p1", count)
    answer = api.request(method, "/baskets/users/ada/products/p1", {"count": -1})
    assert lists(answer.data) == EMPTY


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_missing_product_cannot_be_removed(api: Api, method: str, unchanged: Unchanged) -> None:
    api.place("p2")
    unchanged()
    assert api.request(method, "/baskets/users/ada/products/p1", {"count": -1}).refusal == ITEM_404


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_product_cannot_be_removed_without_a_basket(api: Api, method: str, unchanged: Unchanged) -> None:
    unchanged()
    assert api.request(method, "/baskets/users/ada/products/p1", {"count": 1}).refusal == ITEM_404


def test_product_in_checkout_cannot_be_changed_or_removed(api: Api, unchanged: Unchanged) -> None:
    api.place("p2")
    api.start()
    unchanged()
    assert api.patch("/baskets/users/ada/products/p2", {"count": 2}).refusal == ITEM_404
    assert api.delete("/baskets/users/ada/products/p2").refusal == ITEM_404


def test_patch_overwrites_the_count(api: Api) -> None:
    api.place("p1", 2)
    assert api.patch("/baskets/users/ada/products/p1", {"count": 7}).data["cart"] == [{"productId": "p1", "count": 7}]
    assert api.patch("/baskets/users/ada/products/p1", {"count": 0}).data["saved"] == [{"productId": "p1", "count": 7}]


@pytest.mark.parametrize("body", [{"count": None}, {}, None])
def test_patch_without_a_count_changes_nothing(api: Api, body: Any, unchanged: Unchanged) -> None:
    before = api.place("p1", 2).data
    unchanged()
    path = "/baskets/users/ada/products/p1"
    assert (api.patch(path) if body is None else api.patch(path, body)).data == before


def test_unknown_and_unlisted_products_cannot_be_placed(api: Api, sells: Sells, unchanged: Unchanged) -> None:
    sells("gone", listed=False)
    unchanged()
    for product in ("never", "gone"):
        assert api.place(product).refusal == (404, 404, "product_unknown")


def test_21st_item_is_refused_with_the_basket(api: Api, sells: Sells, unchanged: Unchanged) -> None:
    for number in range(20):
        sells(f"n{number}")
        api.place(f"n{number}")
    before = api.basket()
    unchanged()
    answer = api.place("p1")
    assert answer.refusal == (422, 422, "cart_full")
    assert answer.body["data"] == before


def test_201st_saved_item_is_refused(api: Api, settings: Any, unchanged: Unchanged) -> None:
    settings.BASKETS_SAVED_LIMIT = 1
    before = api.place("p1", 0).data
    unchanged()
    answer = api.place("p2", 0)
    assert answer.refusal == (422, 422, "saved_full")
    assert answer.body["data"] == before


def test_placing_never_checks_stock(api: Api) -> None:
    assert api.place("p2", 999).data["cart"] == [{"productId": "p2", "count": 999}]


def test_deleted_basket_looks_empty_until_a_product_is_placed(api: Api) -> None:
    api.place("p1", 2)
    assert api.delete("/baskets/users/ada").data == EMPTY
    assert api.basket() == EMPTY
    assert api.place("p2").data["cart"] == [{"productId": "p2", "count": 1}]


def test_missing_basket_cannot_be_deleted(api: Api, unchanged: Unchanged) -> None:
    api.place("p1")
    api.delete("/baskets/users/ada")
    unchanged()
    assert api.delete("/baskets/users/ada").refusal == BASKET_404
    assert api.delete("/baskets/users/bob").refusal == BASKET_404


def test_expired_basket_counts_as_absent_before_the_sweep(api: Api, pass_time: PassTime, unchanged: Unchanged) -> None:
    api.place("p1")
    pass_time(timedelta(days=30, seconds=1))
    unchanged()
    assert api.basket() == EMPTY
    assert api.delete("/baskets/users/ada").refusal == BASKET_404


def test_basket_in_checkout_cannot_be_deleted(api: Api, unchanged: Unchanged) -> None:
    api.place("p2", 2)
    started = api.start().data
    unchanged()
    answer = api.delete("/baskets/users/ada")
    assert answer.refusal == (423, 423, "checkout_active")
    assert answer.body["error"]["details"]["activeCheckout"] == {
        "orderNo": started["orderNo"],
        "expires": started["expires"],
    }
    assert answer.body["data"] == started["basket"]


def test_basket_with_a_lapsed_checkout_can_be_deleted(api: Api, pass_time: PassTime) -> None:
    api.place("p2", 2)
    api.start()
    pass_time(timedelta(minutes=31))
    assert api.delete("/baskets/users/ada").data == EMPTY


def test_unknown_fields_are_ignored(api: Api) -> None:
    answer = api.post("/baskets/users/ada/products/p1", {"count": 2, "colour": {"deep": [1, 2.5, None, "x"]}})
    assert answer.data["cart"] == [{"productId": "p1", "count": 2}]


@pytest.mark.parametrize("user", [".", "..", "%2e%2e", "a b", "a%20b", "%25FF", "ünï", "日本", "a'b\"c", "<script>", "%"])
def test_ids_are_percent_decoded_once(api: Api, user: str) -> None:
    path = f"/baskets/users/{user}"
    assert api.post(f"{path}/products/p1", {"count": 2}).data["cart"] == [{"productId": "p1", "count": 2}]
    assert api.get(path).data["cart"] == [{"productId": "p1", "count": 2}]


def test_doubly_encoded_id_is_another_user(api: Api) -> None:
    api.place("p1", user="a%2520b")
    assert api.basket("a%2520b")["cart"] != []
    assert api.basket("a%20b") == EMPTY


def test_user_ids_are_compared_to_the_letter(api: Api) -> None:
    api.place("p1", user="Ada")
    assert api.basket("ada") == EMPTY
    assert api.basket("Ada ") == EMPTY


def test_id_has_at_most_255_characters(api: Api) -> None:
    long = "ü" * 255
    assert api.place("p1", user=long).data["cart"] == [{"productId": "p1", "count": 1}]
    assert api.place("p1", user=long + "x").fields == {"userId"}


def test_responses_must_not_be_cached(api: Api) -> None:
    assert api.get("/baskets/users/ada").headers["Cache-Control"] == "no-store"


def test_head_equals_get_without_a_body(api: Api) -> None:
    answer = api.request("HEAD", "/baskets/users/ada")
    assert (answer.status, answer.raw) == (200, b"")
