"""`create_service_role`: the command for `database_role.grant_service_role`."""

import sys
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from baskets.domain.actors import Actor
from baskets.domain.maintenance import database_role
from baskets.management.base import ServiceCommand, dry_run_transaction


class Command(ServiceCommand):
    """Create the database role that the service connects as."""

    help = (
        "Create the PostgreSQL role that the service connects as, or repeat its grants. It reads and writes rows and "
        "cannot change tables: migrate as the owner, serve as this role. The password is read from standard input; an empty one "
        "leaves the password of the role unchanged."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("role", metavar="ROLE", help="The name of the role, such as baskets_service.")

    def handle(self, *, role: str, dry_run: bool, **_: Any) -> None:
        """Create the role or repeat the grants."""
        password = getpass(f"Password of {role}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
        with dry_run_transaction(dry_run=dry_run):
            created = database_role.grant_service_role(role=role, password=password, actor=Actor.system("create_service_role"))
        done = "was created" if created else "existed already"
        self.print_result(
            text=f"{'Would do it: role' if dry_run else 'Role'} {role} {done}, and has what the service needs.",
            role=role,
            created=created,
        )
