"""axe-core finds nothing on any kind of page, in both colour schemes, on a laptop and on a telephone."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Browser, Page

from baskets.models import CheckoutSession
from tests.admin.browser.conftest import LAPTOP, PASSWORD
from tests.admin.shops import Shop, fill_all_tables

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.django_db(transaction=True)]
PHONE: Any = {"width": 390, "height": 844}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# In the second look of a page, only the rules that depend on colours and on places.
LOOKS: list[tuple[Any, Any, dict[str, Any]]] = [
    ("light", LAPTOP, {"type": "tag", "values": TAGS}),
    ("dark", PHONE, {"type": "rule", "values": ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]}),
]
AXE = Axe().axe_script
# A change of the scheme is to be complete at once: in the middle of it, colours are those of neither.
AT_ONCE = "const s = new CSSStyleSheet(); s.replaceSync('* { transition: none !important }'); document.adoptedStyleSheets = [s];"


def findings(page: Page, address: str) -> list[str]:
    """Load a page once, and list what axe-core finds on it in each look, and whether it is wider than its window."""
    page.goto(address)
    page.evaluate(AT_ONCE)
    page.evaluate(AXE)
    found = []
    for scheme, size, rules in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        where = f"{address} {scheme} {size['width']}"
        result = page.evaluate("(options) => axe.run(options)", {"runOnly": rules, "resultTypes": ["violations"], "preload": False})
        for rule in result["violations"]:
            found += [f"{where}: {rule['id']}: {node['html'][:200]}: {node['failureSummary'][:300]}" for node in rule["nodes"]]
        if (beyond := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
            found.append(f"{where}: wider than the window by {beyond}")
    return found


def test_axe_finds_nothing_on_any_kind_of_page(shop: Shop, browser: Browser, live_server: Any, settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    fill_all_tables(shop)
    User.objects.create_superuser("root", password=PASSWORD)
    page = browser.new_context(base_url=live_server.url).new_page()
    found = findings(page, "/admin/login/?next=/admin/account/")
    page.fill("#id_username", "root")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url("**/admin/account/")
    aborted = CheckoutSession.objects.filter(status="ABORTED").earliest("pk")
    active = CheckoutSession.objects.filter(status="ACTIVE").earliest("pk")
    for address in (
        *("/admin/account/", reverse("admin:index"), reverse("staff:records"), reverse("admin:baskets_worklist")),
        *(f"{reverse('staff:search')}?q=lamp", reverse("admin:baskets_checkoutsession_changelist")),
        *(reverse("admin:baskets_basket_change", args=[active.basket_id]), reverse("admin:baskets_product_change", args=["lamp"])),
        *(reverse("admin:baskets_checkoutsession_repair", args=[aborted.pk, "order-late"]), reverse("admin:baskets_deskentry_changelist")),
        reverse("admin:baskets_partner_change", args=[shop.partner.pk]),
    ):
        found += findings(page, address)
    page.context.close()
    assert not found, "\n".join(found)
