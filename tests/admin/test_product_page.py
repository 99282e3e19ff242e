"""The page of a product: why it is available or not, and who holds it, bought it and waits for it."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from baskets.models import CheckoutSession, StockReservation
from tests.admin.conftest import Shop, token
from tests.admin.pages import page, users_in

pytestmark = pytest.mark.django_db


def held(shop: Shop) -> Any:
    shop.product("x", 1)
    buyer = shop.buyer("holder")
    buyer.place("x")
    buyer.start()
    return buyer


@pytest.mark.measured
@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda shop: shop.product("x", None), "would get one: the product is unlimited"),
        (lambda shop: shop.product("x", listed=False), "would not get one: the product is unlisted"),
        (lambda shop: shop.product("x", 3), "would get one: 3 pieces are free"),
        (lambda shop: shop.product("x", 0), "would not get one: the shop has supplied no piece"),
        (
            held,
            "would not get one: the last 1 piece is held by active checkouts, of which the first",
        ),
        (lambda shop: held(shop).wait(hours=1), "would get one: no piece is free, but 1 piece is held by checkouts"),
        (lambda shop: held(shop).finish(True), "would not get one: all of the supply was sold, 1 piece"),
        (lambda shop: (held(shop), report(0)), "would not get one: the shop has reported 1 piece fewer"),
    ],
)
def test_a_product_page_says_why_it_is_or_is_not_available(
    build: Callable[[Shop], object], sentence: str, shop: Shop, viewer: Client
) -> None:
    build(shop)
    body = page(viewer, "product", "x")
    assert sentence in body
    assert "It does not add up" not in body


def report(unsold: int) -> None:
    supply.set_unsold(reports={"x": unsold}, as_of=None, reason="feed", actor=Actor.system("feed"))


def test_a_product_page_names_who_holds_it_until_when(shop: Shop, viewer: Client) -> None:
    buyer = held(shop)
    body = page(viewer, "product", "x")
    session = CheckoutSession.objects.get(basket_id=buyer.owner.basket_id)
    assert f"{session.expires_at:%Y-%m-%d %H:%M:%S}" in body
    assert session.order_no in body
    assert '<bdi class="given">holder</bdi>' in body
    assert "test supply" in body
    assert "It adds up" in body


def test_each_hold_of_a_product_leads_to_its_basket_and_to_its_repairs(shop: Shop, root: Client, viewer: Client) -> None:
    buyer = held(shop)
    hold = StockReservation.objects.get()
    body, seen_only = page(root, "product", "x"), page(viewer, "product", "x")
    for address in (
        reverse("admin:baskets_stockreservation_repair", args=[hold.pk, "release"]),
        reverse("admin:baskets_checkoutsession_repair", args=[hold.session_id, "abort"]),
    ):
        assert address in body
        assert address not in seen_only
        assert root.get(address).status_code == 200
    basket = reverse("admin:baskets_basket_change", args=[buyer.owner.basket_id])
    assert basket in body
    assert basket in seen_only


def test_a_product_page_leads_to_who_bought_and_who_waits(shop: Shop, root: Client, sign_in: Callable[..., Client]) -> None:
    """A buyer who is called as the product is must not be in the way, nor a product with a name that an address must quote."""
    shop.product("a&b c", 9)
    shop.product("other", 9)
    for user_id, place in (("ann", True), ("ben", False), ("a&b c", None)):
        buyer = shop.buyer(user_id)
        buyer.place("a&b c" if place is not None else "other")
        if place is not None:
            buyer.start()
            if place:
                buyer.finish(True)
    shop.buyer("cid").place("a&b c")
    links = dict(re.findall(r'<a class="button" href="([^"]+)">(Who [^<]+)</a>', html.unescape(page(root, "product", "a&b c"))))
    assert list(links.values()) == ["Who bought it", "Who holds it", "Who has it in the cart", "Who saved it for later"]
    found = [users_in(root.get(address).content.decode()) for address in links]
    assert found == [{"ann"}, {"ben"}, {"cid"}, set()]
    bought = next(iter(links))
    post_to = bought.replace("?", "export/?")
    rows = root.post(post_to, {"csrfmiddlewaretoken": token(root, bought)}).content.decode("utf-8-sig").splitlines()
    assert rows[0] == '"Product","Count","Stock","Checkout","Ended","Order number","Basket of","Partner"'
    assert [row.split(",")[3] for row in rows[1:]] == ['"ordered"']
    clerk = sign_in("carl", permissions="view_product")
    assert "Who bought" not in page(clerk, "product", "a&b c")


def test_a_lapsed_hold_is_no_longer_held_in_the_list_of_a_product(full_shop: Shop, viewer: Client) -> None:
    address = f"{reverse('admin:baskets_stockreservation_changelist')}?status=HELD&product=lamp"
    page = viewer.get(address).content.decode()
    assert 'badge-busy">held' in page
    assert "data-seconds-left" in page
    full_shop.buyer("cid").wait(hours=1)
    page = viewer.get(address).content.decode()
    assert 'badge-bad">lapsed<' in page
    assert 'badge-busy">held' not in page


def test_the_page_of_a_product_is_headed_by_its_name(shop: Shop, viewer: Client) -> None:
    shop.product("kino-1", name="Kino Sued")
    page = viewer.get(reverse("admin:baskets_product_change", args=["kino-1"])).content.decode()
    assert "<title>Product Kino Sued (kino-1) - Basket desk</title>" in page
