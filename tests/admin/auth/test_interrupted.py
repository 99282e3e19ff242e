"""A form that is sent after the session has ended: nothing is done, and what was typed is there again after the sign-in."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from baskets.domain.staff.sessions import SessionStore
from baskets.models import Basket, CheckoutSession, StaffSession
from tests.admin.auth.signing_in import PASSWORD
from tests.admin.auth.signing_in import sign_in as give_password
from tests.admin.conftest import Shop, token

pytestmark = pytest.mark.django_db


@pytest.fixture
def repairer(cheap_passwords: None) -> User:
    """Staff with the role for repairs."""
    account = User.objects.create_user("rita", password=PASSWORD, is_staff=True)
    account.groups.set([Group.objects.get(name="Basket repairers")])
    return account


@pytest.fixture
def browser(repairer: User) -> Client:
    """A browser in which the repairer has signed in."""
    client = Client(enforce_csrf_checks=True)
    assert give_password("rita", PASSWORD, client=client) == ""
    return client


def send(client: Client, address: str, **fields: Any) -> Any:
    """Send a form after its session has ended."""
    sent = {"csrfmiddlewaretoken": token(client, "/admin/"), **fields}
    StaffSession.objects.all().delete()
    return client.post(address, sent)


def sign_in_again(client: Client, response: Any, name: str = "rita") -> Any:
    """Sign in on the page to which a refused form leads, and follow to the page after it."""
    assert response.status_code == 302
    page = client.get(response["Location"])
    assert "Nothing was done yet. Sign in" in page.content.decode()
    values = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    return client.post(response["Location"], values, follow=True)


def test_a_repair_shows_again_with_what_was_typed(browser: Client, full_shop: Shop, stored_rows: Callable[[], Any]) -> None:
    basket = Basket.objects.get(user_id="ben")
    page = reverse("admin:baskets_basket_repair", args=[basket.pk, "extend"])
    before = stored_rows()["baskets_basket"]
    response = send(browser, page, days="9", reason="more time wanted", seen="3", confirm="x")
    shown = sign_in_again(browser, response)
    body = shown.content.decode()
    assert shown.redirect_chain[-1][0] == page
    assert "You were signed out before this was sent, and nothing was done." in body
    kept = re.search(r'<script id="interrupted" type="application/json">(.*?)</script>', body)
    assert kept
    assert '<th scope="row">Details</th><td>more time wanted</td>' in body
    assert kept[1] == '{"days": ["9"], "reason": ["more time wanted"]}'
    assert "<td>more time wanted</td>" in body
    assert stored_rows()["baskets_basket"] == before
    assert "signed out before" not in browser.get(page).content.decode()


def test_a_repair_of_many_shows_its_rows_again(browser: Client, full_shop: Shop) -> None:
    session = CheckoutSession.objects.get(status="ACTIVE")
    page = reverse("admin:baskets_checkoutsession_repair_many", args=["abort"])
    response = send(browser, page, row=[f"{session.pk} 3", "x 1"], reason="the shop closes")
    body = sign_in_again(browser, response).content.decode()
    assert "1 chosen" in body
    assert session.order_no in body
    assert '"reason": ["the shop closes"]' in body
    assert CheckoutSession.objects.get(pk=session.pk).status == "ACTIVE"
    assert browser.get(page).status_code == 405


def test_a_form_without_a_page_leads_to_where_it_stood(browser: Client, full_shop: Shop) -> None:
    sent = {"csrfmiddlewaretoken": token(browser, "/admin/"), "note": "x"}
    StaffSession.objects.all().delete()
    address = reverse("admin:baskets_basket_export")
    response = browser.post(address, sent, headers={"Referer": "http://testserver/admin/baskets/basket/?q=ben"})
    shown = sign_in_again(browser, response)
    assert shown.redirect_chain[-1][0] == "/admin/baskets/basket/?q=ben"
    assert "What you typed is in the form again" in shown.content.decode()


@pytest.mark.parametrize(
    "fields",
    [{"password1": "a secret thing"}, {"code": "a secret thing"}, {"nonce": "a secret thing"}, {"note": f"bk_{'a' * 12}_{'1' * 64}"}],
)
def test_secrets_are_not_kept(browser: Client, full_shop: Shop, fields: dict[str, str]) -> None:
    page = reverse("admin:baskets_basket_changelist")
    response = send(browser, page, **fields)
    body = sign_in_again(browser, response).content.decode()
    assert "What you typed" not in body
    assert "secret thing" not in body
    for row in StaffSession.objects.all():
        assert "baskets_interrupted" not in SessionStore().decode(row.session_data)


def test_another_account_and_an_unknown_browser_get_nothing(browser: Client, full_shop: Shop) -> None:
    User.objects.create_user("otto", password=PASSWORD, is_staff=True, is_superuser=True)
    page = reverse("admin:baskets_basket_repair", args=[Basket.objects.get(user_id="ben").pk, "extend"])
    response = send(browser, page, days="9", reason="typed by rita")
    assert "typed by rita" not in sign_in_again(browser, response, "otto").content.decode()
    stranger = Client(enforce_csrf_checks=True)
    stranger.get("/admin/login/")
    stranger.post(page, {"csrfmiddlewaretoken": stranger.cookies["csrftoken"].value, "reason": "x"})
    assert not StaffSession.objects.filter(user=None).exists()


def test_a_form_that_is_too_long_is_not_kept(browser: Client, full_shop: Shop) -> None:
    response = send(browser, reverse("admin:baskets_basket_changelist"), reason="x" * 40_000)
    page = browser.get(response["Location"]).content.decode()
    assert "Nothing was done yet. Sign in, and do it again." in page
