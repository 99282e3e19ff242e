"""The search of the header: what customers say on the telephone and what staff paste, each found, opened and indexed."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from baskets.admin.core import search
from baskets.domain import runner
from baskets.domain.access import api_keys, partners
from baskets.domain.support import erasure
from baskets.models import ApiKey, Basket, CheckoutSession, Event, Partner, Product
from baskets.models.words import split_words
from tests.admin.conftest import Shop, post
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
ADDRESS = "/admin/search/"
ORDER_NO = "M0R1-7HB9-10QY-QWYP"


def found(client: Client, typed: str) -> str:
    """The address of what opens, or the page of hits."""
    response = post(client, ADDRESS, {"q": typed})
    if response.status_code == 303:
        response = client.get(response["Location"])
        assert response.status_code == 200
    return response["Location"] if response.status_code == 302 else response.content.decode()


def basket_address(shop: Shop, user_id: str) -> str:
    return reverse("admin:baskets_basket_change", args=[shop.buyer(user_id).owner.basket_id])


def titles(body: str) -> list[str]:
    return re.findall(r'<div class="module"><h2>([A-Za-z ]+) <span', body)


@pytest.fixture
def ordered(full_shop: Shop) -> Shop:
    """A shop in which ben has a well-known order number."""
    CheckoutSession.objects.filter(basket_id=full_shop.buyer("ben").owner.basket_id).update(order_no=ORDER_NO)
    return full_shop


@pytest.mark.parametrize(
    "typed",
    [ORDER_NO, "mor1 7hb9 ioqy qwyp", "MOR17HB9LOQYQWYP", f"#{ORDER_NO}.", f"order {ORDER_NO}", f"Order no. {ORDER_NO} ",
     "order mor1", "order m 0 r 1 dash 7 h b 9 minus 1 0 q y hyphen qwyp", "mor1 7h"],
)  # fmt: skip
def test_a_spoken_order_number_opens_its_basket(ordered: Shop, viewer: Client, typed: str) -> None:
    assert found(viewer, typed) == f"{basket_address(ordered, 'ben')}#{ORDER_NO}"


@pytest.mark.measured
@pytest.mark.parametrize("typed", ["Anna@Example.com", "anna@example.com", "ANNA@EXAMPLE.COM", " anna@EXAMPLE.com "])
@pytest.mark.parametrize("stored", ["anna@example.com", "Anna@Example.com"])
def test_an_address_is_found_in_any_case(full_shop: Shop, viewer: Client, typed: str, stored: str) -> None:
    full_shop.buyer(stored).place("song")
    assert found(viewer, typed) == basket_address(full_shop, stored)
    assert viewer.get(reverse("admin:baskets_basket_changelist"), {"q": typed}).content.decode().count(stored) >= 1


def test_a_whole_user_id_opens_although_others_begin_like_it(full_shop: Shop, viewer: Client) -> None:
    full_shop.buyer("anna").place("song")
    assert found(viewer, "ann") == basket_address(full_shop, "ann")
    body = viewer.get(basket_address(full_shop, "ann")).content.decode()
    assert f'<a href="{ADDRESS}?q=ann&amp;all=1">All hits of' in body
    everything = viewer.get(ADDRESS, {"q": "ann", "all": "1"}).content.decode()
    assert everything.index(">ann</bdi>") < everything.index(">anna</bdi>")
    assert titles(found(viewer, "an")) == ["Users"]


def test_a_user_of_two_partners_is_listed_with_both(full_shop: Shop, viewer: Client) -> None:
    other = Shop(partners.create_partner(name="Another one", actor=TESTER))
    other.buyer("ann").place("song")
    body = found(viewer, "ann")
    assert titles(body) == ["Users"]
    assert full_shop.partner.name in body
    assert "Another one" in body


def test_deleted_expired_and_erased_baskets_are_found_and_marked(ordered: Shop, viewer: Client) -> None:
    ordered.buyer("ben").delete()
    assert found(viewer, "ben") == basket_address(ordered, "ben")
    ordered.buyer("benno").place("song")
    assert "deleted or expired</span>" in found(viewer, "be")
    basket = Basket.objects.get(user_id="ben")
    runner.run(erasure.erase_user, basket=basket, expected_events=basket.events, reason="requested", actor=TESTER)
    erased = Basket.objects.get(user_id__startswith="erased-")
    assert found(viewer, ORDER_NO) == f"{reverse('admin:baskets_basket_change', args=[erased.pk])}#{ORDER_NO}"
    body = viewer.get(reverse("admin:baskets_basket_changelist"), {"q": "erased-"}).content.decode()
    assert ">erased</span>" in body
    ordered.buyer("benno").delete()
    hint = found(viewer, "ben@example.com")
    assert "Nothing was found" in hint
    assert "not found by the former id" in hint


@pytest.mark.parametrize("typed", ["kino", "KINO süd", "sud KINO", "prem", "café", "Cafe", "grosse strasse", "GROẞE"])
def test_a_product_is_found_by_words_without_case_and_accents(shop: Shop, viewer: Client, typed: str) -> None:
    shop.product("p-1", name="Kino-Premiere (Café)", brand="Süd & Große Straße")
    shop.product("p-2", name="Lamp")
    assert found(viewer, typed) == reverse("admin:baskets_product_change", args=["p-1"])
    assert (
        'href="/admin/baskets/product/p-1/change/' in viewer.get(reverse("admin:baskets_product_changelist"), {"q": typed}).content.decode()
    )


@pytest.mark.parametrize("typed", ["ino", "kino lamp", "k", "' | p:*", "!!", "\\", "\x00", "it's & (", "<->", ":*"])
def test_what_begins_no_word_finds_no_product(shop: Shop, viewer: Client, typed: str) -> None:
    shop.product("x-1", name="Kino")
    shop.product("x-2", name="Lamp")
    assert "<h2>Products" not in found(viewer, typed)


def test_hits_are_grouped_by_kind_with_what_tells_them_apart(shop: Shop, viewer: Client) -> None:
    partner = partners.create_partner(name="Kino Süd", actor=TESTER)
    shop.product("kino-1", 3, name="Kino ticket", brand="Kino", price=1250, currency="EUR")
    shop.product("kino-2", name="Kino seat")
    Shop(partner).buyer("kino-fan").place("kino-1")
    body = found(viewer, "kino")
    assert titles(body) == ["Users", "Products", "Partners"]
    for text in ("kino-fan", "Kino ticket", "Kino seat", "unlimited"):
        assert text in body
    assert "More in the list" not in body
    for number in range(20):
        shop.product(f"kino-{number + 10}", name="Kino seat")
    body = found(viewer, "kino")
    assert "10+" in body
    assert 'href="/admin/baskets/product/?q=kino">More in the list' in body


def test_a_pasted_key_leads_to_its_page_and_stays_in_no_address(full_shop: Shop, viewer: Client) -> None:
    key, text = api_keys.issue_api_key(partner_name=full_shop.partner.name, actor=TESTER)
    page = reverse("admin:baskets_apikey_change", args=[key.pk])
    for typed in (text, f" {text}\n", f"X-API-Key: {text}", text[:40]):
        assert found(viewer, typed) == page
        assert "You pasted a whole API key: only its prefix was used" in viewer.get(page).content.decode()
    for address in (ADDRESS, reverse("admin:baskets_apikey_changelist"), reverse("admin:baskets_basket_changelist")):
        response = viewer.get(address, {"q": text})
        assert (response.status_code, response["Location"]) == (302, page)
        assert "the history of this browser may still have it" in viewer.get(page).content.decode()
    assert found(viewer, key.prefix) == page
    unknown = found(viewer, f"bk_{'0' * 12}_{'1' * 64}")
    assert unknown == f"{ADDRESS}?q={'0' * 12}"
    token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl"
    assert found(viewer, token) == ADDRESS
    assert "You pasted a token" in viewer.get(ADDRESS).content.decode()


def test_staff_find_what_they_may_view(ordered: Shop, sign_in: Callable[..., Client], staff_without_rights: Client) -> None:
    key, text = api_keys.issue_api_key(partner_name=ordered.partner.name, actor=TESTER)
    clerk = sign_in("carl", permissions="view_product")
    assert found(clerk, "lamp") == reverse("admin:baskets_product_change", args=["lamp"])
    for typed in ("ben", ORDER_NO, key.prefix, ordered.partner.name):
        assert "Nothing was found" in found(clerk, typed)
    assert found(clerk, text) == f"{ADDRESS}?q={key.prefix}"
    seller = sign_in("sue", permissions="view_checkoutsession")
    assert "/checkoutsession/" in found(seller, ORDER_NO)
    assert post(staff_without_rights, ADDRESS, {"q": "ben"}).status_code == 403
    assert Client().post(ADDRESS, {"q": "ben"}).status_code == 302


def test_the_field_is_on_every_page_with_a_label(full_shop: Shop, viewer: Client) -> None:
    for address in ("/admin/", "/admin/baskets/basket/", basket_address(full_shop, "ann"), ADDRESS):
        body = viewer.get(address).content.decode()
        assert body.count('<label for="finder">Search</label>') == 1
        assert "View site" not in body
    assert 'id="finder"' not in Client().get("/admin/login/").content.decode()


def test_typed_text_is_text_and_nothing_else(viewer: Client, shop: Shop) -> None:
    typed = '<script>alert(1)</script>"><img src=x>\u202e'
    body = found(viewer, typed)
    assert "<script>alert" not in body
    assert "<img src=x" not in body


def test_advice_counts_the_characters_of_an_order_number(viewer: Client, full_shop: Shop) -> None:
    assert "An order number has 16 letters and digits; this has 15." in found(viewer, "m0r1 7hb9 10qy qwy")
    assert "An order number has" not in found(viewer, "missing")
    assert "An order number has" not in found(viewer, "zoe8@example.com")
    assert "No order has this number" in found(viewer, "m0r1 7hb9 10qy qwyq")


def test_a_search_costs_the_same_however_much_it_finds(full_shop: Shop, viewer: Client) -> None:
    numbers = []
    for term in ("sarah 8", "shop"):
        for number in range(12):
            full_shop.product(f"shop-{number}{len(numbers)}", 5, name="Shop")
            full_shop.buyer(f"shop{number}{len(numbers)}").place("song")
        with CaptureQueriesContext(connection) as queries:
            viewer.get(ADDRESS, {"q": term, "all": "1"})
        numbers.append(len(queries))
    assert numbers[0] <= numbers[1] == 12


def test_words_are_the_same_in_python_and_in_the_index(shop: Shop) -> None:
    for number, name in enumerate(
        ("Łódź Øre", "ÀÉÎõü ñ", "\u0110\u1eb7ng \u0131I", "2²ⅷ ﬁn", "a_b.c/d", "Ω-Ж Привет", "STRASSE Straße", "½ TV 4K")
    ):
        product = shop.product(f"w{number}", name=name)
        words = " ".join(split_words(name))
        assert list(Product.objects.with_words(words).values_list("pk", flat=True)) == [product], name


SEEDS = (
    """
