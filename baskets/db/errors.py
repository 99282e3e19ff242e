"""What a database error means: the one place that maps an SQLSTATE, or its absence, to what can be done about it."""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import InterfaceError, connection

T = TypeVar("T")


class Fault(Enum):
    """What can be done about a database error."""

    AGAIN = auto()  # The whole transaction may be run again at once.
    BUSY = auto()  # A wait ran out; the caller may try again later.
    UNAVAILABLE = auto()  # The database cannot be reached, or cannot write.
    BUG = auto()  # Nothing a repeat would mend.


AGAIN = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "0A000",  # a cached plan must not change its result type: the schema has changed under a prepared statement
    "26000",  # a prepared statement is gone: somebody between us and the server has cleared the session
}
BUSY = {
    "55P03",  # lock_not_available: lock_timeout
    "57014",  # query_canceled: statement_timeout
}
UNAVAILABLE = {
    "25006",  # read_only_sql_transaction
    "42501",  # insufficient_privilege: a right of ours was taken away, or the server may not open one of its own files
}
# Connection exceptions, insufficient resources (disk full, too many connections), operator intervention (shutdown,
# crash recovery), invalid authorization (the database's password is being changed), system errors.
UNAVAILABLE_CLASSES = ("08", "53", "57P", "28", "58")
# The server ends a session that waits too long inside a transaction; its locks are gone, its work rolled back.
SESSION_ENDED = {"25P03", "25P04"}


def sqlstate_of(error: BaseException) -> str | None:
    """Find the SQLSTATE of an error of Django or psycopg, or None where the server never gave one."""
    source: BaseException | None = error
    while source is not None:
        if isinstance(source, psycopg.Error):
            return source.sqlstate
        source = source.__cause__
    return None


def fault_of(error: BaseException) -> Fault:
    """Tell what can be done about a database error."""
    state = sqlstate_of(error)
    if state is None:
        # No SQLSTATE: the server was not reached, or the connection was lost before it could answer.
        lost = isinstance(error.__cause__ or error, psycopg.OperationalError | psycopg.InterfaceError)
        return Fault.UNAVAILABLE if lost or isinstance(error, InterfaceError) else Fault.BUG
    if state in AGAIN:
        return Fault.AGAIN
    if state in BUSY:
        return Fault.BUSY
    if state in UNAVAILABLE | SESSION_ENDED or state.startswith(UNAVAILABLE_CLASSES):
        return Fault.UNAVAILABLE
    return Fault.BUG


def plans_outdated(error: BaseException) -> bool:
    """Tell whether a prepared statement is gone or no longer fits the schema, so that its connection must go."""
    return sqlstate_of(error) in ("0A000", "26000")


def constraint_of(error: BaseException) -> str | None:
    """Name the constraint that refused a write, or None."""
    source = error.__cause__ or error
    return source.diag.constraint_name if isinstance(source, psycopg.Error) else None


def reading(operation: Callable[[], T]) -> T:
    """Run a read outside of any transaction, once more where the kept connection turns out to be dead.

    The first statement of a call finds out what a health check would have asked, without the round trip of one.
    """
    try:
        return operation()
    except DjangoDatabaseError as error:
        if connection.in_atomic_block or not (plans_outdated(error) or connection_lost()):
            raise
        connection.close()
        return operation()


def connection_lost() -> bool:
    """Tell whether this thread's connection was open and has been lost."""
    return connection.connection is not None and connection.connection.closed
