"""Runs one unit of work: a domain operation in a transaction, with its retries, its guard, its stored response and its flag.

The only module that may open a transaction, roll it back and open another one for the same call. See Note [Unit of work].

Note [Unit of work]
BEGIN; enqueue the guard; claim the idempotency key; the operation; store the response; verify the guard; COMMIT.
A `RetryTransaction` rolls back, prepares, and starts again from BEGIN. A refusal rolls back; if its order may have been
paid, a second transaction then records the flag for staff. The guard is verified before a refusal or a retry has any effect.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from django.db import DatabaseError, InterfaceError

from baskets.db.errors import Fault, OutcomeUnknown, count_retry, fault_of, is_outcome_visible, read_with_reconnect
from baskets.db.pipeline import pipeline
from baskets.db.transactions import run_in_transaction
from baskets.domain import idempotency
from baskets.domain.checkout import attention, expiry
from baskets.domain.errors import Refusal
from baskets.domain.idempotency import IdempotencyKey, StoredResponse
from baskets.domain.retries import OwnSessionLapsed, RetryTransaction, StockReclaimable, end_reclaiming, unit_of_work

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Guard(Protocol):
    """A condition of the whole unit of work, checked by a statement that shares the first round trip of the operation."""

    @property
    def is_received(self) -> bool:
        """Whether the server has sent the result."""

    def enqueue(self) -> None:
        """Enqueue the statement, unless the guard was verified already."""

    def demand(self) -> None:
        """Enqueue a statement that fails with a `RetryTransaction` where the condition does not hold, unless that was verified already."""

    def verify(self) -> None:
        """Read the result; flush the pipeline if the server has not sent it yet.

        :raises RetryTransaction: the condition does not hold.
        """


def run(operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an operation as a unit of work and return its result, once that is committed.

    Example: `runner.run(lifecycle.delete_basket, owner=owner, actor=actor)`.

    :param operation: may be called several times, and must have no effect outside the database.
    :raises Refusal: the operation refused; everything was rolled back, and the flag for staff was recorded.
    :raises django.db.DatabaseError: a failure that a retry does not cure.
    """
    return run_guarded(partial(operation, *args, **kwargs), guard=None)


def run_guarded(operation: Callable[[], T], *, guard: Guard | None, demands: bool = False) -> T:
    """Run an operation like `run`, together with a guard.

    :param demands: whether the statement of the guard fails where its condition does not hold, so that no result need be read.
    :raises Refusal: the operation refused, and the guard holds.
    """
    with unit_of_work():
        while True:
            try:
                return run_in_transaction(partial(_demanded if demands else _checked, operation, guard))
            except (RetryTransaction, Refusal) as raised:
                outcome = _verified(raised, guard)
            if isinstance(outcome, RetryTransaction):
                _prepare(outcome)
                continue
            if flag := outcome.attention:
                run_in_transaction(partial(attention.record_flag_after_rollback, flag))
            try:
                raise outcome
            finally:
                del outcome  # Its traceback refers to this frame: a cycle, which only the garbage collector frees.


class PendingShortcut(Protocol[R_co]):
    """What an operation has enqueued that takes a shortcut."""

    def result(self) -> R_co | None:
        """Return the result, once it is committed; None if the shortcut does not apply, and nothing was written."""


def run_with_shortcut(shortcut: Callable[[], PendingShortcut[T]], operation: Callable[..., T], *, guard: Guard | None) -> T:
    """Run an operation like `run_guarded`, after a shortcut for the states that it meets most.

    COMMIT is sent with the first statement of the shortcut. If the connection is lost then, its outcome is unknown, and the operation
    runs on a new connection: it must find what the shortcut has done, and then change nothing, as for a caller who repeats the call.

    :param shortcut: enqueues statements, and reads no result.
    :param operation: takes `repeated_since`, the moment before the shortcut by `time.monotonic`, where the outcome of that is unknown.
    :raises Refusal: the operation refused, and the guard holds.
    """
    began = time.monotonic()
    try:
        pending = run_guarded(shortcut, guard=guard, demands=True)
    except OutcomeUnknown as error:
        return _repeat(partial(operation, repeated_since=began), after=error, guard=guard)
    else:
        if (result := pending.result()) is not None:
            return result
    return run_guarded(operation, guard=guard)


