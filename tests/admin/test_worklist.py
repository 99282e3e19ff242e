"""The work list: all open work on one page, and repairs of many rows with one summary."""

import html
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from baskets.admin import worklist
from baskets.domain import runner
from baskets.domain.access import partners
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import sessions as checkout_sessions
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support import assignments, attention_repairs, checkout_repairs
from baskets.models import ApiKey, Attention, Basket, BrokenRule, CheckoutSession, DeskEntry, Event, Partner, Stock
from tests.admin.conftest import Shop, token
from tests.admin.repairs.repair_states import OTHER, REASON, broken, short_of_supply, sold_out_since
from tests.domain.scenarios import User as Buyer
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
WORK = "/admin/baskets/attention/work/"


@pytest.fixture
def shop_with_open_work(full_shop: Shop) -> Shop:
    """A shop with one piece of open work of each kind."""
    broken(full_shop)
    full_shop.buyer("cid").wait(hours=1)
    return full_shop


def test_everything_that_waits_is_on_one_page(shop_with_open_work: Shop, repairer: Client) -> None:
    body = html.unescape(repairer.get(WORK).content.decode())
    for title in ("The customer may have paid", "Lapsed checkouts", "Broken rules"):
        assert re.search(rf'{title} <span class="number">1</span>', body), title
    assert "No order is short of pieces." in body
    assert "No product has a shortfall." in body
    assert "40 looked at, 1 broken" in body
    assert set(re.findall(r"/repair/([a-z-]+)/", body)) == {"order-late", "settle", "take", "finish-as-ordered", "abort", "settle-rule"}


def test_lapsed_checkouts_of_test_keys_are_not_on_it(shop_with_open_work: Shop, repairer: Client) -> None:
    assert len(rows_of(repairer, "Lapsed checkouts")) == 1
    live = partners.create_partner(name="live", actor=Actor.system("test"))
    Partner.objects.filter(pk=shop_with_open_work.partner.pk).update(sandbox_of=live)
    assert rows_of(repairer, "Lapsed checkouts") == []


def test_shortages_are_on_it(shop: Shop, repairer: Client) -> None:
    session = sold_out_since(shop)
    events = Basket.objects.get().events
    runner.run(checkout_repairs.order_late, session=session, accept_short=True, expected_events=events, reason=REASON, actor=OTHER)
    body = repairer.get(WORK).content.decode()
    assert 'Ordered without stock <span class="number">1</span>' in body