INSERT INTO baskets_product (product_id, name, brand, variant, main_product_id, currency, listed)
SELECT 'sku-' || i, 'Thing ' || md5(i::text), CASE WHEN i % 500 = 0 THEN 'Kino Süd' ELSE 'Acme' END, '', '', '', true
FROM generate_series(1, 5000) AS i
""",
    """
INSERT INTO baskets_basket (id, partner_id, user_id, guest, revision, events, created_at, last_changed_at, expires_at)
SELECT gen_random_uuid(), %(partner)s, CASE WHEN i % 10 = 0 THEN 'U' ELSE 'u' END || i || '@example.com', false, 1, 1, now(), now(),
    now() + interval '1 day'
FROM generate_series(1, 5000) AS i
""",
    """
INSERT INTO baskets_checkoutsession (basket_id, partner_id, order_no, status, test_mode, late, started_at, expires_at, language, country,
    stripe_using_sdk, currency)
SELECT id, partner_id, upper(substr(md5(user_id), 1, 16)), 'ACTIVE', false, false, now(), now() + interval '1 day', '', '', false, ''
FROM baskets_basket
""",
    """
INSERT INTO baskets_apikey (partner_id, prefix, digest, kind, label, created_by)
SELECT %(partner)s, substr(md5(i::text), 1, 12), '', 'server', '', 'tests' FROM generate_series(1, 2000) AS i
""",
    "ANALYZE baskets_product, baskets_basket, baskets_checkoutsession, baskets_apikey",
)


def test_every_question_of_the_search_is_answered_by_an_index(partner: Partner) -> None:
    """No table is read as a whole. With 100,000 rows of each, every question takes 2 to 35 ms."""
    with connection.cursor() as cursor:
        for statement in SEEDS:
            cursor.execute(statement.replace("%(partner)s", str(partner.pk)).replace("%", "%%"), [])
    questions: list[Callable[[], Any]] = [
        lambda: search.products_found("kino sud", limit=11),
        lambda: search.products_found("SKU-77", limit=11),
        lambda: search.users_found([partner.pk], ["U10"], limit=11),
        lambda: search.users_found([partner.pk], ["missing@example.com"], limit=11),
        lambda: list(search.users_named([partner.pk], ["U77@EXAMPLE.com"])),
        lambda: list(CheckoutSession.objects.filter(order_no__startswith="ABCDEF").order_by("order_no")[:11]),
        lambda: list(search.keys_found("abcd").order_by("prefix")[:11]),
    ]
    for question in questions:
        with CaptureQueriesContext(connection) as queries:
            question()
        for query in queries:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {query['sql']}".replace("%", "%%"), [])
                plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in plan, plan
    assert isinstance(search.keys_found("abcd"), QuerySet)
    assert ApiKey.objects.count() == 2000


def test_pages_name_the_thing_the_author_and_the_reason(ordered: Shop, viewer: Client) -> None:
    key, _ = api_keys.issue_api_key(partner_name=ordered.partner.name, actor=TESTER)
    events = Event.objects.filter(basket_id=ordered.buyer("ben").owner.basket_id)
    events.filter(kind="checkout_started").update(actor=key.prefix)
    events.filter(kind="checkout_aborted").update(actor_kind="system", actor="expire_baskets")
    session = CheckoutSession.objects.get(order_no=ORDER_NO)
    body = viewer.get(reverse("admin:baskets_checkoutsession_change", args=[session.pk])).content.decode()
    assert f"<title>Order {ORDER_NO} - Basket desk</title>" in body
    assert re.search(f'data-copy="{ORDER_NO}"[^>]* aria-label="Copy: order number" hidden', body)
    pages = [basket_address(ordered, "ben"), reverse("admin:baskets_event_changelist")]
    for address in pages:
        body = viewer.get(address).content.decode()
        back_end = f'<bdi class="given">{ordered.partner.name}</bdi>, back end</a>'
        assert f'<a href="/admin/baskets/apikey/{key.pk}/change/">{back_end} <span class="quiet">key {key.prefix}</span>' in body
        assert "the sweep" in body
        assert "key <bdi" in body
        assert "-&gt; ACTIVE" not in body
        assert "By by" not in body
    body = viewer.get(pages[0]).content.decode()
    assert "<title>Basket ben - Basket desk</title>" in body
    assert "reported as ordered after it was aborted" in body
    assert "checkout_aborted" not in body
