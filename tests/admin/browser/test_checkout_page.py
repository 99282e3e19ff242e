"""The checkout page of the guides, in a real browser: it buys as a guest, from another origin, with a client key."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from baskets.api.views import guides
from baskets.domain.access import api_keys, partners
from baskets.domain.support import sandboxes
from baskets.models import ApiKey, CheckoutSession
from tests.factories import TESTER, PartnerFactory
from tests.project.documents import fenced

pytestmark = pytest.mark.django_db(transaction=True)


def test_page_of_the_guide_orders(context: BrowserContext, live_server: Any, tmp_path: Path) -> None:
    sandbox = sandboxes.open_sandbox(partner_name=PartnerFactory().name, actor=TESTER)
    key = api_keys.issue_api_key(partner_name=sandbox.name, kind=ApiKey.Kind.CLIENT, actor=TESTER)[1]
    (html,) = fenced(guides.FOLDER / "checkout-page.md", "html")
    (tmp_path / "index.html").write_text(html.replace(guides.EXAMPLE_URL, live_server.url).replace("bk_test...", key))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    # Chromium lets only pages of loopback addresses call a loopback address.
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as shop:
        threading.Thread(target=shop.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{shop.server_port}"
        partners.allow_origins(partner_name=sandbox.name, origins=[origin], actor=TESTER)
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(origin)
        page.click("#start")
        page.wait_for_selector("text=/Reserved for (30:00|29:[0-9]+)/")
        assert page.locator("li").all_inner_texts() == ["2 of sandbox-plenty", "1 of sandbox-sold-out, 1 missing"]
        page.click("#leave")
        page.wait_for_selector("text=Nothing was ordered.")
        page.click("#start")
        page.click("#pay")
        page.wait_for_selector("text=Ordered: ")
        assert page.locator("li").all_inner_texts() == ["1 of sandbox-sold-out"]
        shop.shutdown()
    assert sorted(CheckoutSession.objects.values_list("status", flat=True)) == ["ABORTED", "ORDERED"]
    assert errors == []
