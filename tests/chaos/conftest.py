"""Fixtures: a shopper with a song in the cart, API calls, and a second client of the same database."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client

from baskets.domain.access.api_keys import issue_api_key
from baskets.models import Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.second_client import connect


@pytest.fixture
def shopper(transactional_db: None) -> User:
    """A user with a song in the cart."""
    ProductFactory(product_id="song")
    user = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    user.place("song")
    return user


@pytest.fixture(autouse=True)
def separate_connection() -> Iterator[None]:
    """Close the connection after each test, and with it the settings of its session."""
    yield
    connection.close()


@pytest.fixture
def second_connection(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A second client of the same database."""
    with connect() as client:
        yield client


@pytest.fixture
def kill(second_connection: psycopg.Connection[Any]) -> Callable[[], None]:
    """Kill the database backend of this thread's connection. The client notices at its next statement."""

    def kill() -> None:
        pid = connection.connection.info.backend_pid
        second_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        second_connection.commit()

    return kill


@pytest.fixture
def call(shopper: User) -> Callable[..., Any]:
    """Call the API as a partner does: method, path and body."""
    _, key = issue_api_key(partner_name=Partner.objects.get().name, kind="server", label="", actor=TESTER)
    client = Client(raise_request_exception=False, headers={"X-API-Key": key, "Host": "127.0.0.1"})
    return lambda method, path, body=None, headers=None: client.generic(
        method, path, json.dumps(body or {}), content_type="application/json", headers=headers
    )


@pytest.fixture
def finish(shopper: User, call: Callable[..., Any]) -> Callable[[], Any]:
    """Report an abort as a partner does."""
    return lambda: call("POST", f"/baskets/users/{shopper.owner.user_id}/checkout/sessions/finish-active", {"ordered": False})


@pytest.fixture
def start(shopper: User, call: Callable[..., Any]) -> Callable[..., Any]:
    """Start a checkout as a partner does, with an Idempotency-Key or without."""
    path = f"/baskets/users/{shopper.owner.user_id}/checkout/sessions"
    return lambda key=None: call("POST", path, headers={"Idempotency-Key": key} if key else {})


@pytest.fixture
def superuser(db: None) -> Client:
    """A superuser at the admin."""
    user = get_user_model().objects.create_superuser("rita", password="x")
    client = Client(raise_request_exception=False, headers={"Host": "127.0.0.1"})
    client.force_login(user)
    return client
