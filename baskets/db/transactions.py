"""Runs an operation in a transaction, and retries it where a database error allows that. Knows nothing of baskets."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, transaction

from baskets.db import errors
from baskets.db.backend.base import thread_connection
from baskets.db.pipeline import CommitState, pipeline

T = TypeVar("T")

TRIES = 3
MAX_PAUSE_SECONDS = 0.05


def run_in_transaction(operation: Callable[[], T]) -> T:
    """Run an operation in its own transaction, at most three times.

    A persistent connection may be stale. If it breaks before COMMIT was sent, or the server reports that it ended the session
    before COMMIT, the operation is retried on a new connection: what was not committed is rolled back with its connection. After any
    other loss the outcome is unknown.

    :param operation: may be called several times, and must have no effect outside the database.
    :returns: the result of the operation, once it is committed.
    :raises OutcomeUnknown: the connection was lost after COMMIT was sent.
    :raises RuntimeError: a transaction or a `pipeline()` block is open.
    :raises django.db.Error: a retry does not help, or the third try has failed; nothing is committed.
    """
    connection = thread_connection()
    for left in reversed(range(TRIES)):
        found, commit = connection.connection, CommitState()
        try:
            with transaction.atomic(durable=True), pipeline(commit=True) as commit:
                found = connection.connection  # It may have been opened just now.
                result = operation()
        except (DatabaseError, InterfaceError) as error:
            if commit.maybe_committed and found is not None and found.closed and errors.fault_of(error) is errors.Fault.UNAVAILABLE:
                raise errors.OutcomeUnknown(*error.args) from error.__cause__ or error
            # When the block ended, Django has opened a new connection, or tried to.
            lost = found is not None and found.closed and connection.connection is not None and not commit.maybe_committed
            if not left or not (lost or errors.fault_of(error) is errors.Fault.RETRY):
                raise
            if connection.connection is found and (lost or errors.is_stale_plan(error)):
                connection.close()  # Its stale prepared statements go with it.
            errors.count_retry(error)
            time.sleep(random.uniform(0, MAX_PAUSE_SECONDS))  # noqa: S311 (jitter, no secret)
        else:
            return result
    raise AssertionError  # The loop either returns or raises.
