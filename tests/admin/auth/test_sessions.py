"""The sessions of staff: when they end, what ends them, and what their cookies open."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from baskets.domain.actors import Actor
from baskets.domain.staff import sessions
from baskets.domain.staff.sessions import SessionStore
from baskets.models import StaffSession
from tests.admin.auth.signing_in import PASSWORD, explanation, inside, journal, sign_in
from tests.admin.conftest import post
from tests.time_travel import age_rows

pytestmark = pytest.mark.django_db


def age(**span: float) -> None:
    """Let time pass for all sessions: nothing has happened since."""
    age_rows(timedelta(**span), StaffSession.objects.all())


def test_a_session_ends_without_requests(browser: Client) -> None:
    age(minutes=29)
    assert inside(browser)
    age(minutes=29)
    assert inside(browser)
    age(minutes=30, seconds=1)
    assert "You were signed out: there was no request for 30 minutes." in explanation(browser)
    assert not inside(browser)


def test_a_session_ends_with_the_shift_whatever_is_requested(browser: Client) -> None:
    for _ in range(28):
        age(minutes=25)
        assert inside(browser)
    age(minutes=20, seconds=1)
    assert "You were signed out: a session lasts 12 hours at most." in explanation(browser)
    assert not inside(browser)


def test_the_limits_of_a_session_are_settings(staff_user: User, settings: Settings) -> None:
    settings.BASKETS_STAFF_IDLE_SECONDS, settings.BASKETS_STAFF_SESSION_SECONDS = 60, 90
    client = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=client) == ""
    session = StaffSession.objects.get()
    assert session.expire_date - session.started_at == timedelta(seconds=60)
    age(seconds=61)
    assert "no request for 1 minute." in explanation(client)


def test_using_a_session_writes_once_a_minute(browser: Client) -> None:
    before = StaffSession.objects.get()
    assert inside(browser)
    assert StaffSession.objects.get().seen_at == before.seen_at
    age(seconds=61)
    assert inside(browser)
    assert StaffSession.objects.get().seen_at > before.seen_at


def test_what_the_database_holds_of_a_session_opens_nothing(browser: Client) -> None:
    key, stored = browser.cookies["sessionid"].value, StaffSession.objects.get()
    assert stored.pk == hashlib.sha256(key.encode()).hexdigest()
    assert key not in stored.session_data
    thief = Client()
    thief.cookies["sessionid"] = stored.pk
    assert not inside(thief)
    assert inside(browser)


def test_ended_sessions_are_cleared(browser: Client) -> None:
    call_command("clearsessions")
    assert inside(browser)
    age(hours=13)
    call_command("clearsessions")
    assert not StaffSession.objects.exists()


def test_a_session_that_ends_during_a_request_is_not_revived(browser: Client, staff_user: User) -> None:
    store = SessionStore(browser.cookies["sessionid"].value)
    store["word"] = "late"
    assert sessions.end_sessions(user=staff_user, actor=Actor.system("tests")) == 1
    with pytest.raises(UpdateError):
        store.save()
    assert not inside(browser)


def test_a_session_ends_with_the_browser(browser: Client) -> None:
    cookie: Any = browser.cookies["sessionid"]
    assert (cookie["expires"], cookie["max-age"]) == ("", "")


def test_a_session_ends_when_the_password_is_changed_and_goes_on_where_it_was(browser: Client, staff_user: User) -> None:
    other = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=other) == ""
    fresh = "another horse battery"
    values = {"old_password": PASSWORD, "new_password1": fresh, "new_password2": fresh}
    assert post(browser, reverse("admin:password_change"), values).status_code == 302
    assert inside(browser)
    assert StaffSession.objects.filter(expire_date__gt=timezone.now()).count() == 1
    assert not inside(other)
    assert journal()[-2:] == [("password_changed", "vera", "vera", {}), ("sessions_ended", "vera", "vera", {"sessions": 1})]


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("short-8x", ["password_too_short"]),
        ("eleven-char", ["password_too_short"]),
        ("vera-veronica", ["password_too_similar"]),
        ("liverpool1892", ["password_breached"]),
        ("LiverPool1892", ["password_breached"]),
        ("administrator", ["password_too_common", "password_breached"]),
    ],
)
def test_a_weak_or_breached_password_is_refused(browser: Client, staff_user: User, password: str, codes: list[str]) -> None:
    values = {"old_password": PASSWORD, "new_password1": password, "new_password2": password}
    if "veronica" in password:
        User.objects.filter(pk=staff_user.pk).update(last_name="veronica")
    response = post(browser, reverse("admin:password_change"), values)
    assert response.status_code == 200
    assert [error.code for error in response.context["form"].errors["new_password2"].as_data()] == codes
    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_a_session_ends_with_the_account(browser: Client, staff_user: User, change: dict[str, bool]) -> None:
    User.objects.filter(pk=staff_user.pk).update(**change)
    assert not inside(browser)


def test_session_ends_at_once_at_sign_out(browser: Client) -> None:
    stolen = browser.cookies["sessionid"].value
    assert post(browser, reverse("admin:logout")).status_code == 200
    thief = Client()
    thief.cookies["sessionid"] = stolen
    assert not inside(thief)


def test_a_session_is_another_one_after_signing_in(staff_user: User) -> None:
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


def test_cookies_stay_with_the_admin_and_out_of_scripts(browser: Client) -> None:
    session, csrf = browser.cookies["sessionid"], browser.cookies["csrftoken"]
    for cookie in (session, csrf):
        assert (cookie["path"], cookie["samesite"], cookie["secure"], cookie["domain"]) == ("/admin/", "Lax", True, "")
        assert cookie["httponly"] is True
