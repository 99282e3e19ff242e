"""Rows that other connections can see: race tests commit, and the tables are emptied afterwards."""

from collections.abc import Iterator

import pytest

from baskets.domain.maintenance import invariant_checker
from baskets.models.basket_snapshot import Owner
from tests.domain import scenarios
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory


@pytest.fixture
def shopper(transactional_db: None) -> User:
    """A user; 10 shirts and 10 caps are there."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="cap", unsold=10)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


@pytest.fixture
def start_in_two_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts that decide by what they have read, as they do where a direct start does not apply."""
    monkeypatch.setattr(scenarios, "may_start_directly", lambda **_: False)


@pytest.fixture(params=["directly", "in two trips"])
def both_ways_to_start(request: pytest.FixtureRequest) -> None:
    """Run a test with direct starts, and without."""
    if request.param == "in two trips":
        request.getfixturevalue("start_in_two_trips")


@pytest.fixture(autouse=True)
def check_invariants(transactional_db: None) -> Iterator[None]:
    """After each race, all proofs of `check_baskets` are silent."""
    yield
    assert invariant_checker.check() == []
