"""What the pages of the admin show: baskets whole on one page, hostile values harmless, times in the zone of the browser."""

import gzip
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from baskets.admin.core import display
from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets import items
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import checkout_repairs, guards, reservation_repairs
from baskets.models import CheckoutItem, CheckoutSession, GuestToken, StockReservation
from tests.admin.auth.test_access import MODELS, list_of
from tests.admin.conftest import Shop, token
from tests.admin.pages import page, search, users_in
from tests.admin.repairs.repair_states import device
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{7*7}}\u202ecod.exe\u200b'


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
    buyer.pay_after_abort()
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


def test_one_place_of_the_sidebar_is_current(full_shop: Shop, root: Client) -> None:
    for name, label in (("privacy", "Privacy desk"), ("basket_changelist", "Baskets"), ("worklist", "Work list")):
        page = root.get(reverse(f"admin:baskets_{name}")).content.decode()
        sidebar = page[page.index('id="nav-sidebar"') :]
        assert re.findall(r'aria-current="page">([^<]*)', sidebar) == [label]
