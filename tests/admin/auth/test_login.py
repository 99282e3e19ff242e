"""The sign-in of staff: passwords cannot be tried out, and every attempt is recorded."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from baskets.admin.auth import login
from baskets.models import DeskEntry, Throttle
from tests.admin.auth.signing_in import INDEX, LOGIN, PASSWORD, inside, journal, sign_in
from tests.admin.conftest import post, token
from tests.cells import published_by
from tests.conftest import Log

pytestmark = pytest.mark.django_db
TOO_MANY = "There were too many attempts to sign in. Try again in 5 minutes."
WRONG = "Please enter the correct username and password"


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


# --- A cell that follows another ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_outdated_hash_is_replaced_only_where_the_cell_may_change_accounts(settings: Settings) -> None:
    person = User.objects.create_user("vera", password=PASSWORD, is_staff=True)
    outdated = person.password
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    with published_by(1, "auth_user"):
        assert WRONG in sign_in("vera", "wrong")
        client = Client(enforce_csrf_checks=True)
        assert sign_in("vera", PASSWORD, client=client) == ""
        assert inside(client)
        person.refresh_from_db()
        assert person.password == outdated
        User.objects.filter(pk=person.pk).update(last_login=None)
    assert sign_in("vera", PASSWORD) == ""
    person.refresh_from_db()
    assert person.password.startswith("pbkdf2_sha256$")
