"""Fixtures of the admin tests: browsers of staff with different rights, and a shop with rows in every table."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from pytest_django import Settings

from baskets.models import Partner
from tests.admin.shops import Shop, fill, fill_all_tables, kept_for_a_module
from tests.factories import PartnerFactory


@pytest.fixture
def sign_in(db: None) -> Callable[..., Client]:
    """Sign a user in, in a browser that enforces CSRF tokens."""

    def sign_in(name: str, *, superuser: bool = False, staff: bool = True, permissions: str = "") -> Client:
        person = User.objects.create(username=name, is_staff=staff, is_superuser=superuser)
        if permissions:
            person.user_permissions.set(Permission.objects.filter(content_type__app_label="baskets", codename__startswith=permissions))
        client = Client(enforce_csrf_checks=True)
        client.force_login(person)
        return client

    return sign_in


@pytest.fixture
def root(sign_in: Callable[..., Client]) -> Client:
    """A superuser."""
    return sign_in("root", superuser=True)


@pytest.fixture
def viewer(sign_in: Callable[..., Client]) -> Client:
    """A user who may see everything."""
    return sign_in("vera", permissions="view_")


@pytest.fixture
def staff_without_rights(sign_in: Callable[..., Client]) -> Client:
    """Staff without any right."""
    return sign_in("nora")


def repairer_named(name: str) -> Client:
    """Sign in a new member of staff with the role for repairs."""
    person = User.objects.create(username=name, is_staff=True)
    person.groups.set([Group.objects.get(name="Basket repairers")])
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    return client


@pytest.fixture
def repairer(db: None) -> Client:
    """Staff with the role for repairs."""
    return repairer_named("rita")


@pytest.fixture
def anonymous(db: None) -> Client:
    """A visitor without a session."""
    return Client(enforce_csrf_checks=True)


def token(client: Client, address: str) -> str:
    """Return the form token of a browser. One that has none yet reads a page first."""
    if "csrftoken" not in client.cookies:
        client.get(address)
    return client.cookies["csrftoken"].value


def post(client: Client, address: str, data: dict[str, Any] | None = None, **options: Any) -> Any:
    """Send a form with its token."""
    return client.post(address, {"csrfmiddlewaretoken": token(client, address), **(data or {})}, **options)


@pytest.fixture
def shop(partner: Partner) -> Shop:
    """A shop."""
    return Shop(partner)


@pytest.fixture
def full_shop(shop: Shop) -> Shop:
    """A shop in which everything has happened once."""
    return fill(shop)


@pytest.fixture(scope="module")
def shop_with_all_rows(django_db_setup: None, django_db_blocker: Any) -> Iterator[Shop]:
    """A shop with a row in every table, for all tests of a module; none of them sees what another one changes."""
    with kept_for_a_module(django_db_blocker):
        yield fill_all_tables(Shop(PartnerFactory()))


@pytest.fixture
def plain_errors(settings: Settings) -> None:
    """Let refusals have no page: `test_error_pages.py` tests those pages, which would take half of the time of many refusals."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != "baskets.admin.core.error_pages.ErrorPages"]
