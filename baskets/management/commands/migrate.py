"""`migrate`: Django's command, without a limit for the time of a statement. Locks are still waited for briefly."""

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from baskets.db.checks import about_to_migrate
from baskets.db.limits import client_waits


class Command(migrate.Command):
    """Update the schema. A large table takes its time; the limit of a call would roll it back again and again."""

    def check(self, *args: Any, **options: Any) -> None:
        """Check the database as well, but do not stop at what the pending migrations add."""
        with about_to_migrate():
            super().check(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run without `statement_timeout`. `lock_timeout` stays: behind a migration that waits for a lock, every call waits."""
        connection = connections[options["database"]]
        session = connection.settings_dict["OPTIONS"]
        usual = session["options"]
        # As the default of the session, so that a migration that resets it gets this value.
        session["options"] = f"{usual} -c statement_timeout=0"
        connection.close()
        try:
            with client_waits(statement_seconds=None):
                super().handle(*args, **options)
        finally:
            session["options"] = usual
            connection.close()
