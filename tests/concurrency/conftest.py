"""Rows that other connections can see: race tests commit, and the tables are emptied afterwards."""

from collections.abc import Iterator

import pytest

from baskets.domain.maintenance import invariant_checker
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory


@pytest.fixture
def shopper(transactional_db: None) -> User:
    """A user; 10 shirts and 10 caps are there."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="cap", unsold=10)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


@pytest.fixture(autouse=True)
def check_invariants(transactional_db: None) -> Iterator[None]:
    """After each race, all proofs of `check_baskets` are silent."""
    yield
    assert invariant_checker.check() == []
