"""What the desk shows: baskets found, whole on one page, hostile values harmless, lists that cost the same however long."""

import gzip
import html
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from baskets.admin.core import display
from baskets.domain import runner
from baskets.domain.access import api_keys, partners
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets import items
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import checkout_repairs, guards, reservation_repairs
from baskets.models import CheckoutItem, CheckoutSession, GuestToken, Product, StockReservation
from tests.admin.auth.test_access import MODELS, list_of
from tests.admin.conftest import Shop, token
from tests.admin.repairs.repair_cases import device
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{7*7}}\u202ecod.exe\u200b'


def search(client: Client, model: str, term: str, **more: str) -> str:
    response = client.get(reverse(f"admin:baskets_{model}_changelist"), {"q": term, **more})
    assert response.status_code == 200
    return response.content.decode()


def page(client: Client, model: str, pk: object) -> str:
    response = client.get(reverse(f"admin:baskets_{model}_change", args=[pk]))
    assert response.status_code == 200
    return response.content.decode()


def users_in(body: str) -> set[str]:
    return {user for user in ("ann", "ben", "cid") if f'<bdi class="given">{user}</bdi></a>' in body}


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


def test_a_basket_is_whole_on_one_page(full_shop: Shop, viewer: Client) -> None:
    full_shop.buyer("cid").place("lamp")
    body = page(viewer, "basket", full_shop.buyer("cid").owner.basket_id)
    session = CheckoutSession.objects.get(basket_id=full_shop.buyer("cid").owner.basket_id)
    assert session.order_no in body
    assert "Name of lamp" in body
    assert "2 held since" in body
    assert f"until {session.expires_at:%Y-%m-%d %H:%M:%S}" in body
    timeline = body.split("<h2>Timeline</h2>")[1]
    assert timeline.index("item placed") < timeline.index("checkout started") < timeline.rindex("item placed")
    assert "testkey" in body
    assert "request-1" in body
    assert "s-1" in body
    assert "needs attention" not in body
    assert "needs attention" in page(viewer, "basket", full_shop.buyer("ben").owner.basket_id)


def test_hostile_values_are_shown_and_do_nothing(shop: Shop, viewer: Client) -> None:
    shop.product("lamp", 3, name=HOSTILE, brand=HOSTILE)
    buyer = shop.buyer(HOSTILE)
    actor = Actor(kind=ActorKind.KEY, name="k", request_id="r", tracking={"source": HOSTILE, "session_id": HOSTILE, HOSTILE: "x"})
    runner.run(items.place_item, owner=buyer.owner, product_id="lamp", count=1, actor=actor)
    buyer.start()
    buyer.finish(False)
    with pytest.raises(Exception, match="aborted"):
        buyer.finish(True)
    pages = [list_of(model) for model in MODELS]
    pages += [reverse("admin:baskets_basket_change", args=[buyer.owner.basket_id])]
    pages += [reverse("admin:baskets_product_change", args=["lamp"])]
    pages += [reverse(f"admin:baskets_{model._meta.model_name}_change", args=[row.pk]) for model in MODELS for row in model.objects.all()]
    for address in pages:
        body = viewer.get(address).content.decode()
        assert "<script>alert" not in body, address
        assert "<img src=x" not in body, address
        assert "\u202e" not in body, address
        assert "\u200b" not in body, address
    whole = viewer.get(pages[len(MODELS)]).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in whole
    assert "{{7*7}}" in whole
    assert ">U+202E</span>cod.exe" in whole


def test_characters_that_hide_are_named() -> None:
    shown = str(display.visible(" a\u2066b\x07\u00a0c\n"))
    assert [name for name in ("U+0020", "U+2066", "U+0007", "U+00A0", "U+000A") if name in shown] == [
        "U+0020",
        "U+2066",
        "U+0007",
        "U+00A0",
        "U+000A",
    ]
    assert "right-to-left override" in str(display.visible("\u202e"))
    assert str(display.visible("plain name")) == '<bdi class="given">plain name</bdi>'


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
            buyer.finish(False)
            with pytest.raises(Exception, match="aborted"):
                buyer.finish(True)
            buyer.start()
            buyer.place(product)

    return fill


