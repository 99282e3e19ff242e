"""What staff do on the telephone, from the search box to the done repair, in a real browser."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from baskets.domain.maintenance import invariant_checker
from baskets.models import Attention, CheckoutSession, DeskEntry, Event
from tests.admin.conftest import Shop

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{7*7}}\u202ecod.exe'
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def anna(shop: Shop) -> Any:
    """A buyer whose checkout holds two of five lamps."""
    shop.product("lamp", 5)
    buyer = shop.buyer("anna")
    buyer.place("lamp", 2)
    buyer.start()
    return buyer


def find(desk: Page, user_id: str) -> None:
    desk.goto("/admin/baskets/basket/")
    desk.fill("#searchbar", user_id)
    desk.press("#searchbar", "Enter")
    desk.click("#result_list tbody th a")
    expect(desk.get_by_role("heading", level=1)).to_contain_text(user_id)


def test_a_customer_has_paid_and_sees_nothing(anna: Any, desk: Page, tmp_path: Path) -> None:
    anna.finish(False)
    with pytest.raises(Exception, match="aborted"):
        anna.finish(True)
    desk.click("text=Open the work list")
    expect(desk.get_by_text("Somebody may have paid 1")).to_be_visible()
    desk.screenshot(path=tmp_path / "work.png")
    desk.click("a.act:has-text('Take in hand')")
    desk.fill("#id_reason", "the customer is on the telephone")
    desk.click("input[value='Take in hand']")
    expect(desk.locator(".success")).to_contain_text("take in hand")
    desk.click("a.button:has-text('Order late')")
    desk.fill("#id_reason", "the payment was found")
    desk.click("input[value='Show what will change']")
    expect(desk.locator("tr.changed").first).to_be_visible()
    desk.screenshot(path=tmp_path / "order-late.png", full_page=True)
    desk.click("input[value='Order late']")
    expect(desk.locator(".success")).to_contain_text("order late")
    assert CheckoutSession.objects.get().status == "ORDERED"
    expect(desk.get_by_text("Settle this matter")).to_have_count(0)
    assert Attention.objects.get().settled_by == "rita"
    told = list(Event.objects.filter(kind="repaired").order_by("number").values_list("data__repair", flat=True))
    assert told == ["take", "order_late"]
    assert invariant_checker.check_invariants() == []


def test_a_page_that_is_stale_changes_nothing_and_says_what_moved(anna: Any, desk: Page) -> None:
    find(desk, "anna")
    desk.click("a.button:has-text('Abort the checkout')")
    desk.fill("#id_reason", "asked for")
    anna.finish(True)
    desk.click("input[value='Abort the checkout']")
    expect(desk.locator(".errornote")).to_contain_text("It has changed meanwhile")
    expect(desk.locator(".errornote")).to_contain_text("ordered")
    assert CheckoutSession.objects.get().status == "ORDERED"


def test_a_hold_counts_down_and_times_are_those_of_the_office(anna: Any, desk: Page, tmp_path: Path) -> None:
    find(desk, "anna")
    left = desk.locator("[data-seconds-left]")
    expect(left).to_contain_text("left")
    first = left.inner_text()
    expect(left).not_to_have_text(first)
    expect(desk.locator(".zone")).to_have_text("Times are in Asia/Tokyo.")
    desk.screenshot(path=tmp_path / "basket.png", full_page=True)


def test_many_checkouts_are_aborted_at_once(shop: Shop, desk: Page) -> None:
    shop.product("lamp", 9)
    for user_id in ("ann", "ben"):
        shop.buyer(user_id).place("lamp", 2)
        shop.buyer(user_id).start()
    desk.goto("/admin/baskets/checkoutsession/")
    desk.check("#action-toggle")
    desk.select_option("select[name=action]", "abort")
    desk.click("button[name=index]")
    expect(desk.get_by_role("heading", name="2 chosen")).to_be_visible()
    desk.fill("#id_reason", "the shop closes")
    desk.click("input[value='Abort the checkout: 2']")
    expect(desk.locator(".verdict")).to_have_text("Done: 2. Refused: 0.")
    assert set(CheckoutSession.objects.values_list("status", flat=True)) == {"ABORTED"}


def test_a_list_is_taken_away_as_a_file(anna: Any, desk: Page) -> None:
    desk.goto("/admin/baskets/basket/?q=anna")
    with desk.expect_download() as started:
        desk.click("input[value='Export as CSV']")
    assert "anna" in Path(started.value.path()).read_text(encoding="utf-8-sig")
    assert DeskEntry.objects.get(kind="exported").actor == "rita"


def test_hostile_names_are_text_and_nothing_else(shop: Shop, desk: Page) -> None:
    shop.product("lamp", 3, name=HOSTILE, brand=HOSTILE)
    buyer = shop.buyer(HOSTILE)
    buyer.place("lamp")
    buyer.start()
    desk.goto("/admin/baskets/basket/")
    expect(desk.locator("#result_list")).to_contain_text("<script>alert(1)</script>")
    desk.click("#result_list tbody th a")
    expect(desk.locator("#content")).to_contain_text("{{7*7}}")
    desk.click("a.button:has-text('Erase the user')")
    expect(desk.locator("#content")).to_contain_text("U+202E")
    desk.goto("/admin/baskets/product/lamp/change/")
    expect(desk.locator("#content")).to_contain_text("<img src=x")


def test_a_parcel_comes_back_once(anna: Any, desk: Page) -> None:
    anna.finish(True)
    find(desk, "anna")
    desk.click("text=Reverse the order")
    desk.fill("textarea[name=reason]", "the parcel came back")
    desk.get_by_role("button", name="Reverse the order").click()
    expect(desk.get_by_text("Done: reverse the order.")).to_be_visible()
    expect(desk.locator("section.session h3")).to_contain_text("reversed")
    expect(desk.get_by_text("Reverse the order", exact=True)).to_have_count(0)
    desk.goto("/admin/baskets/product/lamp/change/")
    expect(desk.locator("ul.counters")).to_contain_text("2 reversed")
    assert invariant_checker.check_invariants() == []


def test_a_script_has_filled_the_work_list(anna: Any, desk: Page) -> None:
    for _ in range(4):
        anna.finish(False)
        with pytest.raises(Exception, match="aborted"):
            anna.finish(True)
        anna.start()
    anna.finish(False)
    desk.click("text=Open the work list")
    expect(desk.get_by_text("Somebody may have paid 1")).to_be_visible()
    expect(desk.get_by_text("and 1 more")).to_be_visible()
    desk.click("text=Settle all its matters")
    desk.fill("textarea[name=reason]", "a script, and no payment")
    desk.get_by_role("button", name="Settle all its matters").click()
    expect(desk.get_by_text("Done: settle all its matters.")).to_be_visible()
    assert not Attention.objects.open().exists()
    assert invariant_checker.check_invariants() == []
