"""The door of the desk: passwords cannot be tried out, sessions end, and what is sent along is as careful as it can be."""

import hashlib
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from baskets.admin.auth import login
from baskets.domain.actors import Actor
from baskets.domain.staff import sessions
from baskets.domain.staff.sessions import SessionStore
from baskets.models import DeskEntry, StaffSession, Throttle
from tests.admin.conftest import post, token
from tests.conftest import Log
from tests.time_travel import age_rows

pytestmark = pytest.mark.django_db
LOGIN = "/admin/login/"
INDEX = "/admin/"
PASSWORD = "correct horse battery"
FORM_TOKEN = "a" * 32  # As a page sets it, without a request for one.
TOO_MANY = "There were too many attempts to sign in. Try again in 5 minutes."
WRONG = "Please enter the correct username and password"


@pytest.fixture
def staff_user(cheap_passwords: None) -> User:
    """A member of staff with a password."""
    return get_user_model().objects.create_user("vera", password=PASSWORD, is_staff=True)


def sign_in(name: str, password: str, *, address: str = "192.0.2.1", client: Client | None = None) -> str:
    """Try to sign in. Returns the message of the page, or an empty text after a successful sign-in."""
    client = client or Client(enforce_csrf_checks=True)
    client.cookies["csrftoken"] = FORM_TOKEN
    client.defaults["REMOTE_ADDR"] = address
    response = post(client, LOGIN, {"username": name, "password": password, "next": INDEX})
    return "" if response.status_code == 302 else response.content.decode()


def fail(times: int, name: str = "vera", *, address: str = "192.0.2.1") -> None:
    for number in range(times):
        assert WRONG in sign_in(name, f"wrong {number}", address=address)


# --- Guessing -----------------------------------------------------------------------------------------


def counts() -> list[int]:
    """The counts that are not 0."""
    return sorted(count for count in Throttle.objects.values_list("count", flat=True) if count)


def test_two_passwords_at_most_hold_threads_and_a_refused_one_counts_for_nothing(staff_user: User) -> None:
    with login.CHECK_SLOTS, login.CHECK_SLOTS:
        assert "Many people are signing in just now." in sign_in("vera", PASSWORD)
        assert counts() == []
    assert sign_in("vera", PASSWORD) == ""


def test_wrong_passwords_from_one_address_do_not_block_other_addresses(staff_user: User) -> None:
    fail(10)
    assert TOO_MANY in sign_in("vera", PASSWORD)
    assert TOO_MANY in sign_in("VERA", "wrong")
    assert sign_in("vera", PASSWORD, address="192.0.2.2") == ""


def test_a_name_is_slowed_at_new_devices_and_new_sources(staff_user: User) -> None:
    for number in range(50):
        fail(1, address=f"192.0.2.{number}")
    assert TOO_MANY in sign_in("vera", PASSWORD, address="192.0.2.99")
    assert TOO_MANY in sign_in("VERA", "wrong", address="192.0.2.99")
    assert WRONG in sign_in("other", "wrong", address="192.0.2.99")


def test_a_known_source_passes_the_limit_of_the_name(staff_user: User) -> None:
    assert sign_in("vera", PASSWORD, address="198.51.100.1") == ""
    for number in range(50):
        fail(1, address=f"192.0.2.{number}")
    assert TOO_MANY in sign_in("vera", PASSWORD, address="198.51.100.2")
    assert sign_in("vera", PASSWORD, address="198.51.100.1") == ""


def test_a_known_source_of_another_account_or_of_long_ago_passes_nothing(staff_user: User) -> None:
    get_user_model().objects.create_user("otto", password=PASSWORD, is_staff=True)
    assert sign_in("otto", PASSWORD, address="198.51.100.1") == ""
    assert sign_in("vera", PASSWORD, address="198.51.100.2") == ""
    DeskEntry.objects.filter(subject="vera").update(at=timezone.now() - timedelta(days=31))
    for number in range(50):
        fail(1, address=f"192.0.2.{number}")
    assert TOO_MANY in sign_in("vera", PASSWORD, address="198.51.100.1")
    assert TOO_MANY in sign_in("vera", PASSWORD, address="198.51.100.2")


def test_a_known_source_may_not_guess_without_end(staff_user: User) -> None:
    assert sign_in("vera", PASSWORD) == ""
    fail(10)
    assert TOO_MANY in sign_in("vera", PASSWORD)


@pytest.fixture
def known_browser(staff_user: User) -> Client:
    """A browser that vera has used before, without a session."""
    client = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, address="198.51.100.1", client=client) == ""
    del client.cookies["sessionid"]
    return client


