"""Rows that other connections can see: race tests commit, and the tables are emptied afterwards."""

from collections.abc import Iterator

import pytest
from django.db.models import Sum

from baskets.models import Stock, StockAdjustment, StockReservation
from baskets.models.contents import Owner
from tests.domain.worlds import User
from tests.factories import PartnerFactory, ProductFactory


@pytest.fixture
def anna(transactional_db: None) -> User:
    """A user; 10 shirts and 10 caps are there."""
    ProductFactory(product_id="shirt", unsold=10)
    ProductFactory(product_id="cap", unsold=10)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


@pytest.fixture(autouse=True)
def supply_is_accounted_for(transactional_db: None) -> Iterator[None]:
    """After each race: supply = available + held + sold - shortfall, for every product."""
    yield
    for row in Stock.objects.all():
        supply = StockAdjustment.objects.filter(product=row).aggregate(n=Sum("delta"))["n"]
        taken = StockReservation.objects.filter(product_id=row.pk, status__in=["HELD", "SOLD"])
        assert supply == row.available + (taken.aggregate(n=Sum("pieces"))["n"] or 0) - row.shortfall, row.pk
