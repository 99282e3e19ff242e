"""`reset_second_factor`: the command for `second_factor.remove`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from baskets.domain.actors import Actor
from baskets.domain.staff import second_factor
from baskets.management.arguments import printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction


class Command(ServiceCommand):
    """Reset the second factor of a member of staff who has lost it."""

    help = "Remove the second factor of an account and end its sessions. Where a role needs one, the next sign-in sets up a new one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("account", type=printable_text(max_length=150), help="The name with which the member of staff signs in.")

    def handle(self, *, account: str, dry_run: bool, **_: Any) -> None:
        """Reset the second factor."""
        found = User.objects.filter(username=account).first()
        if found is None:
            raise CommandError(f"There is no account {account!r}.")
        with dry_run_transaction(dry_run=dry_run):
            second_factor.remove(account=found, actor=Actor.system("reset_second_factor"))
        self.print_result(
            text=f"{'Would reset' if dry_run else 'Reset'} the second factor of {account!r}.",
            account=account,
        )