def test_a_known_device_passes_all_limits_of_others(known_browser: Client) -> None:
    fail(10, address="192.0.2.7")
    for number in range(10, 50):
        fail(1, address=f"192.0.2.{number}")
    for number in range(40):
        fail(1, f"name-{number}", address="192.0.2.7")
    assert TOO_MANY in sign_in("vera", PASSWORD, address="192.0.2.7")
    assert sign_in("vera", PASSWORD, address="192.0.2.7", client=known_browser) == ""


def test_a_known_device_may_fail_ten_times_and_counts_as_unknown_then(known_browser: Client) -> None:
    for _ in range(10):
        assert WRONG in sign_in("vera", "wrong", client=known_browser)
    assert counts() == [10]
    for _ in range(10):
        assert WRONG in sign_in("vera", "wrong", client=known_browser)
    assert TOO_MANY in sign_in("vera", PASSWORD, client=known_browser)


@pytest.mark.parametrize("cookie", ["", "x", "WyI0NyIsICJ4Il0:1wxyz:abc", "\x00", "a" * 5000], ids=range(5))
def test_a_device_cannot_be_made_up(known_browser: Client, cookie: str) -> None:
    known_browser.cookies["desk_device"] = cookie
    fail(10)
    assert TOO_MANY in sign_in("vera", PASSWORD, client=known_browser)


def test_a_device_is_known_for_one_account_and_for_half_a_year(known_browser: Client, time_machine: Any) -> None:
    get_user_model().objects.create_user("otto", password=PASSWORD, is_staff=True)
    fail(10, "otto")
    assert TOO_MANY in sign_in("otto", PASSWORD, client=known_browser)
    fail(10)
    today = timezone.now()
    time_machine.move_to(today + timedelta(days=181))
    assert TOO_MANY in sign_in("vera", PASSWORD, client=known_browser)
    time_machine.move_to(today + timedelta(days=179))
    assert sign_in("vera", PASSWORD, client=known_browser) == ""


def test_the_cookie_of_a_device_stays_with_the_admin_and_out_of_scripts(known_browser: Client) -> None:
    cookie: Any = known_browser.cookies["desk_device"]
    assert (cookie["path"], cookie["samesite"], cookie["secure"], cookie["httponly"]) == ("/admin/", "Lax", True, True)
    assert cookie["max-age"] == 180 * 24 * 60 * 60
    assert "vera" not in cookie.value


def test_a_source_is_slowed_whatever_names_it_tries(staff_user: User) -> None:
    for number in range(50):
        fail(1, f"name-{number}")
    assert TOO_MANY in sign_in("vera", PASSWORD)
    assert sign_in("vera", PASSWORD, address="192.0.2.2") == ""


def test_a_refused_source_does_not_count_against_the_name(staff_user: User) -> None:
    fail(10)
    before = counts()
    assert before == [10, 10, 10]
    assert TOO_MANY in sign_in("vera", "wrong")
    assert counts() == before
    for number in range(40):
        fail(1, f"name-{number}")
    full = counts()
    assert TOO_MANY in sign_in("otto", "wrong")
    assert counts() == full


def test_waiting_lets_in(staff_user: User) -> None:
    fail(10)
    assert TOO_MANY in sign_in("vera", PASSWORD)
    assert TOO_MANY in sign_in("vera", PASSWORD)
    Throttle.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    assert sign_in("vera", PASSWORD) == ""


def test_a_refused_attempt_prolongs_nothing(staff_user: User) -> None:
    fail(10)
    before = list(Throttle.objects.order_by("pk").values_list("pk", "ends_at"))
    assert TOO_MANY in sign_in("vera", PASSWORD)
    assert list(Throttle.objects.order_by("pk").values_list("pk", "ends_at")) == before


def test_an_office_that_signs_in_together_is_not_slowed(staff_user: User) -> None:
    for _ in range(60):
        assert sign_in("vera", PASSWORD) == ""
    assert counts() == []


