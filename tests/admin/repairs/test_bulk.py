"""Repairs of many rows: the morning after a dead sweep, what a page shows of each row, and two members of staff at once."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from baskets.admin.core import display
from baskets.domain.checkout import expiry
from baskets.domain.maintenance import invariant_checker
from baskets.models import Attention, Basket, CheckoutSession, Event, StockReservation
from tests.admin.conftest import Shop, repairer_named, token
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import available
from tests.factories import PartnerFactory

LIST = reverse("admin:baskets_checkoutsession_changelist")
FILTER = "?status=ACTIVE&hold=lapsed"
REASON = "paid, says the payment provider"


def lapsed_crowd(shop: Shop, number: int, *, unsold: int) -> list[CheckoutSession]:
    """Checkouts that hold two lamps each, and whose holds have ended without a sweep."""
    shop.product("lamp", unsold, price=1250, currency="EUR")
    for place in range(number):
        buyer = shop.buyer(f"user {place}")
        buyer.place("lamp", 2)
        buyer.start()
    for place in range(number):
        shop.buyer(f"user {place}").wait(hours=1)
    return list(CheckoutSession.objects.order_by("pk"))


def fields(body: str) -> dict[str, Any]:
    """The hidden fields of a page of many rows."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(row|outcome|confirm|choose)" value="([^"]*)"', body):
        found.setdefault(name, []).append(html.unescape(value))
    return found


def opened(client: Client, slug: str, rows: list[CheckoutSession], query: str = FILTER) -> tuple[str, str, dict[str, Any]]:
    """Choose rows in the list.

    :returns: the address to post to, the page, and its form with a reason.
    """
    form = {"csrfmiddlewaretoken": token(client, LIST), "action": slug, "index": "0", "select_across": "0"}
    response = client.post(f"{LIST}{query}", {**form, "_selected_action": [row.pk for row in rows]})
    assert response.status_code == 200
    body = response.content.decode()
    address = re.search(r'<form method="post" action="([^"]*/repair/[^"]+)"', body)
    assert address
    sent = {"csrfmiddlewaretoken": form["csrfmiddlewaretoken"], "reason": REASON, **fields(body)}
    return html.unescape(address[1]), html.unescape(body), sent


def confirmed(client: Client, address: str, form: dict[str, Any]) -> dict[str, Any]:
    """The form after its values were previewed."""
    return form | fields(client.post(address, form).content.decode())


def test_the_morning_after_a_dead_sweep_is_finished_in_one_go(shop: Shop, repairer: Client, stored_rows: Callable[[], Any]) -> None:
    sessions = lapsed_crowd(shop, 3, unsold=6)
    listed = repairer.get(f"{LIST}{FILTER}").content.decode()
    assert listed.count('<span class="badge badge-bad">lapsed</span>') == 3
    assert '<span class="badge badge-busy">active</span>' not in listed
    before = stored_rows()
    address, body, form = opened(repairer, "finish-as-ordered", sessions)
    for shown in ("user 0", shop.partner.name, "1 hour ago", display.money(2500, "EUR"), "Finish as ordered: 3"):
        assert shown in body, shown
    assert body.index("Finish as ordered: 3") < body.index("<tbody>"), "the button stands above the rows"
    assert stored_rows() == before
    done = repairer.post(address, form)
    assert done.status_code == 302
    for _ in range(2):
        result = html.unescape(repairer.get(done["Location"]).content.decode())
        assert "Done: 3. Refused: 0." in result, "the result can be loaded again"
        assert f'href="{LIST}{FILTER}"' in result, "the filter is kept"
    assert set(CheckoutSession.objects.values_list("status", flat=True)) == {"ORDERED"}
    assert Event.objects.filter(kind="repaired", actor="rita", data__reason=REASON, data__repair="finish_as_ordered").count() == 3
    assert invariant_checker.check_invariants() == []


def test_a_refused_row_says_what_moved_and_can_be_looked_at_again(shop: Shop, repairer: Client) -> None:
    sessions = lapsed_crowd(shop, 2, unsold=4)
    address, _, form = opened(repairer, "finish-as-ordered", sessions)
    shop.buyer("user 1").place("lamp", 1)
    result = html.unescape(repairer.post(address, form, follow=True).content.decode())
    assert "Done: 1. Refused: 1." in result
    assert re.search(r"Nothing was done.*<time [^>]+>[^<]+</time> item placed, [a-z ]+ by <bdi class=\"given\">testkey</bdi>", result)
    again = repairer.post(address, {"csrfmiddlewaretoken": form["csrfmiddlewaretoken"], **fields(result)})
    assert "Done: 1. Refused: 0." in repairer.post(address, form | fields(again.content.decode()), follow=True).content.decode()
    assert set(CheckoutSession.objects.values_list("status", flat=True)) == {"ORDERED"}