@pytest.mark.parametrize(
    ("title", "listed"), [("The customer may have paid", ["checkout_aborted"] * 2), ("Ordered without stock", ["short"] * 2)]
)
def test_all_of_a_section_are_in_its_list(
    title: str, listed: list[str], shop: Shop, repairer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page takes one row of each."""
    monkeypatch.setattr(worklist, "MAX_ROWS", 1)
    shop.product("lamp", 500)
    for number in range(4):
        shop.buyer(f"user {number}").place("lamp")
        shop.buyer(f"user {number}").start()
        shop.buyer(f"user {number}").pay_after_abort()
    Attention.objects.filter(basket__user_id__in=["user 2", "user 3"]).update(reason=Attention.Reason.SHORT)
    section = repairer.get(WORK).content.decode().partition(f"<h2>{title}")[2]
    address = re.search(r'href="(/admin/baskets/attention/\?[^"]+)"', section)
    assert address
    flags = repairer.get(html.unescape(address[1])).context["cl"].result_list
    assert [flag.reason for flag in flags] == listed


def test_a_shortfall_is_on_it(shop: Shop, repairer: Client) -> None:
    short_of_supply(shop)
    body = repairer.get(WORK).content.decode()
    assert 'Products with a shortfall <span class="number">1</span>' in body
    assert "1 missing" in body


def rows_of(client: Client, title: str) -> list[str]:
    """The rows of one section of the work list."""
    body = client.get(WORK).content.decode()
    section = body.partition(f"<h2>{title}")[2].partition('<div class="module">')[0]
    return [html.unescape(re.sub(r"\s+", " ", row)) for row in re.findall(r"<tr>(<td>.*?)</tr>", section, re.DOTALL)]


def aborted_and_reported(buyer: Buyer) -> str:
    order_no = buyer.start().session.order_no
    buyer.pay_after_abort()
    return order_no


def test_all_flags_of_a_basket_are_one_line(shop: Shop, repairer: Client) -> None:
    shop.product("song")
    ann, other_shopper = shop.buyer("ann"), shop.buyer("ben")
    ann.place("song")
    first = aborted_and_reported(ann)
    other_shopper.place("song")
    other = aborted_and_reported(other_shopper)
    numbers = [first, *(aborted_and_reported(ann) for _ in range(21))]
    # The one that has waited longest comes first; the oldest two of Ann are merged.
    single, line = rows_of(repairer, "The customer may have paid")
    assert [number for number in numbers if f'<span class="order-no">{number}</span></a><br>' in line] == numbers[-3:]
    assert "and 17 more, and 2 earlier ones, merged" in line
    assert set(re.findall(r"/(\w+)/[^/]+/repair/([a-z-]+)/", line)) == {("basket", "settle"), ("attention", "take")}
    assert other in single
    assert set(re.findall(r"/repair/([a-z-]+)/", single)) == {"order-late", "settle", "take"}
    address = re.search(r'href="([^"]+/basket/[^"]+/repair/settle/)"', line)
    assert address
    form = {"csrfmiddlewaretoken": token(repairer, address[1]), "reason": "a script, not a customer"}
    form["seen"] = re.search(r'name="seen" value="(\d+)"', repairer.get(address[1]).content.decode())[1]  # type: ignore[index]
    assert repairer.post(address[1], form).status_code == 302
    assert [other in row for row in rows_of(repairer, "The customer may have paid")] == [True]
    assert not Attention.objects.open().filter(basket_id=ann.owner.basket_id).exists()
    assert invariant_checker.check_invariants() == []


def test_a_report_without_a_number_names_its_candidates_and_offers_to_order_none(shop: Shop, repairer: Client) -> None:
    """Staff choose the one that was paid; each is named as it is now."""
    shop.product("song")
    ann = shop.buyer("ann")
    ann.place("song")
    paid = ann.start().session.order_no
    ann.finish(False)
    last = aborted_and_reported(ann)
    (line,) = rows_of(repairer, "The customer may have paid")
    text = re.sub(r"<[^>]+>", "", line)
    assert re.search(rf"No order number was reported. It may be one of: {last} \(aborted [^)]+\), {paid} \(aborted [^)]+\)", text)
    assert "order-late" not in line
    ann.finish(True, paid)
    (line,) = rows_of(repairer, "The customer may have paid")
    assert re.search(rf"{paid} \(ordered [^)]+\)", re.sub(r"<[^>]+>", "", line))
    flag = Attention.objects.select_related("basket").get()
    pages = [reverse("admin:baskets_basket_change", args=[flag.basket_id]), reverse("admin:baskets_attention_change", args=[flag.pk])]
    assert all("No order number was reported. It may be one of:" in repairer.get(page).content.decode() for page in pages)
    runner.run(attention_repairs.resolve, attention=flag, expected_events=flag.basket.events, reason="refunded", actor=TESTER)
    for page in pages:
        body = repairer.get(page).content.decode()
        assert "No order number was reported; considered: " in body
        assert "It may be" not in body
    journal = repairer.get(reverse("admin:baskets_deskentry_changelist")).content.decode()
    assert ("reported as ordered after it was aborted" in journal, "checkout_aborted" in journal) == (True, False)


def test_who_only_looks_is_offered_nothing(
    shop_with_open_work: Shop, viewer: Client, staff_without_rights: Client, anonymous: Client
) -> None:
    body = viewer.get(WORK).content.decode()
    assert "view only" in body
    assert "/repair/" not in body
    assert staff_without_rights.get(WORK).status_code == 403
    assert anonymous.get(WORK).status_code == 302
    assert viewer.post(WORK, {"csrfmiddlewaretoken": token(viewer, WORK)}).status_code == 405


def test_the_work_list_costs_the_same_however_long(shop: Shop, repairer: Client) -> None:
    shop.product("lamp", 500)

    def more(first: int, last: int) -> None:
        for number in range(first, last):
            buyer = shop.buyer(f"user {number}")
            buyer.place("lamp")
            buyer.start()
            buyer.pay_after_abort()
            buyer.start()
            buyer.wait(hours=1)

    counts = []
    for first, last in ((0, 2), (2, 14)):
        more(first, last)
        with CaptureQueriesContext(connection) as queries:
            assert repairer.get(WORK).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 20


def test_a_check_fills_and_empties_the_list(repairer: Client, run_check: Callable[[list[dict[str, Any]]], None]) -> None:
    found = [{"slug": "supply_equation", "rule": 1, "sentence": "It adds up.", "total": 2, "examples": [{"product_id": "<lamp>"}]}]
    run_check(found)
    rule = BrokenRule.objects.get()
    page = repairer.get(reverse("admin:baskets_brokenrule_change", args=[rule.pk])).content.decode()
    assert "&lt;lamp&gt;" in page
    runner.run(assignments.resolve_rule, rule=rule, expected_step=0, reason="explained", actor=OTHER)
    assert "Broken rules <span" not in repairer.get(WORK).content.decode()
    run_check(found)
    rule.refresh_from_db()
    assert (rule.settled_at, rule.settled_by, rule.note) == (None, "", ""), "what is broken still is open again"
    run_check([])
    rule.refresh_from_db()
    assert rule.gone_at is not None
    assert "No check has found a rule that is broken." in repairer.get(WORK).content.decode()
    assert DeskEntry.objects.filter(kind="checked").count() == 3


@pytest.fixture
def run_check(db: None) -> Callable[[list[dict[str, Any]]], None]:
    actor = Actor.system("check_baskets")
    return lambda found: runner.run(assignments.record_check, checked=40, found=found, actor=actor)


# --- Many rows at once ---------------------------------------------------------------


def crowd(shop: Shop) -> list[CheckoutSession]:
    shop.product("lamp", 9)
    for user_id in ("ann", "ben", "cid"):
        shop.buyer(user_id).place("lamp", 2)
        shop.buyer(user_id).start()
    return list(CheckoutSession.objects.order_by("pk"))


def chosen(client: Client, model: str, slug: str, rows: list[Any]) -> tuple[str, dict[str, Any]]:
    """Choose rows in a list as a browser does, and read the form of the page that opens."""
    listed = reverse(f"admin:baskets_{model}_changelist")
    form = {"csrfmiddlewaretoken": token(client, listed), "action": slug, "index": "0", "select_across": "0"}
    response = client.post(listed, {**form, "_selected_action": [row.pk for row in rows]})
    assert response.status_code == 200
    body = html.unescape(response.content.decode())
    address = re.search(r'<form method="post" action="([^"]*/repair/[^"]+)"', body)
    assert address
    seen = re.findall(r'name="row" value="([^"]+)"', body)
    assert len(seen) == len(rows)
    return address[1], {"csrfmiddlewaretoken": form["csrfmiddlewaretoken"], "row": seen, "reason": REASON}


def test_many_checkouts_are_aborted_with_one_summary(shop: Shop, repairer: Client, stored_rows: Callable[[], Any]) -> None:
    sessions = crowd(shop)
    before = stored_rows()
    address, form = chosen(repairer, "checkoutsession", "abort", sessions)
    assert stored_rows() == before
    shop.buyer("ben").place("lamp")
    body = repairer.post(address, form, follow=True).content.decode()
    assert "Done: 2. Refused: 1." in body
    assert "The record has changed since it was shown. Nothing was done." in body
    assert list(CheckoutSession.objects.order_by("pk").values_list("status", flat=True)) == ["ABORTED", "ACTIVE", "ABORTED"]
    assert Event.objects.filter(kind="repaired", actor="rita", data__reason=REASON).count() == 2
    assert invariant_checker.check_invariants() == []
    done = stored_rows()
    assert "Done: 0. Refused: 3." in repairer.post(address, form, follow=True).content.decode()
    assert stored_rows() == done


def test_many_baskets_last_longer_after_a_look(shop: Shop, repairer: Client, stored_rows: Callable[[], Any]) -> None:
    crowd(shop)
    before = stored_rows()
    address, form = chosen(repairer, "basket", "extend", list(Basket.objects.all()))
    found = re.search(r'name="confirm" value="([^"]+)"', repairer.post(address, form | {"days": "60"}).content.decode())
    assert found
    confirm = html.unescape(found[1])
    assert stored_rows() == before
    other = repairer.post(address, form | {"days": "90", "confirm": confirm})
    assert "Done:" not in other.content.decode(), "what is confirmed is what was shown"
    assert stored_rows() == before
    assert "Done: 3. Refused: 0." in repairer.post(address, form | {"days": "60", "confirm": confirm}, follow=True).content.decode()


@pytest.mark.parametrize(("slug", "then"), [("take", "hand-back"), ("settle", None)])
def test_many_matters_are_taken_handed_back_and_settled(slug: str, then: str | None, full_shop: Shop, repairer: Client) -> None:
    cid = full_shop.buyer("cid")
    cid.pay_after_abort()
    for step in filter(None, (slug, then)):
        address, form = chosen(repairer, "attention", step, list(Attention.objects.all()))
        assert "Done: 2. Refused: 0." in repairer.post(address, form, follow=True).content.decode()
    assert invariant_checker.check_invariants() == []


def test_many_rows_without_right_reason_or_token_change_nothing(
    shop: Shop, repairer: Client, viewer: Client, staff_without_rights: Client, anonymous: Client, stored_rows: Callable[[], Any]
) -> None:
    address, form = chosen(repairer, "checkoutsession", "abort", crowd(shop))
    before = stored_rows()
    for client, code in ((viewer, 403), (staff_without_rights, 403), (anonymous, 302)):
        client.cookies["csrftoken"] = "a" * 32
        assert client.post(address, form | {"csrfmiddlewaretoken": "a" * 32}).status_code == code
    assert repairer.get(address).status_code == 405
    assert repairer.post(address, form | {"csrfmiddlewaretoken": ""}).status_code == 403
    for wrong in ({"reason": ""}, {"row": []}, {"row": ["x y", "999999999999999999999999 1", "\x00 1", " ", "1 -1"]}):
        assert repairer.post(address, form | wrong, follow=True).status_code == 200
    assert repairer.post(address.replace("abort", "hold-again"), form).status_code == 404
    assert stored_rows() == before


# --- A stolen key ---------------------------------------------------------------------------------------


def stolen_key(shop: Shop) -> ApiKey:
    """A key that has sold 120 lamps to one guest and holds 5 for another; an honest key has sold one."""
    shop.product("lamp", 500)
    key = ApiKey.objects.create(partner=shop.partner, prefix="stolenstolen", digest=bytes(32), kind="client", created_by="tests")
    for user_id, prefix, count, ordered in (
        ("thief", "stolenstolen", 120, True),
        ("other", "stolenstolen", 5, False),
        ("ann", "honesthonest", 1, True),
    ):
        buyer, actor = shop.buyer(user_id), Actor(kind=ActorKind.KEY, name=prefix)
        buyer.place("lamp", count)
        runner.run(checkout_sessions.start_session, owner=buyer.owner, actor=actor)
        if ordered:
            finish = partial(checkout_sessions.finish_session, owner=buyer.owner, ordered=True, order_no=None, actor=actor)
            runner.run(finish)
    return key


def test_key_unlike_all_others_is_on_the_work_list(shop: Shop, root: Client, repairer: Client, staff_without_rights: Client) -> None:
    key = stolen_key(shop)
    body = html.unescape(root.get(WORK).content.decode())
    assert 'Keys unlike all others <span class="number">1</span>' in body
    assert "62.5 pieces a checkout, where 1.0 are usual" in body
    assert reverse("admin:baskets_apikey_revoke", args=[key.pk]) in body
    repairer_sees = html.unescape(repairer.get(WORK).content.decode())
    assert reverse("admin:baskets_apikey_revoke", args=[key.pk]) not in repairer_sees
    assert "?held_by=stolenstolen" in repairer_sees
    ApiKey.objects.update(revoked_at=key.created_at)
    assert "No key is unlike the others." in root.get(WORK).content.decode()


def test_lists_show_what_a_key_holds_and_what_it_ordered(shop: Shop, repairer: Client) -> None:
    key = stolen_key(shop)
    address = reverse("admin:baskets_checkoutsession_changelist")
    numbers = dict(CheckoutSession.objects.values_list("basket__user_id", "order_no"))

    def shown(query: str) -> set[str]:
        body = repairer.get(f"{address}?{query}").content.decode()
        return {user_id for user_id, order_no in numbers.items() if order_no in body}

    assert shown("held_by=stolenstolen") == {"other"}
    assert shown("ordered_by=stolenstolen") == {"thief"}
    assert shown("ordered_by=unknown") == set()
    assert shown("ordered_by=NO+KEY") == {"thief", "other", "ann"}
    page = html.unescape(repairer.get(reverse("admin:baskets_apikey_change", args=[key.pk])).content.decode())
    assert "?held_by=stolenstolen" in page
    assert "?ordered_by=stolenstolen" in page


def test_many_orders_of_one_basket_are_reversed_together(shop: Shop, repairer: Client) -> None:
    shop.product("lamp", 10)
    buyer = shop.buyer("ann")
    for _ in range(3):
        buyer.place("lamp", 2)
        buyer.start()
        buyer.finish(True)
    assert Stock.objects.get(pk="lamp").available == 4
    address = reverse("admin:baskets_checkoutsession_changelist")
    sessions = list(CheckoutSession.objects.values_list("pk", flat=True))
    chosen = {"action": "reverse-order", "_selected_action": sessions, "csrfmiddlewaretoken": token(repairer, address)}
    rows = re.findall(r'name="row" value="(\d+ \d+)"', repairer.post(address, chosen).content.decode())
    assert len(rows) == 3
    many = reverse("admin:baskets_checkoutsession_repair_many", args=["reverse-order"])
    form = {"row": rows, "reason": "all came back", "csrfmiddlewaretoken": token(repairer, address)}
    body = repairer.post(many, form, follow=True).content.decode()
    assert "has changed since" not in body
    assert Stock.objects.get(pk="lamp").available == 10
    # The same page once more does nothing.
    repairer.post(many, {"row": rows, "reason": "all came back", "csrfmiddlewaretoken": token(repairer, address)})
    assert Stock.objects.get(pk="lamp").available == 10
    assert invariant_checker.check_invariants() == []


def test_orders_of_a_stolen_key_are_reversed_together_after_a_preview(
    shop: Shop, repairer: Client, stored_rows: Callable[[], dict[str, list[Any]]]
) -> None:
    stolen_key(shop)
    address = reverse("admin:baskets_checkoutsession_changelist")
    session = CheckoutSession.objects.get(finished_by_key="stolenstolen")
    before = stored_rows()
    chosen = {"action": "reverse-order", "_selected_action": [session.pk], "csrfmiddlewaretoken": token(repairer, address)}
    preview = html.unescape(repairer.post(f"{address}?ordered_by=stolenstolen", chosen).content.decode())
    assert stored_rows() == before
    assert session.order_no in preview
    row = re.search(rf'name="row" value="({session.pk} \d+)"', preview)
    assert row
    many = reverse("admin:baskets_checkoutsession_repair_many", args=["reverse-order"])
    values = {"row": row[1], "reason": "stolen key", "csrfmiddlewaretoken": token(repairer, address)}
    for _ in range(2):
        assert session.order_no in repairer.post(many, values, follow=True).content.decode()
        assert Stock.objects.get(pk="lamp").available == 494
    line = Event.objects.get(kind=Event.Kind.REPAIRED)
    assert (line.actor, line.data["repair"], line.data["reason"]) == ("rita", "reverse_order", "stolen key")
