"""Fixtures: a shop whose products the lists show."""

import pytest

from tests.api.conftest import Sells


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("shirt", unsold=50, price=1000)
    sells("song", price=99)
    sells("gift", price=None, currency="")
