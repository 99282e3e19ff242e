"""Runs raw SQL through libpq's pipeline mode: queued statements are prepared once per connection and sent in one round trip.

Note [Pipeline]
A round trip costs more than the statements in it. Inside a `pipeline()` block a statement is only queued. The queue is sent in
one round trip when a result is read, before Django runs a statement, and at the end of the block, where COMMIT can be sent
with it. The server still runs the statements one after the other, each with a new snapshot, so locks and the clock work as
they do everywhere; after an error it skips the rest. Outside of a block a statement is sent at once.

Note [Stale plans]
After a change of the schema the server refuses a prepared statement whose result has other types: "cached plan must not change result
type". Our connection is closed then, but behind a pooler the session stays, and with it the statement: PgBouncer gives the same text
to each of its clients as one statement. So from then on, this process sends its statements with another text, by a comment at the end.

psycopg's own `Connection.pipeline()` does the same with four times the processor time: it parses, adapts and prepares in Python on
every call. Here libpq's pipeline mode is entered only while the queue is sent.
"""

import functools
import inspect
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import abc, errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Wait

from baskets import tracing
from baskets.db.backend.base import DatabaseWrapper, thread_connection
from baskets.db.errors import SESSION_ENDED, is_stale_plan
from baskets.db.statements import Parameters, Statement, to_array_literal

Row = tuple[Any, ...]

SUCCEEDED = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
DIVISION_BY_ZERO = b"22012"