def test_results_are_kept_for_their_author_and_only_the_latest(shop: Shop, repairer: Client) -> None:
    address, _, form = opened(repairer, "abort", lapsed_crowd(shop, 1, unsold=2))
    first, *others = [repairer.post(address, form)["Location"] for _ in range(6)]
    assert "Refused: 1." in repairer.get(others[0]).content.decode()
    assert "not kept any more" in repairer.get(first).content.decode()
    assert "not kept any more" in repairer_named("ruth").get(others[0]).content.decode()
    Group.objects.get(name="Basket repairers").user_set.clear()
    assert repairer.get(others[0]).status_code == 403


def test_late_orders_take_the_stock_there_is_and_never_more_than_was_shown(
    shop: Shop, repairer: Client, stored_rows: Callable[[], Any]
) -> None:
    sessions = lapsed_crowd(shop, 3, unsold=6)
    for session in sessions:
        expiry.expire_session(basket_id=session.basket_id)
    other = shop.buyer("other")
    other.place("lamp", 2)
    other.start()
    other.finish(True)
    before = stored_rows()
    address, body, form = opened(repairer, "order-late", sessions, "?status=EXPIRED")
    assert "Show what will change" in body
    form = confirmed(repairer, address, form | {"accept_short": "on"})
    assert len(form["outcome"]) == 3
    assert stored_rows() == before
    # Each row alone would get its two lamps; the third would be short, which its preview has not shown.
    result = html.unescape(repairer.post(address, form, follow=True).content.decode())
    assert "Done: 2. Refused: 1." in result
    assert "The stock or the basket is different now" in result
    assert sorted(CheckoutSession.objects.filter(pk__in=[row.pk for row in sessions]).values_list("status", flat=True)) == [
        *("EXPIRED", "ORDERED", "ORDERED")
    ]
    assert not StockReservation.objects.filter(status="SHORT").exists()
    # Looked at again, the page says so, and the order is made with what is missing.
    again = repairer.post(address, {"csrfmiddlewaretoken": form["csrfmiddlewaretoken"], **fields(result)}).content.decode()
    second = {name: form[name] for name in ("csrfmiddlewaretoken", "reason", "accept_short")} | fields(again)
    assert "Done: 1. Refused: 0." in repairer.post(address, confirmed(repairer, address, second), follow=True).content.decode()
    assert StockReservation.objects.get(status="SHORT").pieces == 2
    assert Attention.objects.open().get().reason == "short"
    assert invariant_checker.check_invariants() == []


def test_late_orders_that_may_not_be_short_are_refused_with_the_shortage(shop: Shop, repairer: Client) -> None:
    sessions = lapsed_crowd(shop, 1, unsold=2)
    expiry.expire_session(basket_id=sessions[0].basket_id)
    other = shop.buyer("other")
    other.place("lamp", 2)
    other.start()
    address, _, form = opened(repairer, "order-late", sessions, "")
    assert "lamp: 2 wanted, 0 available" in repairer.post(address, form).content.decode()
    assert "Refused: 1." in repairer.post(address, confirmed(repairer, address, form), follow=True).content.decode()
    assert CheckoutSession.objects.get(pk=sessions[0].pk).status == "EXPIRED"


@pytest.mark.parametrize("slug", ["finish-as-ordered", "order-late"])
def test_without_the_right_nothing_is_offered_and_nothing_done(
    slug: str, shop: Shop, repairer: Client, viewer: Client, stored_rows: Callable[[], Any]
) -> None:
    address, _, form = opened(repairer, slug, lapsed_crowd(shop, 1, unsold=2))
    before = stored_rows()
    viewer.cookies["csrftoken"] = "a" * 32
    assert viewer.post(address, form | {"csrfmiddlewaretoken": "a" * 32}).status_code == 403
    assert viewer.get(f"{address}&result=x").status_code == 403
    assert 'name="action"' not in viewer.get(LIST).content.decode()
    assert repairer.post(address, form | {"reason": " "}).status_code == 200
    assert stored_rows() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slug", ["finish-as-ordered", "order-late"])
def test_two_members_of_staff_at_once_order_each_checkout_once(slug: str, transactional_db: None) -> None:
    shop = Shop(PartnerFactory())
    sessions = lapsed_crowd(shop, 6, unsold=12)
    if slug == "order-late":
        for session in sessions:
            expiry.expire_session(basket_id=session.basket_id)
    pages = []
    for client in (repairer_named("rita"), repairer_named("ruth")):
        address, _, form = opened(client, slug, sessions, "")
        pages.append((client, address, confirmed(client, address, form) if slug == "order-late" else form))
    outcomes = run_concurrently([lambda page=page: page[0].post(page[1], page[2]) for page in pages])
    bodies = [page[0].get(outcome["Location"]).content.decode() for page, outcome in zip(pages, outcomes, strict=True)]
    counts = [tuple(map(int, re.search(r"Done: (\d+)\. Refused: (\d+)\.", body).groups())) for body in bodies]  # type: ignore[union-attr]
    assert [sum(count) for count in zip(*counts, strict=True)] == [6, 6]
    assert set(CheckoutSession.objects.values_list("status", flat=True)) == {"ORDERED"}
    assert available("lamp") == (0, 0)
    assert Event.objects.filter(kind="repaired").count() == 6
    assert Basket.objects.count() == 6
    assert invariant_checker.check_invariants() == []
