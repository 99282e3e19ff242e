"""Fixtures of the tests of webhooks."""

from collections.abc import Iterator
from typing import Any

import pytest

from baskets.models.basket_snapshot import Owner
from tests.domain.events.receivers import Receiver, receiver
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory


@pytest.fixture
def webhook_receiver(settings: Any) -> Iterator[Receiver]:
    """A receiver on this machine; that is allowed here."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    with receiver() as running:
        yield running


@pytest.fixture
def shopper() -> User:
    """A user, whose partner has no webhook yet."""
    ProductFactory(product_id="shirt", unsold=100)
    return User(Owner(partner_id=PartnerFactory(name="TV").pk, user_id="anna"))
