"""The search of each list: by user, product, partner, key and order number, however it is typed."""

import re

import pytest
from django.test import Client

from baskets.domain.access import api_keys
from baskets.models import CheckoutSession
from tests.admin.conftest import Shop
from tests.admin.pages import search, users_in
from tests.factories import TESTER

pytestmark = pytest.mark.django_db


def test_search_finds_a_basket_by_all_that_customers_report(full_shop: Shop, viewer: Client) -> None:
    key, _ = api_keys.issue_api_key(partner_name=full_shop.partner.name, actor=TESTER)
    number = CheckoutSession.objects.get(basket_id=full_shop.buyer("ben").owner.basket_id).order_no
    assert users_in(search(viewer, "basket", "ann")) == {"ann"}
    assert users_in(search(viewer, "basket", "be")) == {"ben"}
    assert users_in(search(viewer, "basket", number)) == {"ben"}
    assert users_in(search(viewer, "basket", number[:9].lower())) == {"ben"}
    assert users_in(search(viewer, "basket", "lamp")) == {"ann", "ben", "cid"}
    assert users_in(search(viewer, "basket", full_shop.partner.name)) == {"ann", "ben", "cid"}
    assert users_in(search(viewer, "basket", key.prefix)) == {"ann", "ben", "cid"}
    for nothing in ("nn", "lam", "%", "_nn", "no such"):
        assert users_in(search(viewer, "basket", nothing)) == set()


@pytest.mark.parametrize("product_id", [" shirt", "shirt ", "\u00a0shirt", "   ", "a/b"])
def test_a_search_finds_an_older_id_with_blanks_as_it_is_typed(shop: Shop, viewer: Client, product_id: str) -> None:
    shop.product(product_id, name="The one", listed=False)
    shop.product("other", name="Another one")
    found = search(viewer, "product", product_id)
    assert ("The one" in found, "Another one" in found) == (True, False)
    assert "The one" in search(viewer, "product", "")


def test_a_search_finds_a_user_id_with_blanks_as_it_is_typed(full_shop: Shop, viewer: Client) -> None:
    buyer = full_shop.buyer(" eve")
    buyer.place("lamp")
    buyer.start()
    for model in ("basket", "checkoutsession"):
        for term, count in ((" eve", 1), ("eve", 0), (" ann ", 1), ("ann", 1)):
            assert search(viewer, model, term).count('<th class="field-') == count, (model, term)


ORDER_NO = "M0R1-7HB9-10QY-QWYP"


@pytest.mark.parametrize(
    "term",
    [ORDER_NO, "mor1 7hb9 ioqy qwyp", "MOR17HB9LOQYQWYP", "M0R1\u20137HB9\u201310QY\u2013QWYP", f"#{ORDER_NO}.", f"order {ORDER_NO}",
     f"Order no. {ORDER_NO}", f"order-number: {ORDER_NO}", f"ORDER #{ORDER_NO}", f"orderNo={ORDER_NO}", f"\ufeff{ORDER_NO}\u00a0",
     "M0R17", "mor1-7h", "order mor1", "order m 0 r 1 dash 7 h b 9 Minus 1 0 q y hyphen qwyp", "m0r1 dash 7h"],
    ids=ascii,
)  # fmt: skip
def test_every_search_finds_an_order_number_however_it_is_typed(full_shop: Shop, viewer: Client, term: str) -> None:
    basket_id = full_shop.buyer("ben").owner.basket_id
    CheckoutSession.objects.filter(basket_id=basket_id).update(order_no=ORDER_NO)
    for model in ("basket", "checkoutsession", "checkoutitem", "stockreservation", "attention", "event"):
        assert users_in(search(viewer, model, term)) == {"ben"}, model


@pytest.mark.parametrize(("term", "found"), [(ORDER_NO, 1), ("m0r1-7hb9-10qy", 2), ("ben", 3)])
def test_an_order_number_finds_the_rows_of_its_checkout_alone(full_shop: Shop, viewer: Client, term: str, found: int) -> None:
    ben = full_shop.buyer("ben")
    CheckoutSession.objects.filter(basket_id=ben.owner.basket_id).update(order_no=ORDER_NO)
    for number in ("M0R1-7HB9-10QY-0000", "ZZZZ-0000-0000-0000"):
        ben.place("lamp")
        session = ben.start().session
        ben.finish(False)
        CheckoutSession.objects.filter(pk=session.pk).update(order_no=number)
    for model in ("checkoutsession", "checkoutitem", "stockreservation"):
        listed = re.findall(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}", search(viewer, model, term).partition('id="result_list"')[2])
        assert len(set(listed)) == found, model


@pytest.mark.parametrize("term", ["#", ".", "\u2013", "order", "order #", "order M0R2", "M0R17HB910QYQWYPP", "0R17HB910QYQWYP"])
def test_what_is_no_order_number_finds_none(full_shop: Shop, viewer: Client, term: str) -> None:
    CheckoutSession.objects.filter(basket_id=full_shop.buyer("ben").owner.basket_id).update(order_no=ORDER_NO)
    for model in ("basket", "checkoutsession", "event"):
        assert users_in(search(viewer, model, term)) == set(), model


def test_a_search_finds_only_baskets_of_the_chosen_state(full_shop: Shop, viewer: Client) -> None:
    full_shop.buyer("ben").delete()
    assert users_in(search(viewer, "basket", "lamp", basket="shown")) == {"ann", "cid"}
    assert users_in(search(viewer, "basket", "lamp")) == {"ann", "ben", "cid"}
    assert users_in(search(viewer, "basket", "")) == {"ann", "cid"}
    assert users_in(search(viewer, "basket", "lamp", basket="hidden")) == {"ben"}
    assert users_in(search(viewer, "basket", "lamp", basket="all")) == {"ann", "ben", "cid"}
    assert users_in(search(viewer, "basket", "", checkout="active")) == {"cid"}
    full_shop.buyer("cid").wait(hours=1)
    assert users_in(search(viewer, "basket", "", checkout="lapsed")) == {"cid"}
    assert users_in(search(viewer, "basket", "", attention="open", basket="all")) == {"ben"}