def test_a_slowed_attempt_does_not_check_the_password(staff_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(10)
    monkeypatch.setattr("django.contrib.auth.forms.authenticate", lambda *_, **__: pytest.fail("it was checked"))
    assert TOO_MANY in sign_in("vera", PASSWORD)


def test_an_empty_form_counts_for_no_account() -> None:
    for _ in range(20):
        assert "This field is required" in sign_in("", "")
    assert counts() == []


def test_slowing_can_be_switched_off(staff_user: User, settings: Settings) -> None:
    settings.BASKETS_LOGIN_FAILURES = 0
    fail(15)
    assert not Throttle.objects.exists()
    assert sign_in("vera", PASSWORD) == ""


def test_a_slowed_attempt_is_logged_without_the_name(staff_user: User, log: Log) -> None:
    fail(10)
    sign_in("vera", PASSWORD)
    [line] = log.lines("login_slowed")
    assert (line["logger"], line["account"], line["source"]) == ("baskets.admin", staff_user.pk, "192.0.2.1")
    assert "vera" not in log.text


# --- Records ------------------------------------------------------------------------------------------


def journal() -> list[tuple[str, str, str, Any]]:
    return list(DeskEntry.objects.order_by("pk").values_list("kind", "subject", "actor", "data"))


def test_signing_in_and_failing_to_are_recorded_and_logged(staff_user: User, log: Log) -> None:
    fail(1)
    assert sign_in("vera", PASSWORD, address="192.0.2.2") == ""
    assert journal() == [
        ("sign_in_failed", "vera", "sign-in", {"source": "192.0.2.1", "step": "password"}),
        ("signed_in", "vera", "vera", {"source": "192.0.2.2", "second_factor": False}),
    ]
    [failed], [done] = log.lines("sign_in_failed"), log.lines("signed_in")
    assert (failed["level"], failed["account"], failed["source"], failed["step"]) == ("warning", staff_user.pk, "192.0.2.1", "password")
    assert (done["level"], done["account"], done["source"]) == ("info", staff_user.pk, "192.0.2.2")
    assert [failed["request_id"], done["request_id"]] == list(DeskEntry.objects.order_by("pk").values_list("request_id", flat=True))
    assert failed["request_id"] != done["request_id"]
    for secret in (PASSWORD, "wrong 0", "vera"):
        assert secret not in log.text


def test_a_name_without_an_account_is_neither_stored_nor_logged(log: Log) -> None:
    fail(1, "my secret passphrase")
    assert journal() == [("sign_in_failed", "", "sign-in", {"source": "192.0.2.1", "step": "password"})]
    assert "secret" not in log.text


def test_failures_do_not_fill_the_journal(staff_user: User, settings: Settings, log: Log) -> None:
    settings.BASKETS_LOGIN_FAILURES = 0
    fail(103)
    fail(2, "unknown")
    assert DeskEntry.objects.filter(subject="vera").count() == 100
    assert DeskEntry.objects.filter(subject="").count() == 2
    assert len(log.lines("sign_in_failed")) == 105
    DeskEntry.objects.filter(subject="vera").update(at=timezone.now() - timedelta(minutes=61))
    fail(1)
    assert DeskEntry.objects.filter(subject="vera").count() == 101


def test_a_refused_page_is_recorded_and_logged_by_its_name(staff_without_rights: Client, log: Log) -> None:
    assert staff_without_rights.get("/admin/baskets/basket/?q=some-user").status_code == 403
    assert journal() == [("refused", "nora", "nora", {"page": "admin:baskets_basket_changelist", "method": "GET"})]
    [line] = log.lines("refused")
    assert (line["level"], line["page"]) == ("warning", "admin:baskets_basket_changelist")
    assert "some-user" not in log.text
    assert staff_without_rights.get("/admin/").status_code == 200
    assert len(journal()) == 1


def test_a_form_without_its_token_is_recorded(browser: Client) -> None:
    DeskEntry.objects.all().delete()
    assert browser.post("/admin/password_change/", {}).status_code == 403
    assert journal() == [("refused", "vera", "vera", {"page": "staff:password", "method": "POST"})]


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


@pytest.mark.parametrize("beyond", ["", "//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil.example", "\x00"])
def test_an_address_that_leads_elsewhere_leads_to_the_first_page(staff_user: User, beyond: str) -> None:
    client = Client(enforce_csrf_checks=True)
    response = post(client, LOGIN, {"username": "vera", "password": PASSWORD, "next": beyond})
    assert (response.status_code, response.headers["Location"]) == (302, INDEX)
    assert inside(client)


def test_signing_in_goes_on_where_it_began(staff_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    login_url = client.get("/admin/password_change/").headers["Location"]
    assert login_url == "/admin/login/?next=/admin/password_change/"
    page = client.get(login_url).content.decode()
    assert '<input type="hidden" name="next" value="/admin/password_change/">' in page
    response = post(client, login_url, {"username": "vera", "password": PASSWORD, "next": "/admin/password_change/"})
    assert response.headers["Location"] == "/admin/password_change/"
    assert client.get(LOGIN).headers["Location"] == INDEX


# --- Sessions ---------------------------------------------------------------------------------------------


@pytest.fixture
def browser(staff_user: User) -> Client:
    """The browser of a signed-in user."""
    client = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=client) == ""
    assert inside(client)
    return client


def inside(client: Client) -> bool:
    return bool(client.get(INDEX).status_code == 200)


def age(**span: float) -> None:
    """Let time pass for all sessions: nothing has happened since."""
    age_rows(timedelta(**span), StaffSession.objects.all())


def explanation(client: Client) -> str:
    """What the page says to which an ended session leads."""
    return client.get(INDEX, follow=True).content.decode()


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
