"""Django's PostgreSQL backend with time limits of the client. See Note [Circuit].

The server's own limits end a statement that takes too long. They are of no use where the server itself hangs, or its machine is gone
without a word: then the client must leave. `WAIT_SECONDS` of the database's settings is the longest wait for the end of one round trip.
"""

from types import SimpleNamespace
from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql import base
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

from baskets.db.circuit import CIRCUIT
from baskets.db.limits import wait_limit

RV = TypeVar("RV")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where the server does not answer in time.

    :ivar wait_seconds: the usual longest wait for the end of one round trip; None: no limit.
    """

    wait_seconds: float | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._generation = CIRCUIT.generation

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the end of a round trip.

        :raises psycopg.OperationalError: the server did not answer in time, or another connection found that it does not.
        """
        if self._generation != CIRCUIT.generation:
            self.close()
            message = "the database did not answer another call; this connection is from before"
            raise psycopg.OperationalError(message)
        limit = timeout or wait_limit(self.wait_seconds)
        try:
            return super().wait(gen, interval, limit)
        except _WaitTimeout as error:
            self.close()
            CIRCUIT.record_hang(self._generation)
            message = f"the database did not answer within {limit} s"
            raise psycopg.OperationalError(message) from error


class DatabaseWrapper(base.DatabaseWrapper):
    """The wrapper of Django, with bounded connections and the circuit."""

    # Django takes from here how to connect, and the classes of errors.
    Database = SimpleNamespace(**{**vars(psycopg), "connect": BoundedConnection.connect})  # type: ignore[assignment] # Reads as the module.

    def get_new_connection(self, conn_params: Any) -> BoundedConnection:
        """Connect.

        :raises psycopg.OperationalError: the server is not reached, or was not reached just now.
        """
        with CIRCUIT.connecting():
            connection: BoundedConnection = super().get_new_connection(conn_params)
        connection.wait_seconds = self.settings_dict.get("WAIT_SECONDS")
        return connection
