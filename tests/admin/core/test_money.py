"""Amounts in the admin: major units with the decimals of the currency, alike on pages and, without grouping, in files."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from baskets.admin.core import display, money
from tests.admin.conftest import Shop


@pytest.mark.parametrize(
    ("minor_units", "currency", "page", "file"),
    [
        (2900, "EUR", "29.00 EUR", "29.00 EUR"),
        (5, "EUR", "0.05 EUR", "0.05 EUR"),
        (0, "USD", "0.00 USD", "0.00 USD"),
        (123456789, "GBP", "1,234,567.89 GBP", "1234567.89 GBP"),
        (1500, "JPY", "1,500 JPY", "1500 JPY"),
        (1234567, "KWD", "1,234.567 KWD", "1234.567 KWD"),
        (123, "XYZ", "1.23 XYZ", "1.23 XYZ"),
        (2**63 - 1, "EUR", "92,233,720,368,547,758.07 EUR", "92233720368547758.07 EUR"),
        (None, "EUR", display.NOTHING, display.NOTHING),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(minor_units: int | None, currency: str, page: str, file: str) -> None:
    assert display.money(minor_units, currency).replace("\u00a0", " ") == page
    with display.for_files():
        assert display.money(minor_units, currency) == file


@pytest.mark.parametrize(("language", "written"), [("de", "2.900,00 EUR"), ("en-gb", "2,900.00 EUR"), ("xx-unknown", "2,900.00 EUR")])
def test_an_amount_is_grouped_as_the_language_of_the_page_does(language: str, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money, "get_language", lambda: language)
    assert display.money(290000, "EUR").replace("\u00a0", " ") == written
    assert translation.get_language()


@pytest.mark.django_db
def test_pages_and_lists_show_major_units_and_totals(shop: Shop, root: Client) -> None:
    shop.product("lamp", 9, price=2900, currency="EUR")
    shop.product("song", price=99, currency="EUR")
    shop.product("yen", 9, price=1500, currency="JPY")
    buyer = shop.buyer("ann")
    buyer.place("lamp", 2)
    buyer.place("song")
    session = buyer.start().session
    buyer.place("lamp", 3)
    addresses = [
        reverse("admin:baskets_basket_change", args=[session.basket_id]),
        reverse("admin:baskets_checkoutsession_change", args=[session.pk]),
        reverse("admin:baskets_product_change", args=["lamp"]),
        reverse("admin:baskets_product_changelist"),
    ]
    bodies = [root.get(address).content.decode().replace("\u00a0", " ") for address in addresses]
    basket, detail, lamp, products = bodies
    for body in bodies:
        assert "minor units" not in body
    assert basket.count(">58.99 EUR<") == 1
    assert basket.count(">87.00 EUR<") == 1
    assert "58.99 EUR" in detail
    assert "29.00 EUR" in lamp
    assert all(price in products for price in ("29.00 EUR", "0.99 EUR", "1,500 JPY"))
    buyer.place("yen")
    mixed = root.get(addresses[0]).content.decode()
    assert mixed.count(f">{display.NOTHING}</td></tr></tfoot>") == 1, "a cart of two currencies has no total"
