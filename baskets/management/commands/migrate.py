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
LOCK_TIMEOUT_MS = 250
# Autovacuum gives way to a session that has waited for its table as long as `deadlock_timeout`, 1 s by default, once it notices.
VACUUM_NOTICES_MS = 500
VACUUM_PATIENCE = """
SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout' AND EXISTS (
    SELECT FROM pg_stat_progress_vacuum WHERE datname = current_database()
    UNION ALL SELECT FROM pg_stat_progress_analyze WHERE datname = current_database()
)
"""
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


def next_lock_timeout_ms(connection: Any) -> int:
    """Choose how long the attempt after a failed one waits for a lock: while a table is vacuumed, until autovacuum gives way."""
    with connection.cursor() as cursor:
        cursor.execute(VACUUM_PATIENCE)
        rows = cursor.fetchall()
    return LOCK_TIMEOUT_MS if not rows else int(rows[0][0]) + VACUUM_NOTICES_MS


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

        def begin_session(lock_timeout_ms: int) -> None:
            # As the defaults of the session, so that a migration that resets one gets this value.
            limits = f"-c lock_timeout={lock_timeout_ms} -c idle_in_transaction_session_timeout={IDLE_TIMEOUT}"
            session["options"] = f"{usual} -c statement_timeout=0 {limits}"
            connection.close()

        try:
            begin_session(LOCK_TIMEOUT_MS)
            with client_waits(statement_seconds=None), connection.execute_wrapper(wait_where_no_call_waits):
                self._handle_with_retries(lambda: begin_session(next_lock_timeout_ms(connection)), *args, **options)
        finally:
            session["options"] = usual
            connection.close()

    def _handle_with_retries(self, begin_session: Callable[[], object], *args: Any, **options: Any) -> None:
        """Migrate, and try again where a lock was not available or calls of the running service caused a deadlock.

        What is done is recorded, so a further attempt begins with the migration that failed. It is rolled back, or, if it is not
        atomic, made of operations that can be run again.

        :param begin_session: called before each further attempt.
        """
        for pause in PAUSES_SECONDS:
            try:
                super().handle(*args, **options)
            except OperationalError as error:
                if sqlstate_of(error) not in LOCK_FAILURES:
                    raise
                self.stderr.write(f"A lock was not available ({str(error).splitlines()[0]}). Trying again in {pause} s.")
                time.sleep(pause)
                begin_session()
            else:
                return
        super().handle(*args, **options)
