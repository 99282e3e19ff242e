"""Sends hand-written statements together, each planned once, and waits for them once. Knows the wire, and nothing of baskets.

Note [Together]
Waiting costs more than what is waited for. So inside `together` a statement is only noted down; what is noted down is sent
in one go, when somebody asks for one of the answers, before Django runs a statement of its own, and at the end of the
block, where COMMIT may travel with it. The server still runs one statement after the other, each by its own snapshot, so locks
and the clock work as everywhere; after an error it skips the rest. Outside of `together` a statement is sent at once.

Whoever asks only to be sure that a row was there need not wait for that: the statement ends in `1 / count(*)` over the rows
that it must have found, so the server itself fails the transaction where there was none, and `otherwise` is raised.

This is libpq's pipeline mode, entered for the moment of sending only. psycopg's own `pipeline` does the same with four times
the processor time, because it parses, adapts and prepares in Python on every call.
"""

import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

Parameters = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]

PLACEHOLDER = re.compile(r"%(?:s|\((\w+)\)s)")
DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)
DIVISION_BY_ZERO = b"22012"
# admin_shutdown, idle_in_transaction_session_timeout, transaction_timeout.
SESSION_ENDED = {b"57P01", b"25P03", b"25P04"}
BEGIN, COMMIT = "BEGIN", "COMMIT"


class Answer:
    """What the server says to one statement. Who asks for it waits for it."""

    def __init__(self, line: "Line", sql: str, values: Sequence[Any], otherwise: Exception | None = None) -> None:
        self.sql = sql
        self.values = values
        self.otherwise = otherwise
        self._line = line
        self._rows: Iterator[Row] | None = None
        self._changed = 0

    def __iter__(self) -> Iterator[Row]:
        """Go through the rows that nobody has taken yet."""
        if self._rows is None:
            self._line.flush()
        if self._rows is None:
            message = "this statement was dropped or has failed"
            raise psycopg.ProgrammingError(message)
        return self._rows

    @property
    def heard(self) -> bool:
        """Tell whether the server has answered, and without an error."""
        return self._rows is not None

    @property
    def rowcount(self) -> int:
        """How many rows it found or changed."""
        iter(self)
        return self._changed

    def fetchone(self) -> Row | None:
        """Take the next row, or None."""
        return next(iter(self), None)

    def fetchall(self) -> list[Row]:
        """Take all rows that are left."""
        return list(self)

    def arrived(self, rows: Sequence[Row], *, changed: int) -> None:
        """Keep what the server said."""
        self._rows = iter(rows)
        self._changed = changed


