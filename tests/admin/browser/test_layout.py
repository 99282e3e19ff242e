"""The keyboard starts where work does, a confirmation folds what stays, and every column is on the screen."""

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django import Settings

from baskets.domain.access import token_issuers
from baskets.domain.events import webhook_endpoints
from tests.admin.browser.conftest import LAPTOP
from tests.admin.conftest import Shop
from tests.factories import TESTER

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]
PHONE: Any = {"width": 390, "height": 844}
KEYS_URL = "https://login.example.com/of/the/second/screen/keys"


def test_the_keyboard_starts_where_work_does(full_shop: Shop, staff_page: Page) -> None:
    staff_page.goto("/admin/baskets/attention/work/")
    staff_page.keyboard.press("Tab")
    expect(staff_page.locator(".skip-to-content-link")).to_be_focused()
    staff_page.goto("/admin/baskets/basket/")
    expect(staff_page.locator("#searchbar")).to_be_focused()
    staff_page.keyboard.type("ann")
    staff_page.keyboard.press("Enter")
    expect(staff_page.locator("#result_list tbody th a")).to_be_focused()
    staff_page.keyboard.press("Enter")
    expect(staff_page.get_by_role("heading", level=1)).to_contain_text("ann")
    staff_page.click("a.button:has-text('Extend the basket')")
    expect(staff_page.locator("#id_days")).to_be_focused()
    # A confirmation shows what changes, and folds the rest; on paper there is nothing to press.
    staff_page.fill("#id_days", "60")
    staff_page.fill("#id_reason", "requested")
    staff_page.click("input[value='Show what will change']")
    expect(staff_page.locator("tr.changed").first).to_be_in_viewport()
    expect(staff_page.locator("details.unchanged table")).to_be_hidden()
    staff_page.emulate_media(media="print")
    for pressed in ("#header", ".submit-row", "#nav-sidebar", ".breadcrumbs"):
        expect(staff_page.locator(pressed)).to_be_hidden()


def test_every_column_of_a_list_is_on_the_screen(full_shop: Shop, context: BrowserContext, staff_page: Page, settings: Settings) -> None:
    beyond = """(() => {
        const frame = document.querySelector(".results");
        const cells = [...document.querySelectorAll("#result_list tbody tr:first-child > *")];
        return cells.filter((cell) => cell.getBoundingClientRect().right > innerWidth).length + frame.scrollWidth - frame.clientWidth;
    })()"""
    webhook_endpoints.create_webhook(partner_name=full_shop.partner.name, url=f"{KEYS_URL}/events", actor=TESTER)
    values = {"name": "login", "issuer": "https://login.example.com", "keys_url": KEYS_URL, "audience": "baskets"}
    token_issuers.add_issuer(partner_name=full_shop.partner.name, **values, actor=TESTER)
    # German heads are the longer ones.
    context.add_cookies([{"name": settings.LANGUAGE_COOKIE_NAME, "value": "de", "url": staff_page.url}])
    for model in ("checkoutsession", "basket", "attention", "webhookendpoint", "tokenissuer"):
        staff_page.goto(f"/admin/baskets/{model}/")
        for size in (LAPTOP, PHONE):
            staff_page.set_viewport_size(size)
            assert staff_page.evaluate(beyond) == 0, (model, size)
    # On a tablet, a list may scroll within its frame; the header takes few lines, and the page is not wider than the window.
    staff_page.set_viewport_size({"width": 768, "height": 1024})
    header, width = staff_page.evaluate("[document.querySelector('#header').offsetHeight, document.documentElement.scrollWidth]")
    assert header < 200
    assert width <= 768