# What no shop of these tests fills with rows.
FILLED_ELSEWHERE = {
    *("BrokenRule", "Comfort", "DeskEntry", "GuestToken", "IdempotencyRecord", "SigningKey", "TokenIssuer", "Transfer", "WebhookEndpoint"),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_list_costs_the_same_with_five_rows_and_with_thirty(model: Any, rows_of: Callable[[int], None], viewer: Client) -> None:
    rows_of(5)
    viewer.get(list_of(model))
    with CaptureQueriesContext(connection) as few:
        viewer.get(list_of(model))
    rows_of(25)
    with CaptureQueriesContext(connection) as many:
        body = viewer.get(list_of(model)).content.decode()
    assert model.__name__ in FILLED_ELSEWHERE or body.count("<tr>") > 30
    assert len(many) == len(few) <= 12


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


def test_long_histories_are_leafed_through(shop: Shop, viewer: Client) -> None:
    shop.product("song")
    buyer = shop.buyer("busy")
    for count in range(1, 62):
        buyer.place("song", count)
    address = reverse("admin:baskets_basket_change", args=[buyer.owner.basket_id])
    first = viewer.get(address).content.decode()
    assert "events_before=12" in first
    assert viewer.get(f"{address}?events_before=12").content.decode().count("item placed") == 11
    assert viewer.get(f"{address}?events_before=x&sessions_before=%00").status_code == 200


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


def test_release_by_staff_is_shown_alike_everywhere(shop: Shop, root: Client) -> None:
    shop.product("lamp", 5)
    shop.product("rare", 0)
    shop.product("song")
    buyer = shop.buyer("ann")
    for product, count in (("lamp", 2), ("rare", 1), ("song", 1)):
        buyer.place(product, count)
    session = buyer.start().session
    hold = StockReservation.objects.get(status="HELD")
    runner.run(reservation_repairs.release, reservation=hold, expected_events=4, reason="needed elsewhere", actor=TESTER)
    basket, detail = page(root, "basket", session.basket_id), page(root, "checkoutsession", session.pk)
    for body in (basket, detail):
        assert body.count("2 released by staff</span>") == 1
        assert len(re.findall(r"2 released, by staff \d{4}-", body)) == 1
    items, reservations = (root.get(list_of(model)).content.decode() for model in (CheckoutItem, StockReservation))
    assert items.count("2 released by staff</span>") == reservations.count(">released, by staff</span>") == 1
    for body in (basket, detail, items):
        assert set(re.findall(r"failed, \d+ missing", body)) == {"failed, 1 missing"}
    assert "hold-again" in basket
    supply.set_unsold(reports={"rare": 1}, as_of=None, reason="found", actor=TESTER)
    runner.run(reservation_repairs.hold_again, session=session, expected_events=5, reason="found", actor=TESTER)
    assert buyer.lists()["checkout"] == [("lamp", 2, -2), ("rare", 1, 1), ("song", 1, None)]
    for model, key in (("basket", session.basket_id), ("checkoutsession", session.pk)):
        assert "hold-again" not in page(root, model, key)
    with pytest.raises(guards.RepairNotApplicable, match="failed at its start"):
        runner.run(reservation_repairs.hold_again, session=session, expected_events=6, reason="again", actor=TESTER)
    buyer.finish(True)
    assert re.search(r"2 released, by staff \d{4}-", page(root, "checkoutsession", session.pk))
    assert buyer.lists()["cart"] == [("lamp", 2)]
    assert invariant_checker.check_invariants() == []


def test_reversed_order_is_marked_wherever_it_is_shown(shop: Shop, root: Client) -> None:
    shop.product("lamp", 5)
    for user_id, count in (("ann", 2), ("ben", 1)):
        buyer = shop.buyer(user_id)
        buyer.place("lamp", count)
        buyer.start()
        buyer.finish(True)
    session = CheckoutSession.objects.earliest("pk")
    assert "reverse-order" in page(root, "checkoutsession", session.pk)
    runner.run(checkout_repairs.reverse_order, session=session, expected_events=3, reason="sent back", actor=TESTER)
    basket, detail = page(root, "basket", session.basket_id), page(root, "checkoutsession", session.pk)
    for body in (basket, detail):
        assert re.search(r">2 sold [\d :-]+, reversed</span>", body)
        assert "reverse-order" not in body
    assert re.search(r", ordered [\d :-]+, reversed \d{4}-", basket)
    assert '<span class="badge badge-plain">reversed</span>' in basket
    assert len(re.findall(r'field-marks">\s*reversed<', root.get(list_of(CheckoutSession)).content.decode())) == 1
    product = page(root, "product", "lamp")
    counters = dict(reversed(pair) for pair in re.findall(r"<li><b>(\d+)</b> (\w+)", product))
    assert counters == {"supply": "7", "available": "4", "held": "0", "sold": "1", "reversed": "2", "shortfall": "0", "short": "0"}
    assert "It adds up: supply = available + held + sold + reversed" in product


def test_distances_are_written_in_words() -> None:
    assert display.distance(timedelta(minutes=29, seconds=5)) == "in 29 minutes"
    assert display.distance(timedelta(hours=-1)) == "1 hour ago"
    assert display.distance(timedelta(seconds=3)) == "in less than a minute"


def test_times_are_in_the_zone_that_the_browser_names(full_shop: Shop, viewer: Client) -> None:
    session = CheckoutSession.objects.get(status="ACTIVE")
    for zone, offset in (("Asia%2FKolkata", 330), ("no%2Fzone", 0), ("..%2F..%2Fetc%2Fpasswd", 0), ("", 0), ("Asia/Kathmandu", 345)):
        viewer.cookies["desk_zone"] = zone
        body = page(viewer, "basket", session.basket_id)
        assert f"{session.expires_at + timedelta(minutes=offset):%Y-%m-%d %H:%M:%S}" in body, zone
    assert "Times are in Asia/Kathmandu." in body


def test_the_timeline_names_candidates_in_that_zone(full_shop: Shop, viewer: Client) -> None:
    session = CheckoutSession.objects.get(status="ABORTED")
    assert session.finished_at
    viewer.cookies["desk_zone"] = "Asia/Kolkata"
    body = page(viewer, "basket", session.basket_id)
    ended = session.finished_at + timedelta(minutes=330)
    assert f"{session.order_no} (aborted {ended:%Y-%m-%d %H:%M:%S})" in body
    assert "The only one it may be: <a" in body
    assert not re.search(r"\dT\d\d:\d\d:\d\dZ", body)
    assert '<b><bdi class="given">order number reported</bdi></b> <bdi class="given">no</bdi>' in body


def test_a_basket_lists_its_devices_with_what_can_be_done(shop: Shop, root: Client, viewer: Client) -> None:
    taken = device(shop)
    own = GuestToken.objects.get(transferred=False)
    first, second = page(root, "basket", taken.basket_id), page(viewer, "basket", taken.basket_id)
    for made, came_by in ((taken, "a transfer"), (own, "creating the guest")):
        row = f'<tr><td><a href="{reverse("admin:baskets_guesttoken_change", args=[made.pk])}">{made.pk}</a></td><td>{came_by}</td>'
        assert row in first
        assert row in second
        assert f"/guesttoken/{made.pk}/repair/revoke-device/" in first
    assert "/repair/" not in second
    listed = viewer.get(re.search(r'href="([^"]+)">All devices of this user', first)[1]).content.decode()  # type: ignore[index]
    assert str(taken.pk) in listed
    assert str(own.pk) in listed
    shop.product("song")
    shop.buyer("ann").place("song")
    assert "All devices of this user" not in page(root, "basket", shop.buyer("ann").owner.basket_id)


def test_what_is_left_of_a_hold_comes_from_the_servers_clock(full_shop: Shop, viewer: Client) -> None:
    cid = full_shop.buyer("cid")
    cid.wait(minutes=20)
    found = re.search(r'data-seconds-left="(\d+)"', page(viewer, "basket", cid.owner.basket_id))
    assert found
    assert 500 < int(found[1]) <= 600
    cid.wait(minutes=20)
    body = page(viewer, "basket", cid.owner.basket_id)
    assert "data-seconds-left" not in body
    assert "not swept yet" in body


def test_baskets_are_filtered_by_a_span_of_time(full_shop: Shop, viewer: Client) -> None:
    full_shop.buyer("ben").wait(days=3)
    day_before = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M}"
    assert users_in(search(viewer, "basket", "", last_changed_at_from=day_before)) == {"ann", "cid"}
    assert users_in(search(viewer, "basket", "", last_changed_at_until=day_before)) == {"ben"}
    soon = f"{datetime.now(UTC) + timedelta(days=29):%Y-%m-%dT%H:%M}"
    assert users_in(search(viewer, "basket", "", expires_at_until=soon)) == {"ben"}
    for wrong in ("x", "2026-13-01", "<script>", "0001-01-01T00:00", "9999-12-31T23:59:59.999999"):
        body = search(viewer, "basket", "", expires_at_until=wrong, basket="all")
        assert "<script>" not in body
        assert 'name="basket" value="all"' in body


