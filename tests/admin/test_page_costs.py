"""Pages cost as many statements with many rows as with few."""

from collections.abc import Callable

import pytest
from django.contrib.admin import AdminSite
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from baskets.domain.access import api_keys, partners
from baskets.models import Product
from tests.admin.auth.test_access import MODELS, list_of
from tests.admin.conftest import Shop
from tests.admin.pages import page
from tests.factories import TESTER

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows_of(shop: Shop) -> Callable[[int], None]:
    """Fill every list with so many rows more."""
    shop.product("lamp", 500)

    def fill(number: int) -> None:
        for place in range(number):
            count = Product.objects.count()
            product = shop.product(f"p-{count}", 5)
            api_keys.issue_api_key(partner_name=partners.create_partner(name=f"partner {count} {place}", actor=TESTER).name, actor=TESTER)
            buyer = shop.buyer(f"user {count} {place}")
            buyer.place("lamp")
            buyer.start()
            buyer.pay_after_abort()
            buyer.start()
            buyer.place(product)

    return fill


# What no shop of these tests fills with rows.
FILLED_ELSEWHERE = {
    *("BrokenRule", "Comfort", "DeskEntry", "GuestToken", "IdempotencyRecord", "SigningKey", "TokenIssuer", "Transfer", "WebhookEndpoint"),
}


def statements_of(client: Client) -> dict[str, int]:
    """The number of statements that each list needs, once the processes have what they keep."""
    counts = {}
    for model in MODELS:
        client.get(list_of(model))
        with CaptureQueriesContext(connection) as queries:
            client.get(list_of(model))
        counts[model.__name__] = len(queries)
    return counts


def test_each_list_costs_the_same_with_five_rows_and_with_thirty(rows_of: Callable[[int], None], viewer: Client) -> None:
    rows_of(5)
    few = statements_of(viewer)
    rows_of(25)
    for model in MODELS:
        assert model.__name__ in FILLED_ELSEWHERE or viewer.get(list_of(model)).content.decode().count("<tr>") > 30, model
    assert statements_of(viewer) == few
    assert max(few.values()) <= 12


def test_a_basket_page_costs_the_same_however_full(shop: Shop, viewer: Client) -> None:
    small, big = shop.buyer("small"), shop.buyer("big")
    for number in range(15):
        shop.product(f"p-{number}", 50)
    small.place("p-0")
    small.start()
    for _ in range(4):
        for number in range(15):
            big.place(f"p-{number}", 2)
        big.start()
        big.finish(False)
    counts = []
    for buyer in (small, big):
        with CaptureQueriesContext(connection) as queries:
            page(viewer, "basket", buyer.owner.basket_id)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 18


def test_a_product_page_costs_the_same_however_many_hold_it(shop: Shop, root: Client) -> None:
    shop.product("x", 50)
    counts = []
    for number in range(12):
        buyer = shop.buyer(f"user {number}")
        buyer.place("x")
        buyer.start()
        if number in (0, 11):
            with CaptureQueriesContext(connection) as queries:
                page(root, "product", "x")
            counts.append(len(queries))
    assert counts[0] == counts[1] <= 14


def test_only_pages_that_list_the_tables_ask_for_the_permissions_of_each(shop: Shop, root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(AdminSite, "_build_app_dict")
    assert "Baskets" in root.get(list_of(Product)).content.decode()
    with pytest.raises(AttributeError, match="_build_app_dict"):
        root.get("/admin/records/")
