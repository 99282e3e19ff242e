"""The second factor and the sessions of staff: what is required, what is accepted once, and what ends at once."""

import base64
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from baskets.domain import runner
from baskets.domain.actors import Actor
from baskets.domain.staff import second_factor, sessions
from baskets.encryption import encrypt
from baskets.models import DeskEntry, SecondFactor, StaffSession, Throttle
from tests.admin.auth.signing_in import INDEX, LOGIN, PASSWORD, explanation, inside, journal, sign_in
from tests.admin.conftest import post
from tests.conftest import Log
from tests.time_travel import await_full_period

pytestmark = pytest.mark.django_db
CODE, ENROL = "/admin/login/code/", "/admin/login/set-up/"
ACCOUNT, REMOVE, RENEW = "/admin/account/", "/admin/account/remove/", "/admin/account/codes/"
WRONG_CODE = "This code is not right, or it was used already."


def now() -> float:
    """The database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float")
        return float(cursor.fetchone()[0])


@pytest.fixture(autouse=True)
def full_totp_step() -> None:
    """Let no time step end within a test."""
    await_full_period(seconds=30, left=8)


def code_of(secret: str, *, steps: int = 0) -> str:
    """The code that an app shows, some steps of 30 seconds from now."""
    return pyotp.TOTP(secret).at(now() + 30 * steps)


def enrolled(account: User) -> str:
    """Give an account a second factor, long ago, and return its secret."""
    secret = second_factor.new_secret()
    stored = encrypt(secret, purpose=second_factor.ENCRYPTION_PURPOSE, context=account.pk)
    SecondFactor.objects.create(user=account, secret=stored, enrolled_at=timezone.now(), last_timecode=0, recovery_codes=[])
    DeskEntry.objects.all().delete()
    return secret


@pytest.fixture
def browser(staff_user: User) -> Client:
    """The browser of vera, who has given her password."""
    client = Client(enforce_csrf_checks=True, headers={"User-Agent": "Firefox <b>1</b>"})
    assert sign_in("vera", PASSWORD, client=client) == ""
    return client


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


# --- The second step ----------------------------------------------------------------------------------


def test_code_is_required_after_the_password(staff_user: User, log: Log) -> None:
    secret = enrolled(staff_user)
    client = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=client) == ""
    assert "desk_device" not in client.cookies
    key = client.cookies["sessionid"].value
    redirect = client.get("/admin/baskets/basket/?q=a")
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "/admin/login/code/?next=%2Fadmin%2Fbaskets%2Fbasket%2F%3Fq%3Da")
    done = post(client, redirect.headers["Location"], {"code": code_of(secret)})
    assert (done.status_code, done.headers["Location"]) == (302, "/admin/baskets/basket/?q=a")
    assert inside(client)
    assert client.cookies["sessionid"].value != key
    assert client.cookies["desk_device"]["path"] == "/admin/"
    assert journal() == [("signed_in", "vera", "vera", {"source": "192.0.2.1", "second_factor": True})]
    assert code_of(secret) not in log.text
    assert client.get(CODE).headers["Location"] == INDEX


@pytest.mark.parametrize("page", [INDEX, "/admin/baskets/basket/", "/admin/password_change/", ACCOUNT, REMOVE, RENEW, "/admin/nowhere/"])
def test_no_page_opens_without_the_code(staff_user: User, browser: Client, page: str) -> None:
    enrolled(staff_user)
    sign_in("vera", PASSWORD, client=browser)
    for response in (browser.get(page), browser.post(page, {})):
        assert (response.status_code, response.headers["Location"].partition("?")[0]) == (302, CODE)
    body = text_of(browser.get(CODE))
    assert 'id="user-tools"' not in body
    assert 'id="nav-sidebar"' not in body
    assert post(browser, reverse("admin:logout")).status_code == 200


def test_a_code_is_good_once_and_no_earlier_one_after_it(staff_user: User, browser: Client) -> None:
    secret = enrolled(staff_user)
    for client, code, is_good in (
        (browser, code_of(secret, steps=-1), True),
        (Client(), code_of(secret, steps=-1), False),
        (Client(), code_of(secret, steps=1), True),
        (Client(), code_of(secret), False),
        (Client(), code_of(secret, steps=1), False),
    ):
        sign_in("vera", PASSWORD, client=client)
        assert (post(client, CODE, {"code": code}).status_code == 302) is is_good
        assert inside(client) is is_good


def test_a_secret_that_cannot_be_decrypted_leaves_the_recovery_codes(staff_user: User, browser: Client) -> None:
    secret = enrolled(staff_user)
    SecondFactor.objects.update(secret=b"of another account")
    assert "Use one of your recovery codes" in text_of(post(browser, CODE, {"code": code_of(secret)}))
    assert not inside(browser)


@pytest.mark.parametrize("steps", [-2, 2])
def test_a_code_of_another_time_is_refused_and_recorded(staff_user: User, browser: Client, steps: int, log: Log) -> None:
    secret = enrolled(staff_user)
    assert WRONG_CODE in text_of(post(browser, CODE, {"code": code_of(secret, steps=steps)}))
    assert not inside(browser)
    assert journal() == [("sign_in_failed", "vera", "sign-in", {"source": "192.0.2.1", "step": "code"})]
    assert log.lines("sign_in_failed")[-1]["account"] == staff_user.pk


@pytest.mark.parametrize("code", ["", "000", "12345678", "abcdef", "١٢٣٤٥٦", "\x00", "x" * 41, "' OR 1=1", "-1"])
def test_a_strange_code_is_a_wrong_code(staff_user: User, browser: Client, code: str) -> None:
    enrolled(staff_user)
    assert post(browser, CODE, {"code": code}).status_code == 200
    assert not inside(browser)


def test_a_code_may_be_typed_with_blanks(staff_user: User, browser: Client) -> None:
    code = code_of(enrolled(staff_user))
    assert post(browser, CODE, {"code": f" {code[:3]} {code[3:]} "}).status_code == 302


def test_codes_cannot_be_guessed(staff_user: User, browser: Client) -> None:
    secret = enrolled(staff_user)
    wrong = next(
        code for code in ("000000", "000001", "000002", "000003") if code not in {code_of(secret, steps=step) for step in (-1, 0, 1)}
    )
    for _ in range(10):
        assert WRONG_CODE in text_of(post(browser, CODE, {"code": wrong}))
    assert "There were too many wrong codes. Try again in 5 minutes." in text_of(post(browser, CODE, {"code": code_of(secret)}))
    assert not inside(browser)
    # The window of five minutes ends, the one of a day goes on.
    five_minutes = timezone.now() + timedelta(minutes=6)
    for _ in range(4):
        Throttle.objects.filter(ends_at__lt=five_minutes).delete()
        for _ in range(10):
            assert WRONG_CODE in text_of(post(browser, CODE, {"code": wrong}))
    Throttle.objects.filter(ends_at__lt=five_minutes).delete()
    assert "There were too many wrong codes. Try again in 1440 minutes." in text_of(post(browser, CODE, {"code": code_of(secret)}))


def test_right_codes_are_not_counted(staff_user: User, browser: Client) -> None:
    secret = enrolled(staff_user)
    for _ in range(12):
        SecondFactor.objects.update(last_timecode=0)
        second_factor.verify(account=staff_user, code=code_of(secret), actor=Actor.system("tests"))
    assert set(Throttle.objects.values_list("count", flat=True)) == {0}


def test_next_leads_nowhere_else(staff_user: User, browser: Client) -> None:
    secret = enrolled(staff_user)
    assert post(browser, f"{CODE}?next=//evil.example", {"code": code_of(secret)}).headers["Location"] == INDEX


def test_the_page_of_the_code_is_for_those_who_need_it(browser: Client) -> None:
    assert browser.get(CODE).headers["Location"] == INDEX
    assert Client().get(CODE).headers["Location"] == INDEX
    for page in (ENROL, REMOVE, RENEW):
        assert Client().get(page).headers["Location"] == INDEX


# --- Setting it up --------------------------------------------------------------------------------------


def shown_secret(body: str) -> str:
    """The secret as the page shows it."""
    return re.search(r"<code>([A-Z2-7 ]+)</code>", body)[1].replace(" ", "")  # type: ignore[index]


def test_a_second_factor_is_set_up_and_shown_once(staff_user: User, browser: Client, log: Log) -> None:
    others = Client()
    assert sign_in("vera", PASSWORD, client=others) == ""
    body = text_of(browser.get(ENROL))
    secret = shown_secret(body)
    assert len(base64.b32decode(secret)) == 20
    assert shown_secret(text_of(browser.get(ENROL))) == secret
    assert 'src="data:image/png;base64,' in body
    assert WRONG_CODE in text_of(post(browser, ENROL, {"code": code_of(secret, steps=3)}))
    assert not SecondFactor.objects.exists()
    key = browser.cookies["sessionid"].value
    code = code_of(secret)
    shown = text_of(post(browser, ENROL, {"code": f"{code[:3]} {code[3:]}"}))
    codes = re.findall(r"<li><code>([A-Z2-7-]+)</code></li>", shown)
    assert [len(code) for code in codes] == [19] * 10
    assert browser.cookies["sessionid"].value != key
    assert inside(browser)
    assert not inside(others)
    factor = SecondFactor.objects.get()
    with connection.cursor() as cursor:
        cursor.execute("SELECT row::text FROM baskets_secondfactor AS row UNION ALL SELECT row::text FROM baskets_staffsession AS row")
        stored = " ".join(text for (text,) in cursor.fetchall())
    for secret_text in (secret, *codes, *(code.replace("-", "") for code in codes)):
        assert secret_text not in stored
        assert secret_text not in log.text
        assert secret_text.encode() not in bytes(factor.secret)
    steps = [(kind, data) for kind, _, _, data in journal()]
    assert steps[-3:] == [
        ("sign_in_failed", {"source": "192.0.2.1", "step": "code"}),
        ("second_factor", {"step": "enrolled"}),
        ("sessions_ended", {"sessions": 1}),
    ]
    assert browser.get(ENROL).headers["Location"] == INDEX
    assert "Recovery codes left: 10." in text_of(browser.get(ACCOUNT))


def test_each_session_is_offered_a_secret_of_its_own(staff_user: User, browser: Client) -> None:
    other = Client()
    sign_in("vera", PASSWORD, client=other)
    assert shown_secret(text_of(browser.get(ENROL))) != shown_secret(text_of(other.get(ENROL)))


def test_of_two_who_set_it_up_at_once_one_is_refused(staff_user: User) -> None:
    secret = enrolled(staff_user)
    before = bytes(SecondFactor.objects.get().secret)
    with pytest.raises(second_factor.AlreadyEnrolled):
        second_factor.enroll(account=staff_user, secret=secret, code=code_of(secret), session_key="", actor=Actor.system("tests"))
    assert bytes(SecondFactor.objects.get().secret) == before


@pytest.mark.parametrize("role", ["superusers", "Basket repairers"])
def test_a_role_that_needs_it_opens_nothing_before_it_is_set_up(staff_user: User, browser: Client, settings: Settings, role: str) -> None:
    assert inside(browser)
    if role == "superusers":
        User.objects.update(is_superuser=True)
    else:
        staff_user.groups.set([Group.objects.get(name=role)])
    assert inside(browser)
    settings.BASKETS_SECOND_FACTOR_ROLES = [role]
    sign_in("vera", PASSWORD, client=browser)
    redirect = browser.get("/admin/baskets/basket/")
    assert redirect.headers["Location"] == "/admin/login/set-up/?next=%2Fadmin%2Fbaskets%2Fbasket%2F"
    body = text_of(browser.get(redirect.headers["Location"]))
    assert "Your role needs a second factor" in body
    assert 'id="user-tools"' not in body
    DeskEntry.objects.all().delete()
    done = text_of(post(browser, redirect.headers["Location"], {"code": code_of(shown_secret(body))}))
    assert '<a class="button" href="/admin/baskets/basket/">' in done
    assert inside(browser)
    assert [kind for kind, *_ in journal() if kind != "sessions_ended"] == ["second_factor", "signed_in"]


def test_other_roles_need_none(staff_user: User, browser: Client, settings: Settings) -> None:
    settings.BASKETS_SECOND_FACTOR_ROLES = ["superusers", "Basket repairers"]
    staff_user.groups.set([Group.objects.get(name="Basket viewers")])
    assert inside(browser)


# --- Changing it ----------------------------------------------------------------------------------------


@pytest.fixture
def totp_secret(staff_user: User, browser: Client) -> str:
    """The secret of vera, whose browser has passed both steps, with a code that is not used yet."""
    secret = enrolled(staff_user)
    assert post(browser, CODE, {"code": code_of(secret)}).status_code == 302
    SecondFactor.objects.update(last_timecode=0)
    DeskEntry.objects.all().delete()
    return secret


def test_recovery_codes_are_good_once_each_and_can_be_renewed(staff_user: User, browser: Client, totp_secret: str) -> None:
    assert WRONG_CODE in text_of(post(browser, RENEW, {"code": "AAAA-AAAA-AAAA-AAAA"}))
    codes = re.findall(r"<li><code>([A-Z2-7-]+)</code></li>", text_of(post(browser, RENEW, {"code": code_of(totp_secret)})))
    assert len(set(codes)) == 10
    for number, (code, is_good) in enumerate([(codes[0], True), (codes[0], False), (codes[1].lower().replace("-", " "), True)]):
        client = Client()
        sign_in("vera", PASSWORD, client=client)
        assert (post(client, CODE, {"code": code}).status_code == 302) is is_good, number
    assert second_factor.recovery_codes_left(staff_user) == 8
    steps = [data["step"] for kind, _, _, data in journal() if kind == "second_factor"]
    assert steps == ["recovery codes renewed", "recovery code used", "recovery code used"]


def test_new_recovery_codes_replace_the_old_ones(staff_user: User, totp_secret: str) -> None:
    actor = Actor.system("tests")
    old, new = (second_factor.renew_recovery_codes(account=staff_user, actor=actor) for _ in range(2))
    with pytest.raises(second_factor.InvalidCode):
        second_factor.verify(account=staff_user, code=old[0], actor=actor)
    second_factor.verify(account=staff_user, code=new[0], actor=actor)


def test_removing_it_needs_a_code_and_ends_other_sessions(staff_user: User, browser: Client, totp_secret: str) -> None:
    other = Client()
    sign_in("vera", PASSWORD, client=other)
    assert WRONG_CODE in text_of(post(browser, REMOVE, {"code": "AAAA"}))
    assert SecondFactor.objects.exists()
    assert post(browser, REMOVE, {"code": code_of(totp_secret)}).headers["Location"] == ACCOUNT
    assert not SecondFactor.objects.exists()
    assert inside(browser)
    assert StaffSession.objects.filter(expire_date__gt=timezone.now()).count() == 1
    assert ("second_factor", "vera", "vera", {"step": "removed"}) in journal()
    for page in (REMOVE, RENEW):
        assert browser.get(page).headers["Location"] == ACCOUNT


def test_without_a_second_factor_there_is_nothing_to_change(staff_user: User) -> None:
    actor = Actor.system("tests")
    with pytest.raises(second_factor.NotEnrolled):
        runner.run(second_factor.remove, account=staff_user, actor=actor)
    with pytest.raises(second_factor.NotEnrolled):
        second_factor.renew_recovery_codes(account=staff_user, actor=actor)
    with pytest.raises(second_factor.NotEnrolled):
        second_factor.verify(account=staff_user, code="123456", actor=actor)
    assert not DeskEntry.objects.exists()


# --- Sessions ---------------------------------------------------------------------------------------------


def test_own_sessions_are_listed_and_ended_one_by_one(staff_user: User, browser: Client) -> None:
    other, third = Client(), Client()
    sign_in("vera", PASSWORD, address="198.51.100.9", client=other)
    sign_in("vera", PASSWORD, client=third)
    body = text_of(browser.get(ACCOUNT))
    assert body.count("this session") == 1
    assert "198.51.100.9" in body
    assert "Firefox &lt;b&gt;1&lt;/b&gt;" in body
    own = sessions.digest_session_key(browser.cookies["sessionid"].value)
    target = sessions.digest_session_key(other.cookies["sessionid"].value)
    assert post(browser, ACCOUNT, {"session": target}).status_code == 302
    assert [inside(client) for client in (browser, third)] == [True, True]
    assert "You were signed out: vera ended this session." in explanation(other)
    assert journal()[-1] == ("sessions_ended", "vera", "vera", {"sessions": 1})
    post(browser, ACCOUNT, {"session": target})
    post(browser, ACCOUNT, {"session": own})
    assert [inside(client) for client in (browser, third)] == [True, True]
    post(browser, ACCOUNT)
    assert [inside(client) for client in (browser, third)] == [True, False]
    assert [kind for kind, *_ in journal()].count("sessions_ended") == 2


def test_sessions_of_others_are_ended_by_superusers_only(
    browser: Client, staff_user: User, root: Client, sign_in: Callable[..., Client]
) -> None:
    page = reverse("staff:account_of", args=[staff_user.pk])
    other = sign_in("otto", permissions="")
    assert other.get(page).status_code == 403
    mine = reverse("staff:account_of", args=[User.objects.get(username="otto").pk])
    assert other.get(mine).status_code == 200
    forged = {"session": sessions.digest_session_key(browser.cookies["sessionid"].value)}
    post(other, mine, forged)
    assert inside(browser)
    assert post(root, page).status_code == 302
    assert "You were signed out: root ended this session." in explanation(browser)
    assert journal()[-1] == ("sessions_ended", "vera", "root", {"sessions": 1})
    assert root.get(reverse("staff:account_of", args=[0])).status_code == 404
    listed = text_of(root.get(reverse("admin:auth_user_changelist")))
    assert f'<a href="{page}">Sessions</a>' in listed


def test_the_way_to_the_own_account_is_on_every_page(browser: Client) -> None:
    assert f'<a href="{ACCOUNT}">Your account</a>' in text_of(browser.get(INDEX))
    assert ACCOUNT not in text_of(Client().get(LOGIN))


@pytest.mark.parametrize("page", [ACCOUNT, ENROL, CODE, REMOVE, RENEW])
def test_pages_of_the_account_keep_to_the_policy(page: str, staff_user: User, browser: Client) -> None:
    if page in (REMOVE, RENEW):
        post(browser, CODE, {"code": code_of(enrolled(staff_user))})
    if page == CODE:
        enrolled(staff_user)
    response = browser.get(page)
    body = text_of(response)
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert {"no-store", "private"} <= set(response.headers["Cache-Control"].split(", "))
    for inline in ("style=", "<style", " onclick=", "<script>"):
        assert inline not in body
