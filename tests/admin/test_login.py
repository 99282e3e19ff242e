"""The door of the desk: passwords cannot be tried out, sessions end, and what is sent along is as careful as it can be."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from baskets.models import Throttle
from tests.admin.conftest import post, token
from tests.conftest import Log

pytestmark = pytest.mark.django_db
LOGIN = "/admin/login/"
INDEX = "/admin/"
PASSWORD = "correct horse battery"
TOO_MANY = "There were too many attempts to sign in. Try again in 5 minutes."
WRONG = "Please enter the correct username and password"


@pytest.fixture(autouse=True)
def cheap_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def vera(cheap_passwords: None) -> User:
    """A member of staff with a password."""
    return get_user_model().objects.create_user("vera", password=PASSWORD, is_staff=True)


def sign_in(name: str, password: str, *, address: str = "192.0.2.1", client: Client | None = None) -> str:
    """Try to sign in, and tell what the page says; empty where it let somebody in."""
    client = client or Client(enforce_csrf_checks=True)
    client.defaults["REMOTE_ADDR"] = address
    response = post(client, LOGIN, {"username": name, "password": password, "next": INDEX})
    return "" if response.status_code == 302 else response.content.decode()


def fail(times: int, name: str = "vera", *, address: str = "192.0.2.1") -> None:
    for number in range(times):
        assert WRONG in sign_in(name, f"wrong {number}", address=address)


# --- Trying out ---------------------------------------------------------------------------------------


def test_a_name_is_slowed_whoever_tries_and_wherever_from(vera: User) -> None:
    for number in range(10):
        fail(1, address=f"192.0.2.{number}")
    assert TOO_MANY in sign_in("vera", PASSWORD, address="192.0.2.99")
    assert TOO_MANY in sign_in("VERA", "wrong", address="192.0.2.99")
    assert WRONG in sign_in("other", "wrong", address="192.0.2.99")


def test_a_source_is_slowed_whatever_names_it_tries(vera: User) -> None:
    for number in range(10):
        fail(1, f"name-{number}")
    assert TOO_MANY in sign_in("vera", PASSWORD)
    assert sign_in("vera", PASSWORD, address="192.0.2.2") == ""


def test_whoever_waits_gets_in_and_nobody_is_locked_out(vera: User) -> None:
    fail(10)
    assert TOO_MANY in sign_in("vera", PASSWORD)
    assert TOO_MANY in sign_in("vera", PASSWORD)
    Throttle.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    assert sign_in("vera", PASSWORD) == ""


def test_being_told_to_wait_prolongs_nothing(vera: User) -> None:
    fail(10)
    before = list(Throttle.objects.order_by("pk").values_list("pk", "ends_at"))
    assert TOO_MANY in sign_in("vera", PASSWORD, address="192.0.2.7")
    assert list(Throttle.objects.filter(pk__in=[pk for pk, _ in before]).order_by("pk").values_list("pk", "ends_at")) == before


def test_an_office_that_signs_in_together_is_not_slowed(vera: User) -> None:
    for _ in range(30):
        assert sign_in("vera", PASSWORD) == ""
    assert set(Throttle.objects.values_list("count", flat=True)) == {0}


def test_a_slowed_attempt_does_not_look_at_the_password(vera: User, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(10)
    monkeypatch.setattr("django.contrib.auth.forms.authenticate", lambda *_, **__: pytest.fail("it was looked at"))
    assert TOO_MANY in sign_in("vera", PASSWORD)


def test_an_empty_form_counts_for_nobody() -> None:
    for _ in range(20):
        assert "This field is required" in sign_in("", "")
    assert set(Throttle.objects.values_list("count", flat=True)) <= {0}


def test_slowing_can_be_switched_off(vera: User, settings: Settings) -> None:
    settings.BASKETS_LOGIN_FAILURES = 0
    fail(15)
    assert not Throttle.objects.exists()
    assert sign_in("vera", PASSWORD) == ""


def test_being_slowed_is_logged_without_the_name(vera: User, log: Log) -> None:
    fail(10)
    sign_in("vera", PASSWORD)
    [line] = log.lines("login_slowed")
    assert line["logger"] == "baskets.admin"
    assert "vera" not in log.text


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5000, "\ud800", "' OR 1=1 --", "ﬁ", "\u202e"])
def test_a_strange_name_is_a_wrong_name(name: str) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    form = {"username": name.encode("utf-8", "replace").decode(), "password": "x", "csrfmiddlewaretoken": token(client, LOGIN)}
    assert client.post(LOGIN, form).status_code == 200


def test_a_form_of_absurd_size_is_not_read() -> None:
    client = Client(enforce_csrf_checks=True)
    started = time.perf_counter()
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert client.post(LOGIN, b"x" * 2_000_000, content_type=content_type).status_code == 413
    assert client.post(LOGIN, b"x", CONTENT_LENGTH="9" * 100, content_type="text/plain").status_code == 413
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("beyond", ["//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil.example"])
def test_signing_in_leads_nowhere_else(vera: User, beyond: str) -> None:
    response = post(Client(enforce_csrf_checks=True), LOGIN, {"username": "vera", "password": PASSWORD, "next": beyond})
    assert (response.status_code, response.headers["Location"]) == (302, "/accounts/profile/") or "evil" not in response.headers["Location"]


# --- Sessions ---------------------------------------------------------------------------------------------


@pytest.fixture
def browser(vera: User) -> Client:
    """The browser of somebody who has signed in."""
    client = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=client) == ""
    assert inside(client)
    return client


def inside(client: Client) -> bool:
    return bool(client.get(INDEX).status_code == 200)


def test_a_session_ends_with_the_shift(browser: Client, settings: Settings) -> None:
    lasts = Session.objects.get().expire_date - timezone.now()
    assert timedelta(hours=11) < lasts <= timedelta(hours=12)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert not inside(browser)


def test_a_session_ends_with_the_browser(browser: Client) -> None:
    cookie: Any = browser.cookies["sessionid"]
    assert (cookie["expires"], cookie["max-age"]) == ("", "")


def test_a_session_ends_when_the_password_is_changed_and_goes_on_where_it_was(browser: Client, vera: User) -> None:
    other = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=other) == ""
    fresh = "another horse battery"
    said = {"old_password": PASSWORD, "new_password1": fresh, "new_password2": fresh}
    assert post(browser, reverse("admin:password_change"), said).status_code == 302
    assert inside(browser)
    assert not inside(other)


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_a_session_ends_with_the_account(browser: Client, vera: User, change: dict[str, bool]) -> None:
    User.objects.filter(pk=vera.pk).update(**change)
    assert not inside(browser)


def test_a_session_ends_at_once_when_somebody_signs_out(browser: Client) -> None:
    stolen = browser.cookies["sessionid"].value
    assert post(browser, reverse("admin:logout")).status_code == 200
    thief = Client()
    thief.cookies["sessionid"] = stolen
    assert not inside(thief)


def test_a_session_is_another_one_after_signing_in(vera: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies["sessionid"] = "a" * 32
    assert sign_in("vera", PASSWORD, client=client) == ""
    assert client.cookies["sessionid"].value != "a" * 32
    token_before = client.cookies["csrftoken"].value
    assert sign_in("vera", PASSWORD, client=client) == ""
    assert client.cookies["csrftoken"].value != token_before


@pytest.mark.parametrize("session", ["", "a" * 32, "x" * 5000, "' OR 1=1", "\x00"])
def test_a_session_cannot_be_made_up(session: str) -> None:
    client = Client()
    client.cookies["sessionid"] = session
    assert not inside(client)


# --- Cookies and headers --------------------------------------------------------------------------------------


def test_cookies_stay_with_the_admin_and_out_of_scripts(browser: Client) -> None:
    session, csrf = browser.cookies["sessionid"], browser.cookies["csrftoken"]
    for cookie in (session, csrf):
        assert (cookie["path"], cookie["samesite"], cookie["secure"], cookie["domain"]) == ("/admin/", "Lax", True, "")
        assert cookie["httponly"] is True


def test_no_call_and_no_page_outside_of_the_admin_sets_a_cookie() -> None:
    for path in ("/livez", "/docs", "/redoc", "/schema", "/baskets/users/ada", "/nowhere"):
        assert not Client().get(path).cookies


@pytest.mark.parametrize("path", [LOGIN, INDEX, "/admin/password_change/", "/admin/baskets/basket/", "/admin/nowhere/"])
def test_every_page_of_the_desk_has_its_headers(path: str, root: Client) -> None:
    for client in (root, Client()):
        headers = client.get(path).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", [LOGIN, INDEX, "/admin/password_change/", "/admin/baskets/basket/"])
def test_no_page_of_the_desk_is_kept_on_the_way(path: str, root: Client) -> None:
    assert {"no-store", "private"} <= set(root.get(path).headers["Cache-Control"].split(", "))
