"""`createsuperuser`: Django's command, with an entry in the audit log."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.models import User, UserManager
from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.staff import rights


class RecordedAccounts(UserManager[User]):
    """The accounts, each new superuser recorded in the transaction that creates it."""

    def create_superuser(self, *args: Any, **fields: Any) -> User:
        """Create a superuser as Django does, and record it."""
        with transaction.atomic():
            account = super().create_superuser(*args, **fields)
            rights.record_change(subject=account, before=[], session_key="", actor=Actor.system("createsuperuser"))
        return account


class RecordedUser:
    """The model of accounts as Django's command uses it: its manager is the one above."""

    _default_manager = RecordedAccounts()
    _default_manager.model = User

    def __getattr__(self, name: str) -> Any:
        """Everything else is the model's."""
        return getattr(User, name)


class Command(createsuperuser.Command):
    """Create a superuser, and record it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.UserModel: Any = RecordedUser()
