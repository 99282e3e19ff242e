"""Fixtures: a member of staff with a password, and a browser of theirs."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.test import Client

from tests.admin.auth.signing_in import PASSWORD, inside, sign_in


@pytest.fixture
def staff_user(cheap_passwords: None) -> User:
    """A member of staff with a password."""
    return get_user_model().objects.create_user("vera", password=PASSWORD, is_staff=True)


@pytest.fixture
def browser(staff_user: User) -> Client:
    """The browser of a signed-in user."""
    client = Client(enforce_csrf_checks=True)
    assert sign_in("vera", PASSWORD, client=client) == ""
    assert inside(client)
    return client
