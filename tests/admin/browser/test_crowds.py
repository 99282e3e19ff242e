"""Jobs of the desk that are about many: held pieces, a night without a sweep, and two people on one page. In a real browser."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Browser, Page, expect

from baskets.domain.maintenance import invariant_checker
from baskets.models import Attention, CheckoutSession
from tests.admin.browser.conftest import LAPTOP, PASSWORD, choose_all, job, sign_in_as
from tests.admin.conftest import Shop
from tests.domain.scenarios import available

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]


def test_the_last_ten_are_held_and_a_night_had_no_sweep(shop: Shop, staff_page: Page, tmp_path: Path) -> None:
    """A shop calls: "You hold our last ten". Then holds of a whole night have ended, and some of their buyers have paid."""
    shop.product("lamp", 10, name="Kino lamp")
    for user_id, pieces in (("anna", 7), ("bert", 3)):
        shop.buyer(user_id).place("lamp", pieces)
        shop.buyer(user_id).start()
    staff_page.goto("/admin/")
    with job(staff_page, "you hold our last ten", clicks=3):
        staff_page.fill("#finder", "kino lamp")
        staff_page.press("#finder", "Enter")
        expect(staff_page.locator(".verdict")).to_contain_text("the last 10 pieces are held by active checkouts")
        staff_page.screenshot(path=tmp_path / "held.png", full_page=True)
        staff_page.get_by_role("row", name="anna").get_by_role("link", name="Abort the checkout").click()
        staff_page.select_option("#id_preset", "The customer wants it")
        staff_page.click("input[value='Abort the checkout']")
        expect(staff_page.locator(".success")).to_contain_text("The checkout was aborted.")
    assert available("lamp") == (7, 0)

    shop.product("mug", 20)
    shop.buyer("bert").wait(hours=9)
    for number in range(4):
        buyer = shop.buyer(f"night-{number}")
        buyer.place("mug", 2)
        buyer.start()
        buyer.wait(hours=9)
    staff_page.goto("/admin/")
    with job(staff_page, "bulk after a dead sweep", clicks=6):
        staff_page.click("a:has-text('Lapsed checkouts, not yet swept')")
        choose_all(staff_page)
        staff_page.select_option("select[name=action]", "finish-as-ordered")
        staff_page.click("button[name=index]")
        expect(staff_page.get_by_role("heading", name="5 chosen")).to_be_visible()
        staff_page.screenshot(path=tmp_path / "night.png", full_page=True)
        staff_page.select_option("#id_preset", "The payment was found")
        staff_page.click("input[type=submit].default")
        expect(staff_page.locator(".verdict")).to_have_text("Done: 5. Refused: 0.")
    assert CheckoutSession.objects.filter(status="ORDERED").count() == 5
    assert not Attention.objects.open().exists()
    assert invariant_checker.check_invariants() == []


def test_two_people_are_on_one_page(shop: Shop, staff_page: Page, browser: Browser, live_server: Any, tmp_path: Path) -> None:
    """Both see the case unassigned and repair it: one does, the other is shown who was faster, and nothing happens twice."""
    shop.product("lamp", 5)
    buyer = shop.buyer("anna")
    buyer.place("lamp", 2)
    session = buyer.start().session
    otto = User.objects.create_user("otto", password=PASSWORD, is_staff=True)
    otto.groups.set([Group.objects.get(name="Basket repairers")])
    other = browser.new_context(viewport=LAPTOP, base_url=live_server.url)
    page = other.new_page()
    sign_in_as(page, "otto")
    with job(staff_page, "two people on one page", clicks=2):
        for each in (staff_page, page):
            each.goto(f"/admin/baskets/checkoutsession/{session.pk}/repair/abort/")
            each.select_option("#id_preset", "The customer wants it")
        page.click("input[value='Abort the checkout']")
        expect(page.locator(".success")).to_contain_text("The checkout was aborted.")
        staff_page.click("input[value='Abort the checkout']")
        expect(staff_page.locator(".errornote")).to_contain_text("The record has changed since it was shown. Nothing was done.")
        expect(staff_page.locator(".errornote")).to_contain_text("Abort the checkout by otto")
    staff_page.screenshot(path=tmp_path / "second.png", full_page=True)
    assert CheckoutSession.objects.get().status == "ABORTED"
    assert available("lamp") == (5, 0)
    other.close()
