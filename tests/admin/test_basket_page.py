"""The page of a basket and those of its repairs: the verdict with its next step, the assignee, and what a late order finds."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import basket_repairs
from baskets.models import Attention, Basket, CheckoutSession, Event, Partner
from tests.admin.conftest import Shop
from tests.admin.repairs.repair_states import ordered, sold_out_since
from tests.factories import PartnerFactory

pytestmark = pytest.mark.django_db


def basket_url(session: CheckoutSession) -> str:
    return reverse("admin:baskets_basket_change", args=[session.basket_id])


def body_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def verdict_of(body: str) -> str:
    found = re.search(r'<div class="verdict verdict-\w+">\s*<p>(.*?)</p>', body)
    assert found
    return found[1]


def fields(client: Client, url: str) -> dict[str, str]:
    """The hidden fields of the form that makes the repair."""
    form = client.get(url).content.decode().split('autocomplete="off">')[1].split("</form>")[0]
    return {name: html.unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)}


def paid_late(shop: Shop, left: int) -> CheckoutSession:
    """Ann's checkout of 3 lamps expired, other customers have the lamps, and then her partner reports the order."""
    shop.product("lamp", 3)
    ann, ben = shop.buyer("ann"), shop.buyer("ben")
    ann.place("lamp", 3)
    session = ann.start().session
    ann.wait(minutes=31)
    ben.place("lamp", 3)
    ben.start()
    with pytest.raises(Exception, match="too little stock"):
        ann.finish(True, session.order_no)
    if left:
        supply.set_unsold(reports={"lamp": 3 + left}, as_of=None, reason="found", actor=Actor.system("feed"))
    session.refresh_from_db()
    return session


def test_a_paid_checkout_is_ordered_in_two_clicks(shop: Shop, repairer: Client) -> None:
    session = paid_late(shop, left=3)
    body = body_of(repairer, basket_url(session))
    assert re.fullmatch(
        r"The customer may have paid: an order was reported \d+ s after the hold ended, and its pieces had gone to other customers\."
        r" Its items went back to the cart\. All 3 pieces are available\. Order late\.",
        verdict_of(body),
    )
    address = reverse("admin:baskets_checkoutsession_repair", args=[session.pk, "order-late"])
    first = re.search(r'<a class="button[^"]*" href="([^"]+)"', body)
    assert first
    assert first[1] == address, "the next step is the first button"
    shown = body_of(repairer, address)
    assert "All 3 pieces are available." in shown
    assert 'class="changed"' in shown
    assert "accept_short" in shown
    assert 'type="checkbox"' not in shown
    assert "If you change a value here" not in shown
    form = fields(repairer, address) | {"reason": "payment found"}
    assert repairer.post(address, form).status_code == 302
    assert CheckoutSession.objects.get(pk=session.pk).status == "ORDERED"
    assert not Attention.objects.open().exists()
    assert verdict_of(body_of(repairer, basket_url(session))).startswith("The customer bought 3 pieces")
    assert invariant_checker.check_invariants() == []


@pytest.mark.parametrize(
    ("left", "sentence", "label"),
    [
        (2, "2 of 3 pieces are available.", "Order with 1 piece short"),
        (0, "None of the 3 pieces is available.", "Order with 3 pieces short"),
    ],
)
def test_a_late_order_without_stock_is_shown_short_before_a_reason_and_needs_consent(
    left: int, sentence: str, label: str, shop: Shop, repairer: Client, stored_rows: Callable[[], Any]
) -> None:
    session = paid_late(shop, left=left)
    assert sentence in verdict_of(body_of(repairer, basket_url(session)))
    address = reverse("admin:baskets_checkoutsession_repair", args=[session.pk, "order-late"])
    shown = body_of(repairer, address)
    assert sentence in shown
    assert label in shown
    assert "If you change a value here" in shown
    assert f'{3 - left} \N{MULTIPLICATION SIGN} <bdi class="given">lamp</bdi>: short' in shown
    form = fields(repairer, address) | {"reason": "payment found"}
    before = stored_rows()
    refused = repairer.post(address, form)
    assert f"{sentence} Choose this to order without them" in html.unescape(refused.content.decode())
    assert stored_rows() == before
    assert repairer.post(address, form | {"accept_short": "on"}).status_code == 302
    assert list(Attention.objects.open().values_list("reason", flat=True)) == ["short"]
    assert f"{3 - left} of 3 pieces {'has' if left == 2 else 'have'} no stock." in verdict_of(body_of(repairer, basket_url(session)))
    assert invariant_checker.check_invariants() == []


def test_lapsed_holds_count_as_available_for_a_late_order(shop: Shop, repairer: Client) -> None:
    session = paid_late(shop, left=0)
    shop.buyer("ben").wait(hours=1)
    assert "All 3 pieces are available. Order late." in verdict_of(body_of(repairer, basket_url(session)))


def test_a_case_is_taken_by_one_click_that_returns(shop: Shop, repairer: Client, viewer: Client) -> None:
    session = paid_late(shop, left=0)
    page = f"{basket_url(session)}?events_before=99"
    repair = reverse("admin:baskets_checkoutsession_repair", args=[session.pk, "order-late"])
    for url in (page, repair):
        body = body_of(repairer, url)
        button = re.search(r'<form method="post" action="([^"]+)" class="assignment">(.*?)</form>', body, flags=re.DOTALL)
        assert button
        assert ("not assigned" in button[2], "Assigned to" in button[2]) == (url == page, url != page)
        sent = dict(re.findall(r'name="(\w+)" value="([^"]*)"', button[2]))
        assert sent["next"] == url
        answer = repairer.post(button[1], sent)
        assert (answer.status_code, answer["Location"]) == (302, url)
    events = Event.objects.filter(kind="repaired").order_by("number").values_list("data", "actor")
    assert list(events) == [
        ({"repair": "take", "orderNo": session.order_no}, "rita"),
        ({"repair": "hand_back", "orderNo": session.order_no}, "rita"),
    ]
    assert repairer.post(button[1], sent | {"next": "https://example.com/"}).status_code == 409, "the page is out of date"
    assert '<form method="post" action="/admin/baskets/' not in body_of(viewer, page)


