"""A second client of the database of the test, beside Django's connection of this thread: it sees what is committed, and holds locks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

Client = psycopg.Connection[Any]


def connect() -> Client:
    """Open a connection, with the limits of the service. The caller closes it."""
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    return psycopg.connect(**parameters)


@contextmanager
def holding(lock: str, parameters: Sequence[Any] = ()) -> Iterator[Client]:
    """Hold the locks of a statement during a block, or until the client rolls back."""
    with connect() as client:
        client.execute(lock, parameters)
        yield client
        client.rollback()


def holding_basket(basket_id: UUID) -> Any:
    """Hold the lock of a basket during a block."""
    return holding("SELECT FROM baskets_basket WHERE id = %s FOR UPDATE", [basket_id])
