"""`changepassword`: Django's command, with an entry in the audit log."""

from getpass import getuser
from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.contrib.auth.models import User

from baskets.domain.actors import Actor
from baskets.domain.staff import rights


class Command(changepassword.Command):
    """Change a password, then record it and end the sessions of the account.

    Two transactions: while Django's command waits for the new password to be typed, none may be open.
    """

    def handle(self, *args: Any, **options: Any) -> str:
        """Change the password as Django does."""
        done = super().handle(*args, **options)
        account = User.objects.get(username=options["username"] or getuser())
        rights.record_password(account=account, session_key="", actor=Actor.system("changepassword"))
        return str(done)
