"""The search of the header, by keyboard, and a form that is interrupted by the end of the session, in a real browser."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from baskets.models import CheckoutSession, StaffSession
from tests.admin.browser.conftest import PASSWORD, job
from tests.admin.conftest import Shop

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]
WIDTHS = (1366, 390)


def photograph(page: Page, folder: Path, name: str) -> None:
    """Take pictures in both colour schemes and two widths."""
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 768})
            page.screenshot(path=folder / f"{name}-{scheme}-{width}.png")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (name, width)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1366, "height": 768})


def search(page: Page, typed: str) -> None:
    page.locator("body").press("/")
    expect(page.locator("#finder")).to_be_focused()
    page.keyboard.insert_text(typed)
    page.keyboard.press("Enter")


def test_a_call_from_the_number_to_the_interrupted_repair(shop: Shop, staff_page: Page, context: Any, tmp_path: Path) -> None:
    for number in range(3):
        shop.product(f"kino-{number}", 5, name=f"Kino ticket {number}", brand="Süd", price=1250, currency="EUR")
    buyer = shop.buyer("Anna@Example.com")
    buyer.place("kino-1", 2)
    order_no = buyer.start().session.order_no
    context.grant_permissions(["clipboard-read", "clipboard-write"])

    search(staff_page, f"order no. {order_no.replace('-', ' ').replace('0', 'o').lower()}")
    expect(staff_page.get_by_role("heading", level=1)).to_contain_text("Anna@Example.com")
    expect(staff_page).to_have_title("Basket Anna@Example.com - Basket desk")
    assert staff_page.url.endswith(f"#{order_no}")
    staff_page.locator("h1 button.copy").press("Enter")
    expect(staff_page.locator("h1 button.copy")).to_have_text("Copied")
    assert staff_page.evaluate("navigator.clipboard.readText()") == "Anna@Example.com"

    search(staff_page, "SUD kino")
    expect(staff_page.get_by_role("heading", name="Products (3)")).to_be_visible()
    photograph(staff_page, tmp_path, "hits")
    search(staff_page, "missing")
    expect(staff_page.locator(".verdict")).to_have_text("Nothing was found.")
    photograph(staff_page, tmp_path, "nothing")
    staff_page.goto("/admin/baskets/basket/")
    key = f"bk_{'a' * 12}_{'1' * 64}"
    staff_page.fill("#searchbar", key)
    staff_page.press("#searchbar", "Enter")
    staff_page.wait_for_url("**/admin/search/?q=aaaaaaaaaaaa")
    expect(staff_page.locator(".messagelist")).to_contain_text("You pasted a whole API key")

    with job(staff_page, "signed out in the middle", clicks=3):
        search(staff_page, "anna@EXAMPLE.com")
        staff_page.click("a.button:has-text('Abort the checkout')")
        staff_page.fill("#id_reason", "she changed her mind")
        StaffSession.objects.all().delete()
        staff_page.click("input[value='Abort the checkout']")
        expect(staff_page.locator(".messagelist")).to_contain_text("Nothing was done yet. Sign in, and the form shows again")
        photograph(staff_page, tmp_path, "signed-out")
        staff_page.fill("#id_username", "rita")
        staff_page.fill("#id_password", PASSWORD)
        staff_page.keyboard.press("Enter")
        expect(staff_page.locator("#id_reason")).to_have_value("she changed her mind")
        photograph(staff_page, tmp_path, "again")
        assert CheckoutSession.objects.get().status == "ACTIVE"
        staff_page.click("input[value='Abort the checkout']")
        expect(staff_page.locator(".success")).to_have_text("The checkout was aborted.")
    assert CheckoutSession.objects.get().status == "ABORTED"