@pytest.mark.parametrize("url", ["https://example.com/", "//example.com", "javascript:alert(1)", "", "\\\\example.com"])
def test_a_button_returns_to_no_other_site(url: str, shop: Shop, repairer: Client) -> None:
    session = paid_late(shop, left=0)
    page = basket_url(session)
    take = reverse("admin:baskets_checkoutsession_repair", args=[session.pk, "take"])
    body_of(repairer, page)
    form = {"csrfmiddlewaretoken": repairer.cookies["csrftoken"].value, "seen": Basket.objects.get(pk=session.basket_id).events}
    answer = repairer.post(take, form | {"next": url})
    assert (answer.status_code, answer["Location"]) == (302, page)


def test_an_order_says_what_was_bought(shop: Shop, viewer: Client) -> None:
    body = body_of(viewer, basket_url(ordered(shop)))
    assert verdict_of(body).startswith("The customer bought 3 pieces")
    assert "needs attention" not in body


def test_an_order_of_a_sandbox_does_not_look_real(shop: Shop, viewer: Client) -> None:
    session = ordered(shop)
    Partner.objects.filter(pk=shop.partner.pk).update(sandbox_of=PartnerFactory(name="live"))
    for address in (basket_url(session), reverse("admin:baskets_checkoutsession_change", args=[session.pk])):
        sentences = re.findall(r'class="verdict[^>]*>(?:\s*<p>)?(.*?)</p>', body_of(viewer, address))
        assert sentences
        assert all(text.startswith("Sandbox: nothing was sold. The customer bought") for text in sentences), sentences


def test_an_older_page_of_sessions_has_no_verdict(shop: Shop, viewer: Client) -> None:
    session = sold_out_since(shop)
    assert "The last checkout was aborted 3 days ago" in body_of(viewer, basket_url(session))
    assert '<div class="verdict' not in body_of(viewer, f"{basket_url(session)}?sessions_before={session.pk + 1}")


def test_nothing_runs_for_a_reader(shop: Shop, viewer: Client) -> None:
    body = body_of(viewer, basket_url(paid_late(shop, left=3)))
    assert "Order late." in verdict_of(body)
    assert "/repair/" not in body.split('class="assignment"')[0]


def test_notes_are_at_the_top_the_latest_first(full_shop: Shop, root: Client) -> None:
    basket = Basket.objects.get(user_id="ben")
    for text in ("wants a call back", "<b>called</b>"):
        basket.refresh_from_db()
        actor = Actor(kind=ActorKind.STAFF, name="rita")
        runner.run(basket_repairs.add_note, basket=basket, expected_events=basket.events, reason=text, actor=actor)
    page = root.get(reverse("admin:baskets_basket_change", args=[basket.pk])).content.decode()
    notes = page[page.index('class="module notes"') : page.index('class="module attention"')]
    assert notes.index("&lt;b&gt;called&lt;/b&gt;") < notes.index("wants a call back")
    assert notes.count("rita") == 2
    assert page.count("<td>Note</td>") == 2, "the timeline names the repair"
    order = root.get(reverse("admin:baskets_checkoutsession_change", args=[CheckoutSession.objects.get(basket=basket).pk]))
    assert notes.split("</dl>")[0] in order.content.decode()


def test_an_older_order_has_its_sentence_on_its_page_and_beside_it_on_that_of_its_basket(shop: Shop, viewer: Client) -> None:
    """The first sentence is about the latest checkout, and a search for an older order scrolls past it."""
    shop.product("lamp", 9)
    ann = shop.buyer("ann")
    numbers = []
    for is_ordered in (True, False):
        ann.place("lamp", 2)
        numbers.append(ann.start().session.order_no)
        ann.finish(is_ordered, numbers[-1])
    older, latest = (CheckoutSession.objects.get(order_no=number) for number in numbers)
    body = body_of(viewer, basket_url(older))
    assert verdict_of(body).startswith("The last checkout was aborted")
    beside = re.findall(r'<p class="verdict verdict-(\w+) of-order">(.*?)</p>', body)
    assert [(tone, text[:24]) for tone, text in beside] == [("plain", "This checkout was aborte"), ("good", "The customer bought 2 pi")]
    pages = [body_of(viewer, reverse("admin:baskets_checkoutsession_change", args=[session.pk])) for session in (older, latest)]
    assert [verdict_of(page)[:24] for page in pages] == ["The customer bought 2 pi", "This checkout was aborte"]


@pytest.mark.parametrize("left", [3, 0])
def test_the_page_of_an_order_offers_the_next_step_of_its_flag(shop: Shop, repairer: Client, left: int) -> None:
    session = paid_late(shop, left=left)
    body = body_of(repairer, reverse("admin:baskets_checkoutsession_change", args=[session.pk]))
    assert verdict_of(body).startswith("The customer may have paid")
    first = re.search(r'<a class="button default" href="([^"]+)"', body)
    assert first
    assert body.count(f'href="{first[1]}"') == 1
    flag = Attention.objects.get()
    assert first[1] == (
        reverse("admin:baskets_checkoutsession_repair", args=[session.pk, "order-late"])
        if left
        else reverse("admin:baskets_attention_repair", args=[flag.pk, "settle"])
    )
