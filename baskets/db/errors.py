"""Maps the SQLSTATE of a database error, or its absence, to what the service does about it."""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import InterfaceError, OperationalError, connection
from prometheus_client import Counter

from baskets.error_summary import sqlstate_of

T = TypeVar("T")


class Fault(Enum):
    """What the service does about a database error."""

    RETRY = auto()  # Run the whole transaction again at once.
    BUSY = auto()  # A time-out for a lock or a statement expired: the caller may try again later.
    UNAVAILABLE = auto()  # The database cannot be reached, or cannot write.
    INTERNAL = auto()  # A bug: a retry fails again.


RETRY = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "26000",  # invalid_sql_statement_name: a prepared statement is gone, because a pooler has reset the session
}
BUSY = {
    "55P03",  # lock_not_available: lock_timeout
    "57014",  # query_canceled: statement_timeout
}
UNAVAILABLE = {
    "25006",  # read_only_sql_transaction
    "42501",  # insufficient_privilege: a right was revoked, or the server may not open one of its files
}
# Connection exceptions, insufficient resources (disk full, too many connections), operator intervention (shutdown,
# crash recovery), invalid authorization (the database's password is being changed), system errors.
UNAVAILABLE_CLASSES = ("08", "53", "57P", "28", "58")
# The server has ended the session: admin_shutdown, idle_in_transaction_session_timeout, transaction_timeout. Its work is rolled
# back.
SESSION_ENDED = {"57P01", "25P03", "25P04"}
# `baskets.api.protocol.metrics` adds it to its registry.
RETRIES = Counter(
    "baskets_database_retries",
    "Transactions and reads that were run again after an error of the database; `none`: the server sent no SQLSTATE.",
    ("sqlstate",),
    registry=None,
)


def fault_of(error: BaseException) -> Fault:
    """Return what the service does about a database error."""
    state = sqlstate_of(error)
    if state is None:
        # No SQLSTATE: the server was not reached, or the connection was lost before it could answer.
        lost = isinstance(error.__cause__ or error, psycopg.OperationalError | psycopg.InterfaceError)
        return Fault.UNAVAILABLE if lost or isinstance(error, InterfaceError) else Fault.INTERNAL
    if state in RETRY or is_stale_plan(error):
        return Fault.RETRY
    if state in BUSY:
        return Fault.BUSY
    if state in UNAVAILABLE | SESSION_ENDED or state.startswith(UNAVAILABLE_CLASSES):
        return Fault.UNAVAILABLE
    return Fault.INTERNAL


def is_stale_plan(error: BaseException) -> bool:
    """Return whether a prepared statement is gone or its plan is outdated, so that its connection must be closed.

    `0A000` (feature_not_supported) has two meanings: "cached plan must not change result type", after a change of the schema, is
    stale; a statement that the server does not support is a bug. The source function tells them apart in every language.
    """
    state = sqlstate_of(error)
    if state != "0A000":
        return state == "26000"
    source: BaseException | None = error
    while source is not None and not isinstance(source, psycopg.Error):
        source = source.__cause__
    return source is not None and source.diag.source_function == "RevalidateCachedQuery"


def constraint_of(error: BaseException) -> str | None:
    """Return the name of the constraint that a write violated, or None."""
    source = error.__cause__ or error
    return source.diag.constraint_name if isinstance(source, psycopg.Error) else None


def detail_of(error: BaseException) -> str | None:
    """Return the detail that the server sent with an error, or None."""
    source = error.__cause__ or error
    return source.diag.message_detail if isinstance(source, psycopg.Error) else None


def count_retry(error: BaseException) -> None:
    """Count a transaction or a read that is run again because of this error."""
    RETRIES.labels(sqlstate_of(error) or "none").inc()


def read_with_reconnect(operation: Callable[[], T]) -> T:
    """Run a read outside of a transaction, once more on a new connection where the persistent connection is broken or stale.

    A health check before each call would find that out, too, but costs a round trip.

    :raises django.db.Error: the second try has failed, or the error is another one.
    """
    try:
        return operation()
    except DjangoDatabaseError as error:
        if connection.in_atomic_block or not (is_stale_plan(error) or connection_lost()):
            raise
        count_retry(error)
        connection.close()
        return operation()


class OutcomeUnknown(OperationalError):
    """The connection was lost after COMMIT was sent: the transaction is committed, or will be, or was rolled back."""


class NotOnStandby(psycopg.OperationalError):
    """A transaction was committed, but its synchronous standby may not have it."""


def is_outcome_visible(error: BaseException) -> bool:
    """Return whether the outcome is unknown, and another connection is open on which a repeat sees whether COMMIT was executed."""
    is_unknown = isinstance(error, OutcomeUnknown) and not isinstance(error.__cause__, NotOnStandby)
    return is_unknown and connection.connection is not None


def connection_lost() -> bool:
    """Return whether this thread's connection was open and is broken."""
    return connection.connection is not None and connection.connection.closed
