"""Fixtures that every part of the tests shares."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from baskets.domain.actors import Actor, ActorKind
from baskets.models import Partner
from baskets.models.contents import Owner
from tests.factories import PartnerFactory

APP = Actor(kind=ActorKind.KEY, name="testkey", request_id="request-1", tracking={"session_id": "s-1"})


@pytest.fixture
def partner(db: None) -> Partner:
    """A partner with default settings."""
    return PartnerFactory()


@pytest.fixture
def owner(partner: Partner) -> Owner:
    """A user of the partner, without a basket."""
    return Owner(partner_id=partner.pk, user_id="anna")


@pytest.fixture
def everything_stored(db: None) -> Callable[[], dict[str, list[Any]]]:
    """Read every row of the service, to show that a refused call changed none."""

    def read() -> dict[str, list[Any]]:
        stored = {}
        with connection.cursor() as cursor:
            for model in apps.get_app_config("baskets").get_models():
                table = model._meta.db_table
                cursor.execute(f"SELECT * FROM {table} AS row ORDER BY row::text")  # noqa: S608 (the name is the model's)
                stored[table] = cursor.fetchall()
        return stored

    return read
