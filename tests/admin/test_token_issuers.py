"""Issuers are added and removed by superusers, each by one POST."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from baskets.domain.access import token_issuers
from baskets.domain.actors import Actor
from baskets.models import Partner, TokenIssuer
from tests.admin.conftest import post, token
from tests.key_servers import serving_keys
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db
ADD = "admin:baskets_tokenissuer_add"
USABLE = json.dumps({"keys": [KeyPair("ES256").jwk]})


@pytest.fixture
def login(partner: Partner) -> TokenIssuer:
    values = {"keys_url": "https://example.com/keys", "audience": "baskets"}
    return token_issuers.add_issuer(partner_name=partner.name, name="<b>login", actor=Actor.system("tests"), **values).issuer


def remove(issuer: TokenIssuer) -> str:
    return reverse("admin:baskets_tokenissuer_remove", args=[issuer.pk])


def test_an_issuer_is_trusted_by_its_keys(root: Client, partner: Partner) -> None:
    keys = {"keys": [KeyPair("ES256").jwk]}
    values = {"partner": partner.pk, "name": "login", "issuer": "us", "algorithms": ["ES256"], "keys": json.dumps(keys)}
    assert post(root, reverse(ADD), {**values, "reason": "ticket 12"}).status_code == 302
    stored = TokenIssuer.objects.get()
    assert (stored.partner, stored.name, stored.issuer, stored.algorithms) == (partner, "login", "us", ["ES256"])
    assert (stored.keys, stored.keys_url, stored.created_by) == (keys, "", "root")


@pytest.mark.parametrize(
    "change",
    [
        {"keys": "{"},
        {"keys": "{}"},
        {"keys_url": "http://example.com/"},
        {"name": ""},
        {"algorithms": ["none"]},
        {"partner": 0},
        {"issuer": "", "keys": USABLE},
    ],
)
def test_untrustworthy_issuer_is_refused_on_the_form(
    root: Client, partner: Partner, change: dict[str, Any], stored_rows: Callable[[], Any]
) -> None:
    before = stored_rows()
    values = {"partner": partner.pk, "name": "login", "issuer": "us", "algorithms": ["ES256"]}
    response = post(root, reverse(ADD), {**values, **change, "reason": "ticket 12"})
    assert response.status_code == 200
    assert response.context["form"].errors
    assert stored_rows() == before


def test_every_token_is_trusted_only_if_that_is_ticked(root: Client, partner: Partner) -> None:
    keys = json.dumps({"keys": [KeyPair("ES256").jwk]})
    values = {"partner": partner.pk, "name": "login", "algorithms": ["ES256"], "keys": keys, "unrestricted": "on"}
    assert post(root, reverse(ADD), {**values, "reason": "ticket 12"}).status_code == 302
    assert (TokenIssuer.objects.get().issuer, TokenIssuer.objects.get().audience) == ("", "")
    page, every = reverse("admin:baskets_tokenissuer_changelist"), "EVERY token of its keys, for whatever service"
    token_issuers.add_issuer(partner_name=partner.name, name="other", keys=json.loads(keys), issuer="us", actor=Actor.system("tests"))
    assert root.get(page).content.decode().count(every) == 1
    found = {chosen: root.get(page, {"accepts": chosen}).context["cl"].queryset for chosen in ("every", "some")}
    assert {chosen: [row.name for row in rows] for chosen, rows in found.items()} == {"every": ["login"], "some": ["other"]}


def shown_messages(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_skipped_keys_are_named_in_the_message(root: Client, partner: Partner) -> None:
    keys = json.dumps({"keys": [KeyPair("ES256", kid="<i>enc").jwk | {"use": "enc"}, KeyPair("ES256").jwk]})
    values = {"partner": partner.pk, "name": "login", "audience": "us", "algorithms": ["ES256"], "keys": keys}
    page = post(root, reverse(ADD), {**values, "reason": "ticket 12"}, follow=True)
    assert shown_messages(page) == [
        "The issuer is added. Its tokens are valid from the next call on.",
        "Skipped keys[0] (kid '<i>enc'): The key is not meant for signatures.",
    ]
    assert "<i>enc" not in page.content.decode()
    assert "key-1: ES256" in page.content.decode()


@pytest.mark.django_db(transaction=True)
def test_published_keys_are_fetched_when_an_issuer_is_added_and_on_request(root: Client, partner: Partner, settings: Any) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True
    with serving_keys() as server:
        server.say(b"", status=500)
        values = {"partner": partner.pk, "name": "login", "audience": "us", "algorithms": ["ES256"], "keys_url": server.url}
        page = post(root, reverse(ADD), {**values, "reason": "ticket 12"}, follow=True)
        assert shown_messages(page)[1:] == ["Its keys could not be fetched now: The answer has status 500."]
        assert "The answer has status 500." in page.content.decode().partition('<div id="content"')[2]
        server.say(json.dumps({"keys": [KeyPair("ES256").jwk, {"kty": "oct"}]}).encode())
        stored = TokenIssuer.objects.get()
        fetch = reverse("admin:baskets_tokenissuer_fetch", args=[stored.pk])
        assert root.get(fetch).status_code == 200
        assert server.calls == 1
        page = post(root, fetch, {}, follow=True)
        assert shown_messages(page) == ["1 keys were fetched.", "Skipped keys[1]: The key type 'oct' is not supported."]
        assert server.calls == 2
    stored.refresh_from_db()
    assert (stored.fetched_keys["keys"][0]["kid"], stored.fetch_problem) == ("key-1", "")


def test_keys_that_were_given_cannot_be_fetched(root: Client, partner: Partner) -> None:
    keys = {"keys": [KeyPair("ES256").jwk]}
    values = {"partner_name": partner.name, "name": "login", "audience": "us", "keys": keys}
    stored = token_issuers.add_issuer(actor=Actor.system("tests"), **values).issuer
    address = reverse("admin:baskets_tokenissuer_fetch", args=[stored.pk])
    assert root.get(address).status_code == 404
    assert address not in root.get(reverse("admin:baskets_tokenissuer_change", args=[stored.pk])).content.decode()


def test_an_issuer_is_removed_after_a_page_that_states_the_effect(root: Client, login: TokenIssuer) -> None:
    page = root.get(remove(login)).content.decode()
    assert "<b>login" not in page
    assert post(root, remove(login), {"reason": "retired"}).status_code == 302
    assert not TokenIssuer.objects.exists()


def test_only_superusers_do_either(viewer: Client, root: Client, login: TokenIssuer, stored_rows: Callable[[], Any]) -> None:
    before = stored_rows()
    form = {"csrfmiddlewaretoken": token(viewer, reverse("admin:index"))}
    for address in (reverse(ADD), remove(login), reverse("admin:baskets_tokenissuer_fetch", args=[login.pk])):
        assert viewer.get(address).status_code == 403
        assert viewer.post(address, form).status_code == 403
        assert root.get(address).status_code == 200
    assert stored_rows() == before
    page = reverse("admin:baskets_tokenissuer_change", args=[login.pk])
    for tool in ("Remove this issuer", "Fetch its keys"):
        assert tool in root.get(page).content.decode()
        assert tool not in viewer.get(page).content.decode()
