"""What superusers do in a hurry: a key that was published is revoked, and a user who asks for it is exported and erased."""

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from baskets.domain.access import api_keys
from baskets.domain.maintenance import invariant_checker
from baskets.models import Basket, DeskEntry
from tests.admin.browser.conftest import job
from tests.admin.conftest import Shop
from tests.factories import TESTER

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]


def test_a_published_key_is_revoked_and_a_user_exported_and_erased(shop: Shop, staff_page: Page, tmp_path: Path) -> None:
    User.objects.update(is_superuser=True)
    key, text = api_keys.issue_api_key(partner_name=shop.partner.name, label="shop back end", actor=TESTER)
    # The whole key was pasted from the public repository; it is in no address, and the key opens at once.
    staff_page.goto("/admin/")
    with job(staff_page, "revoke in a hurry", clicks=2):
        staff_page.fill("#finder", text)
        staff_page.press("#finder", "Enter")
        expect(staff_page.get_by_role("heading", level=1)).to_contain_text(key.prefix)
        assert text not in staff_page.url
        staff_page.click("a.button:has-text('Revoke this key')")
        staff_page.fill("#id_reason", "found in a public repository")
        staff_page.click("input[value='Revoke key']")
        expect(staff_page.locator(".success")).to_contain_text("The key is revoked")
    key.refresh_from_db()
    assert key.revoked_at is not None
    # A new one is a link away, on the page of the partner, which shows the revoked one too.
    staff_page.click(f"td a:has-text('{shop.partner.name}')")
    expect(staff_page.locator("tr", has_text=key.prefix)).to_contain_text("revoked")
    expect(staff_page.get_by_role("link", name="Issue an API key")).to_be_visible()
    staff_page.goto("/admin/baskets/deskentry/")
    expect(staff_page.locator("#result_list")).to_contain_text("found in a public repository")

    shop.product("lamp", 5)
    buyer = shop.buyer("anna@example.org")
    buyer.place("lamp", 2)
    buyer.start()
    staff_page.click("#nav-sidebar a:has-text('Privacy desk')")
    staff_page.fill("#id_user_id", "anna@example.org")
    staff_page.press("#id_user_id", "Enter")
    expect(staff_page.locator("#stored")).to_contain_text("A checkout is active.")
    staff_page.fill("#id_reason", "request 12")
    with staff_page.expect_download() as download:
        staff_page.click("input[name=export]")
    document = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert document["partners"][0]["checkouts"][0]["status"] == "ACTIVE"
    buyer.finish(True)
    with job(staff_page, "erase", clicks=2):
        staff_page.click("#nav-sidebar a:has-text('Privacy desk')")
        staff_page.fill("#id_user_id", "anna@example.org")
        staff_page.press("#id_user_id", "Enter")
        staff_page.fill("#id_reason", "request 12")
        staff_page.screenshot(path=tmp_path / "privacy.png", full_page=True)
        staff_page.click("input[name=erase]")
        expect(staff_page.locator(".badge-good", has_text="erased")).to_be_visible()
    assert not Basket.objects.filter(user_id="anna@example.org").exists()
    assert set(DeskEntry.objects.filter(note="request 12").values_list("kind", flat=True)) == {"taken_out", "repaired"}
    assert invariant_checker.check_invariants() == []