def run_once(operation: Callable[[], str], *, key: Callable[[], IdempotencyKey], guard: Guard | None) -> StoredResponse:
    """Run an operation like `run_guarded`, but only once per idempotency key; its result is stored in the same transaction.

    A refusal rolls the claim on the key back with everything else. If the connection is lost during COMMIT, the call is repeated on a new
    connection, as its caller would: it waits for the claim of the lost transaction, and then finds its response or runs.

    :param operation: returns the body of the response.
    :param key: returns the key; called in each attempt, because a guard may change whose basket the call is for.
    :returns: the response of this call, or of the earlier call with this key.
    :raises IdempotencyKeyReused: the key stands for another request.
    :raises Refusal: the operation refused.
    :raises OutcomeUnknown: the connection was lost during COMMIT, and the repeat did not show whether the call is committed.
    """

    def claim_and_run() -> StoredResponse:
        claimed = key()
        stored = idempotency.claim(basket_id=claimed.basket_id, key=claimed.key, fingerprint=claimed.fingerprint)
        if stored is not None:
            return stored
        body = operation()
        idempotency.remember(basket_id=claimed.basket_id, key=claimed.key, status=200, body=body)
        return StoredResponse(status=200, body=body)

    try:
        return run_guarded(claim_and_run, guard=guard)
    except OutcomeUnknown as error:
        return _repeat(claim_and_run, after=error, guard=guard)


def read(query: Callable[[], T], *, guard: Guard | None = None) -> T:
    """Run a query outside of any transaction, together with a guard; retry once on a new connection if the old one is dead."""

    def query_in_pipeline() -> T:
        with pipeline():
            return _checked(query, guard)

    while True:
        try:
            return read_with_reconnect(query_in_pipeline)
        except (RetryTransaction, Refusal) as raised:
            outcome = _verified(raised, guard)
        if isinstance(outcome, RetryTransaction):
            _prepare(outcome)
            continue
        try:
            raise outcome
        finally:
            del outcome  # As above.


def _repeat(operation: Callable[[], T], *, after: OutcomeUnknown, guard: Guard | None) -> T:
    """Repeat a unit of work whose outcome is unknown, if another connection is open.

    :raises OutcomeUnknown: there is no other connection, or the database failed again. What the repeat did is rolled back or unknown, and
        what came before it stays unknown.
    """
    if not is_outcome_visible(after):
        raise after
    count_retry(after)
    try:
        return run_guarded(operation, guard=guard)
    except (DatabaseError, InterfaceError) as error:
        if fault_of(error) is Fault.INTERNAL:
            raise
        raise OutcomeUnknown(*error.args) from error.__cause__ or error


def _prepare(retry: RetryTransaction) -> None:
    """Do what the next try needs, between the two transactions.

    Sessions are expired here, because the rooms that find them lapsed lie below `checkout`.
    """
    match retry:
        case OwnSessionLapsed():
            expiry.expire_session(basket_id=retry.basket_id)
        case StockReclaimable():
            expiry.reclaim_stock(needed=retry.needed)
            end_reclaiming()
        case _:
            retry.prepare()


def _checked(operation: Callable[[], T], guard: Guard | None) -> T:
    """Run an operation between the two halves of its guard."""
    if guard is None:
        return operation()
    guard.enqueue()
    try:
        result = operation()
    except Exception:
        if guard.is_received:
            guard.verify()
        raise
    guard.verify()
    return result


def _demanded(operation: Callable[[], T], guard: Guard | None) -> T:
    """Run an operation behind its guard, which fails the transaction unless it holds."""
    if guard:
        guard.demand()
    return operation()


def _verified(raised: RetryTransaction | Refusal, guard: Guard | None) -> RetryTransaction | Refusal:
    """Verify the guard after the roll-back: a refusal may flag a basket, and a retry may expire sessions.

    An operation that refuses before its first round trip leaves the guard unsent, and its transaction takes no more statements.

    :returns: what was raised; the retry that the guard demands, if it does not hold.
    """
    try:
        if guard:
            guard.verify()
    except RetryTransaction as retry:
        return retry
    return raised
