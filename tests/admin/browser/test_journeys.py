"""What staff do on the telephone, from the search box to the done repair, in a real browser."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from baskets.domain.checkout import expiry
from baskets.domain.maintenance import invariant_checker
from baskets.models import Attention, CheckoutSession, DeskEntry, Event
from tests.admin.browser.conftest import choose_all, job
from tests.admin.conftest import Shop
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import available

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{7*7}}\u202ecod.exe'
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def shopper(shop: Shop) -> Any:
    """A buyer whose checkout holds two of five lamps."""
    shop.product("lamp", 5)
    buyer = shop.buyer("anna")
    buyer.place("lamp", 2)
    buyer.start()
    return buyer


def find(staff_page: Page, user_id: str) -> None:
    staff_page.goto("/admin/baskets/basket/")
    staff_page.fill("#searchbar", user_id)
    staff_page.press("#searchbar", "Enter")
    staff_page.click("#result_list tbody th a")
    expect(staff_page.get_by_role("heading", level=1)).to_contain_text(user_id)


def test_a_customer_has_paid_and_sees_nothing(shopper: Any, staff_page: Page, tmp_path: Path) -> None:
    shopper.pay_after_abort()
    staff_page.click("text=Open the work list")
    expect(staff_page.get_by_text("The customer may have paid 1")).to_be_visible()
    staff_page.screenshot(path=tmp_path / "work.png")
    staff_page.click("button:has-text('Assign to me')")
    expect(staff_page.locator(".success")).to_have_text("It is assigned to you.")
    expect(staff_page.get_by_role("heading", level=1)).to_have_text("Work list")
    expect(staff_page.locator("form.assignment")).to_contain_text("Assigned to rita")
    staff_page.click("table.work a:has-text('anna')")
    staff_page.click(".verdict a.button")
    staff_page.fill("#id_reason", "the payment was found")
    expect(staff_page.locator("tr.changed").first).to_be_visible()
    staff_page.screenshot(path=tmp_path / "order-late.png", full_page=True)
    staff_page.click("input[value='Order late']")
    expect(staff_page.locator(".success")).to_have_text("The checkout was ordered late.")
    assert CheckoutSession.objects.get().status == "ORDERED"
    expect(staff_page.get_by_text("Resolve this flag")).to_have_count(0)
    assert Attention.objects.get().settled_by == "rita"
    repairs = list(Event.objects.filter(kind="repaired").order_by("number").values_list("data__repair", flat=True))
    assert repairs == ["take", "order_late"]
    assert invariant_checker.check_invariants() == []


def test_paid_but_expired_takes_four_clicks_from_search_to_done(shopper: Any, staff_page: Page, tmp_path: Path) -> None:
    """The hold ended, the order was reported too late, and the pieces are there: find, next step, reason, done."""
    shopper.wait(minutes=31)
    expiry.sweep_sessions()
    session = CheckoutSession.objects.get()
    shopper.wait(days=2)
    with pytest.raises(Exception, match="too long ago"):
        shopper.finish(True, session.order_no)
    staff_page.goto("/admin/baskets/basket/")
    with job(staff_page, "paid but expired", clicks=4):
        staff_page.fill("#searchbar", "anna")
        staff_page.press("#searchbar", "Enter")
        staff_page.click("#result_list tbody th a")
        expect(staff_page.locator(".verdict p")).to_contain_text("All 2 pieces are available. Order late.")
        staff_page.screenshot(path=tmp_path / "verdict.png", full_page=True)
        staff_page.click(".verdict a.button")
        expect(staff_page.locator(".verdict")).to_have_text("All 2 pieces are available.")
        expect(staff_page.locator("tr.changed").first).to_be_visible()
        staff_page.select_option("#id_preset", "The payment was found")
        staff_page.click("input[value='Order late']")
        expect(staff_page.locator(".verdict p")).to_contain_text("The customer bought 2 pieces")
    assert CheckoutSession.objects.get().status == "ORDERED"
    assert not Attention.objects.open().exists()
    assert invariant_checker.check_invariants() == []


def test_a_hold_that_ends_on_the_page_suggests_a_reload_and_is_extended(shopper: Any, staff_page: Page, tmp_path: Path) -> None:
    shopper.wait(minutes=29, seconds=50)
    find(staff_page, "anna")
    expect(staff_page.locator("a.reload")).to_be_visible(timeout=15_000)  # The hold has ten seconds left.
    staff_page.screenshot(path=tmp_path / "over.png", full_page=True)
    staff_page.click("a.reload")
    expect(staff_page.locator(".verdict p")).to_contain_text("is not swept yet")
    staff_page.click("a.button:has-text('Extend the hold')")
    staff_page.fill("#id_reason", "she is paying")
    staff_page.screenshot(path=tmp_path / "extend.png", full_page=True)
    staff_page.click("input[value='Extend the hold']")
    expect(staff_page.locator(".verdict p")).to_contain_text("is in checkout and has 2 pieces on hold for 14 min more")
    assert Event.objects.latest("number").data["repair"] == "extend_hold"


def test_a_page_that_is_stale_changes_nothing_and_says_what_moved(shopper: Any, staff_page: Page) -> None:
    find(staff_page, "anna")
    staff_page.click("a.button:has-text('Abort the checkout')")
    staff_page.fill("#id_reason", "requested")
    shopper.finish(True)
    staff_page.click("input[value='Abort the checkout']")
    expect(staff_page.locator(".errornote")).to_contain_text("The record has changed since it was shown")
    expect(staff_page.locator(".errornote")).to_contain_text("ordered")
    assert CheckoutSession.objects.get().status == "ORDERED"


def test_a_hold_counts_down_and_times_are_those_of_the_office(shopper: Any, staff_page: Page, tmp_path: Path) -> None:
    find(staff_page, "anna")
    left = staff_page.locator("[data-seconds-left]")
    expect(left).to_contain_text("left")
    first = left.inner_text()
    expect(left).not_to_have_text(first)
    expect(staff_page.locator(".zone")).to_have_text("Times are in Asia/Tokyo.")
    staff_page.screenshot(path=tmp_path / "basket.png", full_page=True)


def test_many_checkouts_are_aborted_at_once(shop: Shop, staff_page: Page) -> None:
    shop.product("lamp", 9)
    for user_id in ("ann", "ben"):
        shop.buyer(user_id).place("lamp", 2)
        shop.buyer(user_id).start()
    staff_page.goto("/admin/baskets/checkoutsession/")
    choose_all(staff_page)
    staff_page.select_option("select[name=action]", "abort")
    staff_page.click("button[name=index]")
    expect(staff_page.get_by_role("heading", name="2 chosen")).to_be_visible()
    staff_page.fill("#id_reason", "the shop closes")
    staff_page.click("input[value='Abort the checkout: 2']")
    expect(staff_page.locator(".verdict")).to_have_text("Done: 2. Refused: 0.")
    assert set(CheckoutSession.objects.values_list("status", flat=True)) == {"ABORTED"}


def test_a_list_is_taken_away_as_a_file(shopper: Any, staff_page: Page) -> None:
    staff_page.goto("/admin/baskets/basket/?q=anna")
    with staff_page.expect_download() as started:
        staff_page.click("input[value='Export as CSV']")
    assert "anna" in Path(started.value.path()).read_text(encoding="utf-8-sig")
    assert DeskEntry.objects.get(kind="exported").actor == "rita"


def test_hostile_names_are_text_and_nothing_else(shop: Shop, staff_page: Page) -> None:
    shop.product("lamp", 3, name=HOSTILE, brand=HOSTILE)
    buyer = shop.buyer(HOSTILE)
    buyer.place("lamp")
    buyer.start()
    staff_page.goto("/admin/baskets/basket/")
    expect(staff_page.locator("#result_list")).to_contain_text("<script>alert(1)</script>")
    staff_page.click("#result_list tbody th a")
    expect(staff_page.locator("#content")).to_contain_text("{{7*7}}")
    staff_page.click("a.button:has-text('Erase the user')")
    expect(staff_page.locator("#content")).to_contain_text("U+202E")
    staff_page.goto("/admin/baskets/product/lamp/change/")
    expect(staff_page.locator("#content")).to_contain_text("<img src=x")


def test_a_parcel_comes_back_once(shopper: Any, staff_page: Page) -> None:
    shopper.finish(True)
    find(staff_page, "anna")
    staff_page.click("text=Reverse the order")
    staff_page.fill("textarea[name=reason]", "the parcel came back")
    staff_page.get_by_role("button", name="Reverse the order").click()
    expect(staff_page.get_by_text("The order was reversed.")).to_be_visible()
    expect(staff_page.locator("section.session h3")).to_contain_text("reversed")
    expect(staff_page.get_by_role("link", name="Reverse the order")).to_have_count(0)
    staff_page.goto("/admin/baskets/product/lamp/change/")
    expect(staff_page.locator("ul.counters")).to_contain_text("2 reversed")
    assert invariant_checker.check_invariants() == []


def test_a_script_has_filled_the_work_list(shopper: Any, staff_page: Page) -> None:
    for _ in range(4):
        shopper.pay_after_abort()
        shopper.start()
    shopper.finish(False)
    staff_page.click("text=Open the work list")
    expect(staff_page.get_by_text("The customer may have paid 1")).to_be_visible()
    expect(staff_page.get_by_text("and 1 more")).to_be_visible()
    staff_page.click("text=Resolve all its flags")
    staff_page.fill("textarea[name=reason]", "a script, and no payment")
    staff_page.get_by_role("button", name="Resolve all its flags").click()
    expect(staff_page.get_by_text("All open flags are resolved.")).to_be_visible()
    assert not Attention.objects.open().exists()
    assert invariant_checker.check_invariants() == []


def test_a_stock_take_in_a_crowd(shop: Shop, staff_page: Page, tmp_path: Path) -> None:
    """Customers go on buying between the preview and the confirmation."""
    shop.product("lamp", 60)
    shop.product("mug", 60)
    held = shop.buyer("early")
    held.place("lamp", 5)
    held.start()
    staff_page.goto("/admin/")
    with job(staff_page, "stock take: to the preview", clicks=2):
        staff_page.click("a.button:has-text('Take stock')")
        staff_page.fill("#id_counts", "product_id\tcounted\nlamp\t50\nmug\t70\n")
        staff_page.fill("#id_reason", "the count of the evening")
        staff_page.click("input[value='Show what will change']")
    row = staff_page.get_by_role("row", name="lamp Name of lamp")
    expect(row.get_by_role("cell")).to_have_text(["lamp Name of lamp", "50", "0", "0", "5", "55", "45", ""])
    staff_page.screenshot(path=tmp_path / "stock-take.png", full_page=True)

    def buy(number: int) -> None:
        buyer = shop.buyer(f"buyer-{number}")
        buyer.place("lamp", 2)
        buyer.place("mug")
        buyer.start()
        if number % 2:
            buyer.finish(True)

    assert run_concurrently([partial(buy, number) for number in range(8)]) == [None] * 8
    staff_page.click("input[value='Apply 2 counts']")
    expect(staff_page.locator(".success")).to_have_text("Done: counts of 2 products are applied.")
    # Of 50 counted lamps, 5 are held by the early buyer, and 16 were held or sold since.
    assert (available("lamp"), available("mug")) == ((29, 0), (62, 0))
    staff_page.goto("/admin/baskets/product/lamp/change/")
    expect(staff_page.locator("#content")).to_contain_text("the count of the evening")
    expect(staff_page.locator("#content")).to_contain_text("It adds up")
    staff_page.click("text=Who bought it")
    expect(staff_page.locator("#result_list")).to_contain_text("buyer-1")
    staff_page.goto("/admin/")
    expect(staff_page.get_by_role("img", name="Pieces sold per minute: 12 in all")).to_be_visible()
    staff_page.screenshot(path=tmp_path / "home.png", full_page=True)
    assert invariant_checker.check_invariants() == []
