"""A real browser at the desk: headless Chromium, a page that is watched, and a service that answers on loopback."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Where set, a missing browser is a failure: see `.ci/run`.
NEEDED = os.environ.get("BROWSER_TESTS") == "required"
CHROMIUM_OPTIONS = (
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
    # Beside that loop, Django opens another connection for this thread. Close the one of earlier tests before, and this one after.
    connection.close()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_OPTIONS))
        yield running
        connection.close()
        running.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


# A click of the mouse has a count of clicks; what the Enter key makes of it has none. A choice out of a list is a click more.
COUNT_CLICKS = """
if (!window.countsClicks) {
    window.countsClicks = true;
    const count = () => { sessionStorage.clicks = Number(sessionStorage.clicks || 0) + 1; };
    addEventListener("click", (event) => { if (event.isTrusted && event.detail) count(); }, true);
    addEventListener("change", (event) => { if (event.target.tagName === "SELECT") count(); }, true);
}
"""


@contextmanager
def job(page: Page, name: str, *, clicks: int) -> Iterator[None]:
    """Count the clicks of a job, and allow so many. `pytest -s` prints them, with the seconds that the pages took."""
    page.add_init_script(COUNT_CLICKS)
    page.reload()
    page.evaluate("sessionStorage.clicks = 0")
    started = time.monotonic()
    yield
    made = int(page.evaluate("sessionStorage.clicks"))
    print(f"\n{name}: {made} clicks, {time.monotonic() - started:.1f} s")  # noqa: T201 (for those who measure)
    assert made <= clicks, (name, made)


def choose_all(page: Page) -> None:
    """Choose all rows of the list that a click has led to, once its scripts listen to the box."""
    box = page.locator("#action-toggle")
    box.wait_for()
    page.wait_for_load_state()
    box.check()


def sign_in_as(page: Page, name: str) -> None:
    """Sign in, and wait for the first page."""
    page.goto("/admin/")
    page.fill("#id_username", name)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url("**/admin/")


@pytest.fixture
def repairer(transactional_db: None) -> User:
    """Staff with the role for repairs."""
    person = User.objects.create_user("rita", password=PASSWORD, is_staff=True)
    person.groups.set([Group.objects.get(name="Basket repairers")])
    return person


@pytest.fixture
def context(browser: Browser, live_server: Any, settings: Any) -> Iterator[BrowserContext]:
    """A browser window in Tokyo, a time zone that no default uses."""
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    opened = browser.new_context(viewport=LAPTOP, timezone_id="Asia/Tokyo", base_url=live_server.url)
    opened.set_default_timeout(15_000)
    yield opened
    opened.close()


@pytest.fixture
def staff_page(context: BrowserContext, repairer: User) -> Iterator[Page]:
    """A page of the admin, signed in. It fails on console messages, and on requests to other origins."""
    page = context.new_page()
    values: list[str] = []
    page.on("console", lambda message: values.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: values.append(f"error: {error}"))
    page.on("requestfailed", lambda request: request.failure != ABORTED and values.append(f"failed: {request.url}"))
    page.on("dialog", lambda dialog: (values.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    sign_in_as(page, repairer.username)
    yield page
    # Chromium logs every response with an error status, such as the page about a stale record; and what becomes a
    # file, it takes for a page that failed.
    assert [line for line in values if "409 (Conflict)" not in line and "/export/" not in line] == []
