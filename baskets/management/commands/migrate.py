"""`migrate`: Django's command, without a limit for the time of a statement. Locks are still waited for briefly, but more than once."""

import time
from typing import Any

from django.core.management.commands import migrate
from django.db import OperationalError, connections

from baskets.db.checks import about_to_migrate
from baskets.db.errors import sqlstate_of
from baskets.db.limits import client_waits

# deadlock_detected, lock_not_available
LOCK_FAILURES = {"40P01", "55P03"}
# Between attempts that failed for a lock.
PAUSES_SECONDS = (1, 1, 2, 2, 4, 4, 8, 8)


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
                self._handle_with_retries(*args, **options)
        finally:
            session["options"] = usual
            connection.close()

    def _handle_with_retries(self, *args: Any, **options: Any) -> None:
        """Migrate, and try again where a lock was not available or calls of the running service caused a deadlock.

        What is done is recorded, so a further attempt begins with the migration that failed. It is rolled back, or, if it is not
        atomic, made of operations that can be run again.
        """
        for pause in PAUSES_SECONDS:
            try:
                super().handle(*args, **options)
            except OperationalError as error:
                if sqlstate_of(error) not in LOCK_FAILURES:
                    raise
                self.stderr.write(f"A lock was not available ({str(error).splitlines()[0]}). Trying again in {pause} s.")
                time.sleep(pause)
            else:
                return
        super().handle(*args, **options)
