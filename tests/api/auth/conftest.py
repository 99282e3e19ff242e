"""Fixtures of the tests of issuers' keys."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from baskets.domain.access import jwks_cache
from baskets.models import Partner
from baskets.net import http_client
from tests.api.auth.key_sets import add_issuer, settle
from tests.api.conftest import Api, ApiResponse
from tests.key_servers import PATIENT, Issuer, serving_keys
from tests.tokens import KeyPair


@pytest.fixture
def issuer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """An issuer on this machine; that is allowed here."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    for module, name in ((jwks_cache, "FETCH_TIMEOUT_SECONDS"), (jwks_cache, "WAIT_SECONDS"), (http_client, "CONNECT_SECONDS")):
        monkeypatch.setattr(module, name, PATIENT)
    with serving_keys() as made:
        yield made
        made.gate.set()
        settle()


@pytest.fixture
def show(app: Api, partner: Partner, issuer: Issuer) -> Callable[..., ApiResponse]:
    """Shows a basket for a token of this issuer."""
    add_issuer(partner, issuer.url)

    def show(token: str, user: str = "ada") -> ApiResponse:
        return app.get(f"/baskets/users/{user}", Authorization=f"Bearer {token}")

    return show


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return KeyPair("ES256")
