"""`migrate`: Django's command, without a limit for the time of a statement. Locks are still waited for briefly, but more than once."""

import time
from collections.abc import Callable
from typing import Any

from django.core.management.commands import migrate
from django.db import OperationalError, connections

from baskets.db.checks import about_to_migrate
from baskets.db.limits import client_waits
from baskets.error_summary import sqlstate_of

# deadlock_detected, lock_not_available
LOCK_FAILURES = {"40P01", "55P03"}
# Every call waits behind a migration that waits for a lock, and would itself be refused after a second.
LOCK_TIMEOUT = "250ms"
# No call waits behind one that builds or drops an index concurrently, and it has to wait for the transactions of all others.
CONCURRENT_LOCK_TIMEOUT = "3s"
# A migration computes between its statements, on a machine that may be busy.
IDLE_TIMEOUT = "60s"
# Between attempts that failed for a lock.
PAUSES_SECONDS = (1, 1, 2, 2, 4, 4, 8, 8)


def wait_where_no_call_waits(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 (Django's signature)
    """Run a statement of a migration, with a longer wait for locks if it works concurrently."""
    if "CONCURRENTLY" not in sql:
        return execute(sql, params, many, context)
    cursor = context["cursor"].cursor
    cursor.execute(f"SET lock_timeout = '{CONCURRENT_LOCK_TIMEOUT}'")
    try:
        return execute(sql, params, many, context)
    finally:
        cursor.execute("RESET lock_timeout")


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
        session["options"] = (
            f"{usual} -c statement_timeout=0 -c lock_timeout={LOCK_TIMEOUT} -c idle_in_transaction_session_timeout={IDLE_TIMEOUT}"
        )
        connection.close()
        try:
            with client_waits(statement_seconds=None), connection.execute_wrapper(wait_where_no_call_waits):
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
