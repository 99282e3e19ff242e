"""Django's PostgreSQL backend with time limits of the client. See Note [Circuit breaker] and Note [History].

The server's own limits end a statement that takes too long. They do not help if the server itself hangs, or its machine disappears from
the network: then the client must close the connection. `WAIT_SECONDS` of the database's settings limits one round trip.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.postgresql import base
from psycopg import generators
from psycopg.abc import PQGen, PQGenConn
from psycopg.errors import Diagnostic, _WaitTimeout
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from baskets.db.circuit_breaker import CIRCUIT_BREAKER
from baskets.db.errors import NotOnStandby
from baskets.db.limits import wait_limit

RV = TypeVar("RV")

# The first eight digits of the name of a WAL file are its timeline.
HISTORY = b"""
SELECT system_identifier::text, CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
FROM pg_control_system()"""
# The function of the server that warns of a commit without its synchronous standby. Its text depends on the server's language.
WAIT_FOR_STANDBY = "SyncRepWaitForLSN"


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where the server does not answer in time, or commits without its synchronous standby.

    :ivar wait_seconds: the usual longest wait for the end of one round trip; None: no limit.
    """

    wait_seconds: float | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._generation = CIRCUIT_BREAKER.generation
        self._is_unreplicated = False
        self.add_notice_handler(self._handle_notice)

    @classmethod
    def _connect_gen(cls, conninfo: str = "", **named: Any) -> PQGenConn[Self]:
        """Connect to one host, and make sure that the server itself answers and writes the latest history. See Note [History].

        It is a part of the attempt: the time limit of the attempt includes it, and if it fails, psycopg tries the next host.

        :raises psycopg.OperationalError: it does not answer in time, or another server was promoted.
        """
        connection = yield from super()._connect_gen(conninfo, **named)
        try:
            connection.pgconn.send_query(HISTORY)
            (result,) = yield from _execute(connection.pgconn)
            # A managed server may not offer these functions; its refusal is an answer, too.
            if result.status == ExecStatus.TUPLES_OK:
                system, timeline = ((result.get_value(0, column) or b"").decode() for column in range(2))
                connection._generation = CIRCUIT_BREAKER.record_history(system, timeline)  # noqa: SLF001 (of this class)
        except BaseException:
            connection.close()
            raise
        return connection

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the end of a round trip.

        :raises psycopg.OperationalError: the server did not answer in time, another connection found that it does not, or a commit is
            not known to be on the synchronous standby.
        """
        if self._generation != CIRCUIT_BREAKER.generation:
            self.close()
            message = "the database did not answer another call, or another server was promoted; this connection is from before"
            raise psycopg.OperationalError(message)
        limit = timeout or wait_limit(self.wait_seconds)
        try:
            result = super().wait(gen, interval, limit)
        except _WaitTimeout as error:
            self.close()
            CIRCUIT_BREAKER.record_hang(self._generation)
            message = f"the database did not answer within {limit} s"
            raise psycopg.OperationalError(message) from error
        if self._is_unreplicated:
            self.close()
            message = "the database committed without its synchronous standby, because the wait for it was cancelled"
            raise NotOnStandby(message)
        return result

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and in no transaction."""
        return bool(self.pgconn.transaction_status == TransactionStatus.IDLE)

    def set_autocommit_while_idle(self, value: bool) -> None:  # noqa: FBT001 (as psycopg has it)
        """Change autocommit between transactions. Nothing is sent, so there is nothing to lock or to wait for."""
        self._autocommit = value

    def _handle_notice(self, notice: Diagnostic) -> None:
        self._is_unreplicated |= notice.source_function == WAIT_FOR_STANDBY


def _execute(pgconn: PGconn) -> PQGenConn[list[PGresult]]:
    """Receive the results of what was sent, as a step of connecting: its generators yield the socket with each wait."""
    answer = generators.execute(pgconn)
    try:
        wait = next(answer)
        while True:
            wait = answer.send((yield pgconn.socket, wait))
    except StopIteration as end:
        return list(end.value)


class DatabaseWrapper(base.DatabaseWrapper):
    """The wrapper of Django, with bounded connections and the circuit breaker.

    # Note [Ends of a transaction]
    # `baskets.db.pipeline` sends BEGIN and COMMIT with the statements. What Django does in addition at both ends of a transaction sends
    # nothing on an idle connection, and is dozens of calls of Python.

    :ivar statements: number of statements run so far, those of a pipeline one by one.
    :ivar flush_pipeline: sends what is queued; called before each statement of Django's, so that the order stays.
    :ivar in_pipeline: whether a `pipeline()` block is open.
    """

    # Django takes from here how to connect, and the classes of errors.
    Database = SimpleNamespace(**{**vars(psycopg), "connect": BoundedConnection.connect})  # type: ignore[assignment] # Reads as the module.

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.statements = 0
        self.flush_pipeline: Callable[[], None] = lambda: None
        self.in_pipeline = False
        self.execute_wrappers.append(self._run_in_order)

    def _run_in_order(self, execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 (as Django calls it)
        """Run a statement of Django's behind what is queued."""
        self.flush_pipeline()
        self.statements += 1
        return execute(sql, parameters, many, context)

    def get_new_connection(self, conn_params: Any) -> BoundedConnection:
        """Connect.

        :raises psycopg.OperationalError: no server is reached, or was reached just now, or the server is not the one to write to.
        """
        with CIRCUIT_BREAKER.connecting():
            connection: BoundedConnection = super().get_new_connection(conn_params)
        connection.wait_seconds = self.settings_dict.get("WAIT_SECONDS")
        return connection

    def ensure_connection(self) -> None:
        """Connect, unless that was done."""
        if self.connection is None:
            super().ensure_connection()

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:  # noqa: FBT001, FBT002 (as Django has it)
        """Change autocommit. See Note [Ends of a transaction].

        :raises RuntimeError: a transaction would begin inside of a `pipeline()` block, which may send its statements after its end.
        """
        if self.in_pipeline and not autocommit:
            message = "A transaction cannot run inside of a pipeline() block: its statements would be sent after its end."
            raise RuntimeError(message)
        connection = self.connection
        is_checked = self.health_check_enabled  # type: ignore[attr-defined] # The stubs do not know it.
        if connection is None or not connection.is_idle or self.in_atomic_block or is_checked:
            super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
            return
        connection.set_autocommit_while_idle(autocommit)
        self.autocommit = autocommit
        if autocommit and self.run_commit_hooks_on_set_autocommit_on:
            self.run_commit_hooks_on_set_autocommit_on = False
            self.run_and_clear_commit_hooks()

    def commit(self) -> None:
        """Commit, unless COMMIT was sent with the last statements."""
        if self.connection is None or not self.connection.is_idle or self.in_atomic_block:
            super().commit()
        self.errors_occurred = False
        self.run_commit_hooks_on_set_autocommit_on = True

    def _set_autocommit(self, autocommit: bool) -> None:  # noqa: FBT001 (as Django calls it)
        """Change autocommit. Keep no connection that was lost at the end of a transaction, or before its first.

        Django would take it for one inside a transaction, which nothing ends: no later call of the thread could connect.
        """
        try:
            super()._set_autocommit(autocommit)  # type: ignore[misc] # The stubs do not know it.
        except Exception:
            if autocommit and self.connection is not None and self.connection.closed and not self.in_atomic_block:
                self.connection = None
            raise


def thread_connection() -> DatabaseWrapper:
    """Return Django's connection of this thread."""
    connection: DatabaseWrapper = connections[DEFAULT_DB_ALIAS]  # type: ignore[assignment] # The settings name this backend.
    return connection