class Line:
    """One connection as a line to talk on: what is noted down to be said, and which statements the server knows already."""

    def __init__(self, django: BaseDatabaseWrapper) -> None:
        self.django = django
        self.raw: psycopg.Connection[Any] = django.connection
        self._adapter = Transformer(self.raw)
        self._noted: list[Answer] = []
        self._known: set[str] = set()

    def note(self, sql: str, parameters: Parameters, otherwise: Exception | None = None) -> Answer:
        """Note a statement down, to be sent with the next ones."""
        names = _numbered(sql)[1]
        values = list(parameters) if names is None else [parameters[name] for name in names]  # type: ignore[call-overload] # A mapping then.
        values = [_array(value) if isinstance(value, list) else value for value in values]
        answer = Answer(self, sql, self._adapter.dump_sequence(values, [PyFormat.TEXT] * len(values)), otherwise)
        self._noted.append(answer)
        return answer

    def run(self, sql: str, parameters: Parameters, many: bool, context: Mapping[str, Any]) -> Answer:  # noqa: FBT001 (as Django calls it)
        """Run a statement now, or with others where it may wait for them."""
        del many
        self.django.validate_no_broken_transaction()
        answer = self.note(sql, parameters, context["otherwise"])
        if not _here.together:
            self.flush()
        return answer

    def drop(self) -> None:
        """Forget what was noted down and not sent."""
        self._noted.clear()

    def flush(self, *, commit: "Commit | None" = None) -> None:
        """Send what was noted down, wait for all of it, and raise the first error.

        :param commit: given where the transaction ends with it, and told whether that may have happened.
        """
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        failed: list[tuple[Answer, PGresult]] = []
        started = time.monotonic()
        with self.django.wrap_database_errors:
            try:
                self.raw.wait(self._exchange(noted, failed, commit=commit is not None))
            except BaseException as error:
                self.raw.close()  # Nobody knows how much of the conversation is still on the line.
                if not failed or not isinstance(error, psycopg.Error):
                    raise
            if self.django.queries_logged:
                took = f"{time.monotonic() - started:.3f}"
                self.django.queries_log.extend({"sql": answer.sql, "time": took} for answer in noted)
            if failed:
                if commit:
                    commit.sent = not _never_came_to_commit(*failed[0])
                raise _error_of(*failed[0])

    def _exchange(self, noted: list[Answer], failed: list[tuple[Answer, PGresult]], *, commit: bool) -> PQGen[None]:
        """Say everything, then hear the answers in their order.

        :param failed: gets the answers that are errors, and to what.
        """
        pgconn = self.raw.pgconn
        if not self.raw.autocommit and pgconn.transaction_status == TransactionStatus.IDLE:
            noted = [Answer(self, BEGIN, ()), *noted]
        if commit:
            noted = [*noted, Answer(self, COMMIT, ())]
        pgconn.enter_pipeline_mode()
        fresh = [self._say(answer) for answer in noted]
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        for answer, is_fresh in zip(noted, fresh, strict=True):
            if is_fresh:
                prepared = yield from _heard(pgconn)
                if prepared.status not in DONE:
                    self._known.discard(answer.sql)
                    failed.append((answer, prepared))
            result = yield from _heard(pgconn)
            if result.status not in DONE:
                failed.append((answer, result))
            if not failed:
                self._take(answer, result)
        yield from generators.fetch_many(pgconn)  # The end of the pipeline is an answer of its own.
        pgconn.exit_pipeline_mode()

    def _say(self, answer: Answer) -> bool:
        """Say one statement, and tell whether it had to be prepared first."""
        text, _, name = _numbered(answer.sql)
        is_fresh = answer.sql not in self._known
        if is_fresh:
            self._known.add(answer.sql)
            self.raw.pgconn.send_prepare(name, text)
        self.raw.pgconn.send_query_prepared(name, answer.values, result_format=Format.BINARY)
        return is_fresh

    def _take(self, answer: Answer, result: PGresult) -> None:
        """Keep what was heard. COMMIT of what had failed is no error to the server, which rolls back and says so."""
        if answer.sql == COMMIT and result.command_status == b"ROLLBACK":
            message = "the transaction had failed before its end, and was rolled back"
            raise errors.InFailedSqlTransaction(message)
        rows: Sequence[Row] = ()
        if result.ntuples:
            self._adapter.set_pgresult(result)
            rows = self._adapter.load_rows(0, result.ntuples, tuple)
        answer.arrived(rows, changed=result.command_tuples or 0)


def _heard(pgconn: PGconn) -> PQGen[PGresult]:
    """Hear the answer to one message: one result, and that it was the last.

    psycopg's own `fetch` reads the socket and gives other threads the processor twice for each answer. The server sends all
    of them at once, so nearly always they are here when the first one is.
    """
    while pgconn.is_busy():
        yield Wait.R
        pgconn.consume_input()
    result = pgconn.get_result()
    if result is None or pgconn.get_result() is not None:
        message = "the server gave another number of answers than was asked for"
        raise psycopg.InterfaceError(message)
    return result


