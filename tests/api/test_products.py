"""Product details: the available pieces of many products in one statement."""

from datetime import timedelta
from typing import Any

import pytest

from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from baskets.models import Product
from tests.api.conftest import Api, PassTime, Sells

PATH = "/baskets/products/details"


def ask(api: Api, *ids: Any) -> Any:
    return api.post(PATH, list(ids)).data


def count(api: Api, product: str) -> Any:
    [found] = ask(api, product)["products"]
    return found["currentStockCount"], found["outOfStock"]


def test_product_is_shown_with_all_details(api: Api, sells: Sells) -> None:
    sells("p1", name="Shirt", brand="Jay", variant="M", main_product_id="p", price=1999, currency="EUR", unsold=7)
    sells("bare", name="Thing", price=None, currency="")
    assert ask(api, "bare", "nothing", "p1") == {
        "products": [
            {
                "productId": "bare", "name": "Thing", "brand": None, "variant": None, "mainProductIdentifier": None,
                "price": None, "currency": None, "currentStockCount": None, "outOfStock": False,
            },
            {
                "productId": "p1", "name": "Shirt", "brand": "Jay", "variant": "M", "mainProductIdentifier": "p",
                "price": 1999, "currency": "EUR", "currentStockCount": 7, "outOfStock": False,
            },
        ],
        "unknown": ["nothing"],
    }  # fmt: skip


def test_each_product_is_shown_once_in_the_requested_order(api: Api, sells: Sells) -> None:
    for product in ("a", "b", "c"):
        sells(product)
    answer = ask(api, "c", "x", "a", "c", "y", "x", "b", "a")
    assert [product["productId"] for product in answer["products"]] == ["c", "a", "b"]
    assert answer["unknown"] == ["x", "y"]


def test_unlisted_product_is_unknown(api: Api, sells: Sells) -> None:
    sells("p1", listed=False)
    assert ask(api, "p1") == {"products": [], "unknown": ["p1"]}


def test_no_ids_return_no_products(api: Api, db: None) -> None:
    assert ask(api) == {"products": [], "unknown": []}


def test_held_pieces_are_unavailable_until_the_hold_ends(api: Api, sells: Sells, pass_time: PassTime) -> None:
    sells("p1", unsold=3)
    assert count(api, "p1") == (3, False)
    api.place("p1", 3)
    api.start()
    assert count(api, "p1") == (0, True)
    pass_time(timedelta(minutes=31))
    assert count(api, "p1") == (3, False)


def test_shortfall_reduces_the_pieces_of_lapsed_holds(api: Api, sells: Sells, pass_time: PassTime) -> None:
    sells("p1", unsold=3)
    api.place("p1", 3)
    api.start()
    supply.set_unsold(reports={"p1": 1}, as_of=None, reason="feed", actor=Actor.system("test"))
    assert count(api, "p1") == (0, True)
    pass_time(timedelta(minutes=31))
    assert count(api, "p1") == (1, False)


def test_product_that_became_unlimited_has_no_count(api: Api, sells: Sells) -> None:
    sells("p1", unsold=0)
    assert count(api, "p1") == (0, True)
    supply.set_unsold(reports={"p1": None}, as_of=None, reason="feed", actor=Actor.system("test"))
    assert count(api, "p1") == (None, False)


@pytest.mark.parametrize("amount", [1, 100])
def test_any_number_of_products_costs_one_statement(api: Api, amount: int, django_assert_num_queries: Any) -> None:
    Product.objects.bulk_create(Product(product_id=f"p{number}", name="x") for number in range(amount))
    with django_assert_num_queries(2):  # One of them reads the key.
        answer = api.post(PATH, [f"p{number}" for number in range(amount)])
    assert len(answer.data["products"]) == amount


@pytest.mark.parametrize("body", [{}, {"ids": []}, "p1", None, 1, True])
def test_body_must_be_an_array(api: Api, body: Any) -> None:
    answer = api.post(PATH, body)
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"body"}


def test_missing_body_is_refused(api: Api) -> None:
    assert api.post(PATH).fields == {"body"}


def test_more_than_100_ids_are_refused(api: Api) -> None:
    assert len(ask(api, *(f"p{number}" for number in range(100)))["unknown"]) == 100
    assert api.post(PATH, ["p"] * 101).fields == {"body"}


@pytest.mark.parametrize("bad", [1, None, True, "", "x" * 256, "a\nb", [], {}, "\u2028"])
def test_every_invalid_id_is_named(api: Api, bad: Any) -> None:
    assert api.post(PATH, ["ok", bad, "ok", bad]).fields == {"body[1]", "body[3]"}
