"""Issuers are trusted and distrusted by superusers, each by one POST."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from baskets.domain import issuers
from baskets.domain.actors import Actor
from baskets.models import Partner, TokenIssuer
from tests.admin.conftest import post, token
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db
ADD = "admin:baskets_tokenissuer_add"


@pytest.fixture
def login(partner: Partner) -> TokenIssuer:
    return issuers.trust_issuer(
        partner_name=partner.name, name="<b>login", keys_url="https://example.com/keys", actor=Actor.system("tests")
    )


def distrust(issuer: TokenIssuer) -> str:
    return reverse("admin:baskets_tokenissuer_distrust", args=[issuer.pk])


def test_an_issuer_is_trusted_by_its_keys(root: Client, partner: Partner) -> None:
    keys = {"keys": [KeyPair("ES256").jwk]}
    said = {"partner": partner.pk, "name": "login", "issuer": "us", "algorithms": ["ES256"], "keys": json.dumps(keys)}
    assert post(root, reverse(ADD), said).status_code == 302
    stored = TokenIssuer.objects.get()
    assert (stored.partner, stored.name, stored.issuer, stored.algorithms) == (partner, "login", "us", ["ES256"])
    assert (stored.keys, stored.keys_url, stored.created_by) == (keys, "", "root")


@pytest.mark.parametrize(
    "change", [{"keys": "{"}, {"keys": "{}"}, {"keys_url": "http://example.com/"}, {"name": ""}, {"algorithms": ["none"]}, {"partner": 0}]
)
def test_what_cannot_be_trusted_is_told_on_the_form(
    root: Client, partner: Partner, change: dict[str, Any], everything_stored: Callable[[], Any]
) -> None:
    before = everything_stored()
    response = post(root, reverse(ADD), {"partner": partner.pk, "name": "login", "algorithms": ["ES256"]} | change)
    assert response.status_code == 200
    assert response.context["form"].errors
    assert everything_stored() == before


def test_an_issuer_is_distrusted_after_a_page_that_says_what_that_means(root: Client, login: TokenIssuer) -> None:
    page = root.get(distrust(login)).content.decode()
    assert "<b>login" not in page
    assert post(root, distrust(login), {}).status_code == 302
    assert not TokenIssuer.objects.exists()


def test_only_superusers_do_either(viewer: Client, root: Client, login: TokenIssuer, everything_stored: Callable[[], Any]) -> None:
    before = everything_stored()
    form = {"csrfmiddlewaretoken": token(viewer, reverse("admin:index"))}
    for address in (reverse(ADD), distrust(login)):
        assert viewer.get(address).status_code == 403
        assert viewer.post(address, form).status_code == 403
        assert root.get(address).status_code == 200
    assert everything_stored() == before
    tool = "Distrust this issuer"
    page = reverse("admin:baskets_tokenissuer_change", args=[login.pk])
    assert tool in root.get(page).content.decode()
    assert tool not in viewer.get(page).content.decode()
