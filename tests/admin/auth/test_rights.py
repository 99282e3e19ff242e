"""Changes of what staff may do: recorded with what was given and taken, and with the sessions that they end."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from baskets.models import DeskEntry
from tests.admin.auth.signing_in import inside, journal
from tests.admin.conftest import post
from tests.conftest import Log

pytestmark = pytest.mark.django_db
VIEWER = ["Basket viewers"]


def change(client: Client, account: User, **fields: Any) -> Any:
    """Change an account by the admin's own form."""
    joined = account.date_joined
    form = {"username": account.username, "is_active": "on", "is_staff": "on"}
    form |= {"date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": f"{joined:%H:%M:%S}"}
    sent = {name: value for name, value in (form | fields).items() if value is not None}
    return post(client, reverse("admin:auth_user_change", args=[account.pk]), sent)


@pytest.fixture
def staff_user(staff_without_rights: Client) -> User:
    """A member of staff with a session and without rights."""
    return User.objects.get(username="nora")


def test_given_and_taken_rights_are_recorded_and_end_sessions(
    root: Client, staff_without_rights: Client, staff_user: User, log: Log
) -> None:
    role = Group.objects.get(name="Basket viewers")
    permission = Permission.objects.get(codename="export_list")
    assert inside(staff_without_rights)
    response = change(root, staff_user, is_superuser="on", groups=[role.pk], user_permissions=[permission.pk])
    assert response.status_code == 302
    given = ["is_superuser", "role Basket viewers", "baskets.export_list"]
    assert journal() == [
        ("rights_changed", "nora", "root", {"given": given, "taken": []}),
        ("sessions_ended", "nora", "root", {"sessions": 1}),
    ]
    [line] = log.lines("rights_changed")
    assert (line["account"], line["given"], line["taken"]) == (staff_user.pk, given, [])
    assert "nora" not in json.dumps(line)
    assert not inside(staff_without_rights)
    DeskEntry.objects.all().delete()
    change(root, staff_user, is_active=None, is_staff=None)
    assert journal() == [("rights_changed", "nora", "root", {"given": [], "taken": ["is_active", "is_staff", *given]})]


def test_a_change_of_a_name_is_no_change_of_rights(root: Client, staff_without_rights: Client, staff_user: User) -> None:
    assert change(root, staff_user, first_name="Nora").status_code == 302
    assert User.objects.get(pk=staff_user.pk).first_name == "Nora"
    assert journal() == [("changed", "nora", "root", {"before": {"first_name": ""}, "after": {"first_name": "Nora"}})]
    assert inside(staff_without_rights)


def test_a_superuser_who_changes_the_own_rights_goes_on(root: Client) -> None:
    account = User.objects.get(username="root")
    role = Group.objects.get(name="Basket viewers")
    change(root, account, is_superuser="on", groups=[role.pk])
    assert journal() == [("rights_changed", "root", "root", {"given": ["role Basket viewers"], "taken": []})]
    assert inside(root)


def test_new_and_removed_accounts_are_recorded(root: Client, staff_without_rights: Client, staff_user: User) -> None:
    password = "a long password for tests"
    form = {"username": "olga", "password1": password, "password2": password, "usable_password": "true"}
    assert post(root, reverse("admin:auth_user_add"), form).status_code == 302
    assert journal() == [("rights_changed", "olga", "root", {"given": ["is_active"], "taken": []})]
    DeskEntry.objects.all().delete()
    assert post(root, reverse("admin:auth_user_delete", args=[staff_user.pk]), {"post": "yes"}).status_code == 302
    assert journal() == [("rights_changed", "nora", "root", {"given": [], "taken": ["is_active", "is_staff"], "removed": True})]
    assert not inside(staff_without_rights)


def test_changed_and_removed_roles_are_recorded(root: Client) -> None:
    role, added = Group.objects.create(name="Helpers"), Permission.objects.get(codename="export_list")
    assert post(root, reverse("admin:auth_group_change", args=[role.pk]), {"name": "Helpers", "permissions": [added.pk]}).status_code == 302
    assert post(root, reverse("admin:auth_group_delete", args=[role.pk]), {"post": "yes"}).status_code == 302
    assert list(DeskEntry.objects.order_by("pk").values_list("kind", "about", "subject", "data")) == [
        ("rights_changed", "role", "Helpers", {"given": ["baskets.export_list"], "taken": []}),
        ("rights_changed", "role", "Helpers", {"given": [], "taken": ["baskets.export_list"], "removed": True}),
    ]


def test_a_password_that_a_superuser_sets_is_recorded_and_ends_sessions(
    root: Client, staff_without_rights: Client, staff_user: User, log: Log
) -> None:
    password = "another long password"
    form = {"password1": password, "password2": password, "usable_password": "true", "set-password": "Change"}
    assert post(root, reverse("admin:auth_user_password_change", args=[staff_user.pk]), form).status_code == 302
    assert User.objects.get(pk=staff_user.pk).check_password(password)
    assert journal() == [("password_changed", "nora", "root", {}), ("sessions_ended", "nora", "root", {"sessions": 1})]
    assert password not in log.text
    assert not inside(staff_without_rights)


def test_a_refused_change_records_no_change(staff_user: User, sign_in: Callable[..., Client]) -> None:
    client = sign_in("otto")
    client.get(reverse("admin:index"))
    assert client.post(reverse("admin:auth_user_change", args=[staff_user.pk]), {}).status_code == 403
    assert [kind for kind, *_ in journal()] == ["refused"]
