"""The sign-in in a real browser: the second factor is set up from its picture, required, lost, and replaced; sessions are ended."""

from pathlib import Path
from typing import Any

import pyotp
import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, Page, expect

from baskets.models import SecondFactor
from tests.admin.auth.test_account import code_of

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]
PASSWORD = "a long password for tests"


def give_password(page: Page, password: str = PASSWORD) -> None:
    page.goto("/admin/")
    page.fill("#id_username", "rita")
    page.fill("#id_password", password)
    page.click("input[type=submit]")


def give_code(page: Page, code: str) -> None:
    page.fill("#id_code", code)
    page.click("input[type=submit]")


def test_a_second_factor_is_set_up_used_and_replaced_by_a_recovery_code(staff_page: Page, repairer: User, tmp_path: Path) -> None:
    staff_page.click("text=Your account")
    staff_page.screenshot(path=tmp_path / "account.png", full_page=True)
    staff_page.click("text=Set up a second factor")
    secret = staff_page.locator(".key code").inner_text().replace(" ", "")
    assert staff_page.locator("img.qr").evaluate("picture => picture.naturalWidth") > 150
    staff_page.screenshot(path=tmp_path / "set-up.png", full_page=True)
    give_code(staff_page, "000000")
    expect(staff_page.locator(".errorlist")).to_contain_text("This code is not right")
    give_code(staff_page, code_of(secret))
    expect(staff_page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    codes = staff_page.locator("ul.recovery code").all_inner_texts()
    staff_page.screenshot(path=tmp_path / "recovery.png", full_page=True)
    staff_page.click("text=I have kept them")
    expect(staff_page.locator("#content")).to_contain_text("Recovery codes left: 10.")
    staff_page.screenshot(path=tmp_path / "account-with-factor.png", full_page=True)

    staff_page.click("#logout-form button")
    give_password(staff_page)
    staff_page.wait_for_url("**/admin/login/code/**")
    staff_page.screenshot(path=tmp_path / "code.png", full_page=True)
    give_code(staff_page, "not a code")
    expect(staff_page.locator(".errornote")).to_contain_text("This code is not right")
    staff_page.screenshot(path=tmp_path / "wrong-code.png", full_page=True)
    SecondFactor.objects.update(last_timecode=0)
    give_code(staff_page, pyotp.TOTP(secret).now())
    staff_page.wait_for_url("**/admin/")

    staff_page.click("#logout-form button")
    give_password(staff_page)
    give_code(staff_page, codes[3])
    staff_page.wait_for_url("**/admin/")
    assert len(SecondFactor.objects.get().recovery_codes) == 9


def test_a_role_that_needs_a_second_factor_leads_to_its_set_up(
    context: BrowserContext, repairer: User, settings: Any, tmp_path: Path
) -> None:
    settings.BASKETS_SECOND_FACTOR_ROLES = ["Basket repairers"]
    page = context.new_page()
    give_password(page)
    expect(page.locator("#content")).to_contain_text("Your role needs a second factor")
    page.screenshot(path=tmp_path / "required.png", full_page=True)
    page.goto("/admin/baskets/basket/")
    give_code(page, code_of(page.locator(".key code").inner_text().replace(" ", "")))
    page.click("text=I have kept them")
    page.wait_for_url("**/admin/baskets/basket/")


def test_a_session_that_is_ended_elsewhere_says_so(staff_page: Page, browser: Any, live_server: Any, tmp_path: Path) -> None:
    other = browser.new_context(base_url=live_server.url)
    page = other.new_page()
    give_password(page, "a wrong password")
    expect(page.locator(".errornote")).to_contain_text("Please enter the correct username and password")
    page.screenshot(path=tmp_path / "wrong-password.png")
    give_password(page)
    page.wait_for_url("**/admin/")
    staff_page.click("text=Your account")
    staff_page.screenshot(path=tmp_path / "sessions.png", full_page=True)
    staff_page.click("table.sessions button:has-text('End')")
    expect(staff_page.locator(".success")).to_have_text("Sessions ended: 1.")
    page.reload()
    expect(page.locator(".warning")).to_have_text("You were signed out: rita ended this session.")
    page.screenshot(path=tmp_path / "ended.png")
    other.close()
