"""Django's commands for accounts leave entries in the audit log, and a changed password ends the sessions of the account."""

import pytest
from django.contrib.auth.management.commands import changepassword
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from baskets.models import DeskEntry

pytestmark = pytest.mark.django_db
PASSWORD = "a long password for tests"


def test_a_created_superuser_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, username="olga", email="olga@example.com", verbosity=0)
    assert User.objects.get(username="olga").check_password(PASSWORD)
    entry = DeskEntry.objects.get()
    assert (entry.kind, entry.subject, entry.actor_kind, entry.actor) == ("rights_changed", "olga", "system", "createsuperuser")
    assert entry.data["given"] == ["is_active", "is_staff", "is_superuser"]


def test_a_changed_password_is_recorded_and_ends_the_sessions(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    account = User.objects.create_superuser("olga", password="another one")
    client.force_login(account)
    assert client.get("/admin/").status_code == 200
    monkeypatch.setattr(changepassword.Command, "_get_pass", lambda *_: PASSWORD)
    call_command("changepassword", "olga", verbosity=0)
    account.refresh_from_db()
    assert account.check_password(PASSWORD)
    entry = DeskEntry.objects.filter(kind="password_changed").get()
    assert (entry.subject, entry.actor) == ("olga", "changepassword")
    assert client.get("/admin/").status_code == 302