class PendingResult:
    """The pending result of one queued statement. Reading it flushes the pipeline and blocks until the server replies."""

    def __init__(
        self, connection: "PipelineConnection", statement: Statement, values: Sequence[Any], on_no_rows: Exception | None = None
    ) -> None:
        self.statement = statement
        self.values = values
        self.on_no_rows = on_no_rows
        self._connection = connection
        self._rows: Iterator[Row] | None = None
        self._rowcount = 0

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows that were not read yet.

        :raises psycopg.ProgrammingError: the statement was discarded or has failed.
        """
        if self._rows is None:
            self._connection.flush()
        if self._rows is None:
            message = "this statement was discarded or has failed"
            raise psycopg.ProgrammingError(message)
        return self._rows

    @property
    def is_received(self) -> bool:
        """Return whether the server has replied, without an error."""
        return self._rows is not None

    @property
    def rowcount(self) -> int:
        """The number of rows found or changed."""
        iter(self)
        return self._rowcount

    def fetchone(self) -> Row | None:
        """Return the next row, or None."""
        return next(iter(self), None)

    def fetchall(self) -> list[Row]:
        """Return all remaining rows."""
        return list(self)

    def receive(self, result: PGresult, adapter: abc.Transformer) -> None:
        """Store the reply of the server.

        :param adapter: loads the rows.
        :raises psycopg.errors.InFailedSqlTransaction: COMMIT of a failed transaction. To the server that is not an error: it
            rolls back and reports ROLLBACK.
        """
        if self.statement is COMMIT and result.command_status == b"ROLLBACK":
            message = "the transaction had failed before its end, and was rolled back"
            raise errors.InFailedSqlTransaction(message)
        rows: Sequence[Row] = ()
        if result.ntuples:
            adapter.set_pgresult(result)
            rows = adapter.load_rows(0, result.ntuples, tuple)
        self._rows = iter(rows)
        self._rowcount = result.command_tuples or 0


class _Edition:
    """The suffix of the text of all statements that this process prepares. See Note [Stale plans].

    :ivar comment: empty, or a comment that no other process sends.
    """

    comment = b""

    def replace(self, stale: bytes) -> None:
        """Choose another comment, unless another connection has done so since this one was used."""
        if self.comment == stale:
            self.comment = b"\n-- " + secrets.token_hex(4).encode()


_edition = _Edition()


class PipelineConnection:
    """Wraps one psycopg connection: the queue of unsent statements, and the statements already prepared on it."""

    def __init__(self, django: DatabaseWrapper) -> None:
        self.django = django
        django.flush_pipeline = self.flush
        self.raw: psycopg.Connection[Any] = django.connection
        self._adapter = Transformer(self.raw)
        self._queue: list[PendingResult] = []
        # The name of each statement on this connection.
        self._prepared: dict[bytes, bytes] = {}
        self._failed_names = 0
        self._edition = _edition.comment

    def enqueue(self, statement: Statement, parameters: Parameters, on_no_rows: Exception | None = None) -> PendingResult:
        """Queue a statement, to be sent with the next flush."""
        self.django.statements += 1
        values = statement.in_order(parameters)
        for place, value in enumerate(values):
            if value.__class__ is list:
                values[place] = to_array_literal(value)
        result = PendingResult(self, statement, self._adapter.dump_sequence(values, [PyFormat.TEXT] * len(values)), on_no_rows)
        self._queue.append(result)
        return result

    def discard_queue(self) -> None:
        """Discard the statements that were not sent."""
        self._queue.clear()

    def flush(self, *, commit: "CommitState | None" = None) -> None:
        """Send the queue, wait for all results, and raise the first error.

        :param commit: given if COMMIT is sent with the queue; its `maybe_committed` is cleared where the error excludes a commit.
        """
        if not self._queue:
            return
        queue, self._queue = self._queue, []
        sent = self._with_transaction(queue, commit=commit is not None)
        if tracing.active:
            with tracing.active.round_trip([result.statement.name for result in sent]):
                self._make_round_trip(queue, sent, commit)
        else:
            self._make_round_trip(queue, sent, commit)

    def _make_round_trip(self, queue: list[PendingResult], sent: list[PendingResult], commit: "CommitState | None") -> None:
        """Do the work of `flush`.

        :param sent: the queue with BEGIN and COMMIT.
        """
        failed: list[tuple[PendingResult, PGresult]] = []
        started = time.monotonic()
        steps = self._communicate(sent, failed)
        with self.django.wrap_database_errors:
            try:
                self.raw.wait(steps)
            except BaseException as error:
                self.raw.close()  # Which replies are still to come is unknown.
                if commit and inspect.getgeneratorstate(steps) == inspect.GEN_CREATED:
                    commit.maybe_committed = False  # The connection was refused before anything was sent.
                if not failed or not isinstance(error, psycopg.Error):
                    raise
            if self.django.queries_logged:
                took = f"{time.monotonic() - started:.3f}"
                self.django.queries_log.extend({"sql": result.statement.sql, "time": took} for result in queue)
            if failed:
                if commit:
                    commit.maybe_committed = not _ended_before_commit(*failed[0])
                failure = _error_of(*failed[0])
                if is_stale_plan(failure):
                    _edition.replace(self._edition)
                raise failure

    def _with_transaction(self, queue: list[PendingResult], *, commit: bool) -> list[PendingResult]:
        """Add BEGIN, where no transaction is open and one is needed, and COMMIT."""
        begins = not self.raw.autocommit and self.raw.pgconn.transaction_status == TransactionStatus.IDLE
        first = [PendingResult(self, BEGIN, ())] if begins else []
        return [*first, *queue, *([PendingResult(self, COMMIT, ())] if commit else [])]

    def _communicate(self, queue: list[PendingResult], failed: list[tuple[PendingResult, PGresult]]) -> PQGen[None]:
        """Send all statements, then receive the results in their order.

        psycopg's own `fetch` reads the socket and releases the GIL twice for each result. The server sends all results at once, so
        the others are nearly always in the buffer when the first one is.

        :param failed: gets each result that is an error, with its statement.
        :raises psycopg.InterfaceError: the server sent another number of results than one for each message.
        """
        pgconn = self.raw.pgconn
        pgconn.enter_pipeline_mode()
        expected: list[tuple[PendingResult, bool]] = []
        for pending in queue:
            self._send(pending, expected)
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        for pending, is_prepare in expected:
            while pgconn.is_busy():
                yield Wait.R
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None or pgconn.get_result() is not None:
                message = "the server sent another number of results than expected"
                raise psycopg.InterfaceError(message)
            if result.status not in SUCCEEDED:
                failed.append((pending, result))
                if is_prepare:
                    del self._prepared[pending.statement.prepared_name]
                    self._failed_names += 1
            elif not is_prepare and not failed:
                pending.receive(result, self._adapter)
        yield from generators.fetch_many(pgconn)  # The sync point has a result, too.
        pgconn.exit_pipeline_mode()

    def _send(self, pending: PendingResult, expected: list[tuple[PendingResult, bool]]) -> None:
        """Send one statement, prepared first where it is new on this connection.

        :param expected: gets each message that is sent, with whether it prepares.
        """
        statement = pending.statement
        name = self._prepared.get(statement.prepared_name)
        if name is None:
            # PgBouncer ends a connection that prepares a name twice, even if the server refused or skipped the first attempt.
            name = statement.prepared_name + (b"_%d" % self._failed_names if self._failed_names else b"")
            self._prepared[statement.prepared_name] = name
            self.raw.pgconn.send_prepare(name, statement.dollar_sql + self._edition)
            expected.append((pending, True))
        self.raw.pgconn.send_query_prepared(name, pending.values, result_format=Format.BINARY)
        expected.append((pending, False))


def _ended_before_commit(pending: PendingResult, result: PGresult) -> bool:
    """Return whether an error proves that the server ended the session before it reached COMMIT.

    Only an error of the server itself counts. A pooler that lost the server, and libpq, report their errors in place of the next
    result, and COMMIT may have been executed by then.
    """
    return pending.statement is not COMMIT and (result.error_field(DiagnosticField.SQLSTATE) or b"").decode() in SESSION_ENDED


def _error_of(pending: PendingResult, result: PGresult) -> Exception:
    error = errors.error_from_result(result)
    if pending.on_no_rows is None or result.error_field(DiagnosticField.SQLSTATE) != DIVISION_BY_ZERO:
        return error
    pending.on_no_rows.__cause__ = error
    return pending.on_no_rows


@dataclass
class CommitState:
    """Whether COMMIT was sent, so that the transaction may be committed although no reply arrived."""

    maybe_committed: bool = False


class _ThreadState(threading.local):
    """The state of this thread, as its connection is."""

    connection: PipelineConnection | None = None


_state = _ThreadState()


def execute(statement: Statement | str, parameters: Parameters, *, on_no_rows: Exception | None = None) -> PendingResult:
    """Run one statement on this thread's connection. See Note [Pipeline].

    :param statement: a `Statement`; a plain constant text is prepared, too, and named by its digest alone.
    :param on_no_rows: raised where the statement divides by zero: where it found other rows than it expects, as `expect_rows` says it.
    """
    if isinstance(statement, str):
        statement = _anonymous(statement)
    connection = _current_connection()
    django = connection.django
    if django.needs_rollback:
        django.validate_no_broken_transaction()
    if len(django.execute_wrappers) == 1:  # The backend's own, for statements of Django's.
        result = connection.enqueue(statement, parameters, on_no_rows)
    else:
        result = _enqueue_wrapped(connection, statement, parameters, on_no_rows)
    if not django.in_pipeline:
        connection.flush()
    return result


def _enqueue_wrapped(
    connection: PipelineConnection, statement: Statement, parameters: Parameters, on_no_rows: Exception | None
) -> PendingResult:
    """Enqueue a statement inside the other `execute_wrappers` of the connection, as Django runs one."""

    def run(*_: object) -> PendingResult:
        return connection.enqueue(statement, parameters, on_no_rows)

    for wrapper in reversed(connection.django.execute_wrappers[1:]):
        run = functools.partial(wrapper, run)
    return run(statement.sql, parameters, False, {"connection": connection.django, "cursor": None})


class pipeline:  # noqa: N801 (as context managers are named)
    """Queue the statements of this block and send them in as few round trips as possible. See Note [Pipeline].

    A nested block is part of the outer one. An error is raised when a result is read, or at the end of the outermost block.
    The block gets a `CommitState`: what is known of the commit, also after an error.

    No transaction begins inside a block, only savepoints; see `DatabaseWrapper.set_autocommit`.

    :param commit: whether the block is the whole of its transaction, so that COMMIT can be sent with its last statements.
    """

    __slots__ = ("_commit", "_django", "_is_outermost", "_state")

    def __init__(self, *, commit: bool = False) -> None:
        self._commit = commit

    def __enter__(self) -> CommitState:
        self._django = _current_connection().django
        self._is_outermost = not self._django.in_pipeline
        self._django.in_pipeline = True
        self._state = CommitState()
        return self._state

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if not self._is_outermost:
            return
        try:
            if kind is None:
                connection, django = _current_connection(), self._django
                # Inside another transaction, for example in a test, ours is a savepoint.
                is_whole = django.in_atomic_block and not django.savepoint_ids and not django.needs_rollback
                self._state.maybe_committed = True  # COMMIT is sent with the last statements, or by Django when this block is left.
                connection.flush(commit=self._state if self._commit and is_whole else None)
        finally:
            self._django.in_pipeline = False
            if _state.connection:
                _state.connection.discard_queue()


def _current_connection() -> PipelineConnection:
    connection = _state.connection
    if connection is not None and connection.raw is connection.django.connection:
        return connection
    django = thread_connection()
    if django.connection is None:
        django.ensure_connection()
    if connection is None or connection.raw is not django.connection:
        connection = _state.connection = PipelineConnection(django)
    return connection


@functools.cache
def _anonymous(sql: str) -> Statement:
    return Statement("sql", sql)


BEGIN, COMMIT = Statement("begin", "BEGIN"), Statement("commit", "COMMIT")
