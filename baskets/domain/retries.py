"""Runs one step as a transaction, and again where the database asks for it."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, connection, transaction

from baskets import database

T = TypeVar("T")

TRIES = 3
LONGEST_PAUSE_SECONDS = 0.05


def in_transaction(step: Callable[[], T]) -> T:
    """Run one step in a transaction of its own, at most three times, and return what it returns once committed.

    :param step: may be called several times and must do nothing outside the database.
    :raises django.db.DatabaseError: what a repeat does not mend.
    """
    for left in reversed(range(TRIES)):
        try:
            with transaction.atomic(durable=True):
                return step()
        except DatabaseError as error:
            if not left or database.fault_of(error) is not database.Fault.AGAIN:
                raise
            if database.schema_changed(error):
                connection.close()  # The prepared statement that no longer fits lives as long as its connection.
            time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))  # noqa: S311 (jitter, no secret)
    raise AssertionError  # The loop either returns or raises.
