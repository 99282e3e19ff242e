"""A real browser at the desk: headless Chromium, a page that is watched, and a service that answers on loopback."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Where set, a missing browser is a failure: see `.ci/run`.
NEEDED = os.environ.get("BROWSER_TESTS") == "required"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
# A page that is left before it was whole.
ABORTED = "net::ERR_ABORTED"
LAPTOP: Any = {"width": 1366, "height": 768}
PASSWORD = "a long password for tests"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a module: what Playwright keeps in this thread is in the way of others."""
    if CHROMIUM is None:
        if NEEDED:
            pytest.fail("There is no Chromium, and BROWSER_TESTS says that it is required.")
        pytest.skip("There is no Chromium on this machine.")
    # Playwright keeps an event loop in this thread, beside which Django would not ask the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def repairer(transactional_db: None) -> User:
    """Somebody whose role is to repair."""
    person = User.objects.create_user("rita", password=PASSWORD, is_staff=True)
    person.groups.set([Group.objects.get(name="Basket repairers")])
    return person


@pytest.fixture
def context(browser: Browser, live_server: Any, settings: Any) -> Iterator[BrowserContext]:
    """A browser window in Tokyo, whose zone nobody has by accident."""
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    opened = browser.new_context(viewport=LAPTOP, timezone_id="Asia/Tokyo", base_url=live_server.url)
    opened.set_default_timeout(15_000)
    yield opened
    opened.close()


@pytest.fixture
def staff_page(context: BrowserContext, repairer: User) -> Iterator[Page]:
    """The desk, signed in. Nothing may be said in the console, and nothing may be fetched from elsewhere."""
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: request.failure != ABORTED and said.append(f"failed: {request.url}"))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto("/admin/")
    page.fill("#id_username", repairer.username)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url("**/admin/")
    yield page
    # Chromium itself notes every answer that is no success, such as the page that says "it has changed"; and what becomes a
    # file, it takes for a page that failed.
    assert [line for line in said if "409 (Conflict)" not in line and "/export/" not in line] == []
