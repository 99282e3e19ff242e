"""Runs one step as a transaction, and again where the database asks for it."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, connection, transaction

from baskets.db import errors
from baskets.db.pipeline import CommitState, pipeline

T = TypeVar("T")

TRIES = 3
LONGEST_PAUSE_SECONDS = 0.05


def in_transaction(step: Callable[[], T]) -> T:
    """Run one step in a transaction of its own, at most three times, and return what it returns once committed.

    A kept connection may have died while nobody used it, and nobody asks before. So a step that loses the connection it
    found is run again on a new one, where there is one. That is safe as long as COMMIT was not sent, or the server has said that
    it ended the session before: what was never told to commit is gone with its connection. Any other loss is told, not repeated.

    :param step: may be called several times and must do nothing outside the database.
    :raises django.db.Error: what a repeat does not mend.
    """
    for left in reversed(range(TRIES)):
        found, commit = connection.connection, CommitState()
        try:
            with transaction.atomic(durable=True), pipeline(commit=True) as commit:
                result = step()
        except (DatabaseError, InterfaceError) as error:
            # At the end of the block Django has opened a new connection, or failed to.
            lost = found is not None and found.closed and connection.connection is not None and not commit.maybe_committed
            if not left or not (lost or errors.fault_of(error) is errors.Fault.RETRY):
                raise
            if connection.connection is found and (lost or errors.is_stale_plan(error)):
                connection.close()  # Prepared statements live as long as their connection, those that no longer fit too.
            time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))  # noqa: S311 (jitter, no secret)
        else:
            return result
    raise AssertionError  # The loop either returns or raises.