def _never_came_to_commit(answer: Answer, result: PGresult) -> bool:
    """Tell whether an error says that the server ended the session before it came to COMMIT.

    Only its own word counts. A pooler that lost the server, and libpq, put their errors into the place of whatever answer they
    wait for, and COMMIT may be done by then.
    """
    return answer.sql != COMMIT and result.error_field(DiagnosticField.SQLSTATE) in SESSION_ENDED


def _error_of(answer: Answer, result: PGresult) -> Exception:
    error = errors.error_from_result(result)
    if answer.otherwise is None or result.error_field(DiagnosticField.SQLSTATE) != DIVISION_BY_ZERO:
        return error
    answer.otherwise.__cause__ = error
    return answer.otherwise


@dataclass
class Commit:
    """Whether the end of a transaction was sent, so that it may have happened although nobody heard of it."""

    sent: bool = False


class _Here(threading.local):
    """What belongs to this thread, as its connection does."""

    line: Line | None = None
    together = False


_here = _Here()


def execute(sql: str, parameters: Parameters, *, otherwise: Exception | None = None) -> Answer:
    """Run one hand-written statement on this thread's connection. See Note [Together].

    Every text is prepared once for each connection, so it is a constant, and what varies is a parameter. Parameters travel
    as text, and the server takes their types from the statement: where that leaves a choice, the statement has a cast.

    :param otherwise: what is raised where the statement divides by the number of rows it found, and that is zero.
    """
    line = _line()
    run: Callable[..., Answer] = line.run
    for wrapper in reversed(line.django.execute_wrappers):
        if wrapper is not _flush_first:
            run = functools.partial(wrapper, run)
    return run(sql, parameters, False, {"connection": line.django, "cursor": None, "otherwise": otherwise})


@contextmanager
def together(*, commit: bool = False) -> Iterator[Commit]:
    """Let the statements of this block travel together. See Note [Together].

    A block inside another one is part of it. An error shows when an answer is asked for, at the end of the outermost
    block at the latest.

    :param commit: whether the block is the whole of its transaction, so that COMMIT may travel with its last statements.
    :returns: what can be known of the end of the transaction, also after an error.
    """
    end = Commit()
    if _here.together:
        yield end
        return
    django = _line().django
    _here.together = True
    try:
        with django.execute_wrapper(_flush_first):
            yield end
        # Inside another transaction, as in a test, ours is a savepoint.
        whole = django.in_atomic_block and not django.savepoint_ids and not django.needs_rollback
        end.sent = True  # With the last statements, or by Django when this block is left.
        _line().flush(commit=end if commit and whole else None)
    finally:
        _here.together = False
        if _here.line:
            _here.line.drop()


def _flush_first(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Mapping[str, Any]) -> Any:  # noqa: FBT001 (as Django calls it)
    """Keep the order: what was noted down before a statement of Django's own goes before it."""
    _line().flush()
    return execute(sql, parameters, many, context)


def _line() -> Line:
    line = _here.line
    if line is not None and line.raw is line.django.connection:
        return line
    django = connections[DEFAULT_DB_ALIAS]
    if django.connection is None:
        django.ensure_connection()
    if line is None or line.raw is not django.connection:
        line = _here.line = Line(django)
    return line


def _array(values: list[Any]) -> str:
    """Write a list as the server reads one. psycopg looks at each element's type first, which nobody here needs."""
    return "{" + ",".join(["NULL" if value is None else _quoted(str(value)) for value in values]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@functools.cache
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...] | None, bytes]:
    """Turn a statement's placeholders into the server's: the text, the parameters' names in order, a name for it.

    :returns: no names where the parameters come in order by themselves.
    """
    found = PLACEHOLDER.findall(sql)
    names = tuple(dict.fromkeys(name for name in found if name))
    places = iter(range(1, len(found) + 1))
    numbered = PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1 if match[1] else next(places)}", sql)
    return numbered.encode(), names or None, b"baskets_" + hashlib.sha256(sql.encode()).hexdigest()[:20].encode()