def test_a_list_is_compressed_and_has_only_the_scripts_it_needs(full_shop: Shop, root: Client) -> None:
    response = root.get("/admin/baskets/checkoutsession/", headers={"accept-encoding": "gzip, br"})
    assert response["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in response["Vary"]
    body = gzip.decompress(response.content).decode()
    assert re.findall(r'src="/static/admin/js/([^"]+)"', body) == ["theme.js", "nav_sidebar.js", "actions.js", "filters.js"]


def test_pages_with_secrets_are_not_compressed(root: Client) -> None:
    packed = {"accept-encoding": "gzip"}
    for address in ("/admin/login/", "/admin/login/set-up/", "/admin/account/"):
        assert not root.get(address, headers=packed).has_header("Content-Encoding"), address
    body = {"name": "kino", "csrfmiddlewaretoken": token(root, "/admin/baskets/partner/add/")}
    assert not root.post("/admin/baskets/partner/add/", body, headers=packed).has_header("Content-Encoding")


def test_a_lapsed_hold_is_no_longer_held_in_the_list_of_a_product(full_shop: Shop, viewer: Client) -> None:
    address = f"{reverse('admin:baskets_stockreservation_changelist')}?status=HELD&product=lamp"
    page = viewer.get(address).content.decode()
    assert 'badge-busy">held' in page
    assert "data-seconds-left" in page
    full_shop.buyer("cid").wait(hours=1)
    page = viewer.get(address).content.decode()
    assert 'badge-bad">lapsed<' in page
    assert 'badge-busy">held' not in page


def test_one_place_of_the_sidebar_is_current(full_shop: Shop, root: Client) -> None:
    for name, label in (("privacy", "Privacy desk"), ("basket_changelist", "Baskets"), ("worklist", "Work list")):
        page = root.get(reverse(f"admin:baskets_{name}")).content.decode()
        sidebar = page[page.index('id="nav-sidebar"') :]
        assert re.findall(r'aria-current="page">([^<]*)', sidebar) == [label]


def test_the_page_of_a_product_is_headed_by_its_name(shop: Shop, viewer: Client) -> None:
    shop.product("kino-1", name="Kino Sued")
    page = viewer.get(reverse("admin:baskets_product_change", args=["kino-1"])).content.decode()
    assert "<title>Product Kino Sued (kino-1) - Basket desk</title>" in page
