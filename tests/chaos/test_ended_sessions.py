"""Statements that are cancelled, and sessions that the server ends by a limit: what the caller sees, and what is stored."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection

from baskets.db.pipeline import execute
from baskets.db.transactions import TRIES
from baskets.domain.baskets import store
from tests import seams
from tests.chaos.db_inspection import BUSY, DONE, UNAVAILABLE, backend_pid, event_kinds, outcome, waits_for_lock
from tests.domain.scenarios import User
from tests.threads import beside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

Client = psycopg.Connection[Any]
LOCK = "SELECT FROM baskets_basket FOR UPDATE"


def limits_in_a_transaction() -> list[str]:
    """Return the settings that end a session in a transaction: while idle, and, from PostgreSQL 17 on, at any time."""
    version: int = connection.connection.info.server_version
    return ["idle_in_transaction_session_timeout", *(["transaction_timeout"] if version >= 170_000 else [])]


def test_cancelled_statement_is_answered_busy(shopper: User, second_connection: Client, finish: Callable[[], Any]) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    pid = backend_pid()
    second_connection.execute(LOCK)

    def cancel() -> None:
        assert eventually(waits_for_lock(second_connection, pid), 10)
        second_connection.execute("SELECT pg_cancel_backend(%s)", [pid])

    with beside(cancel):
        assert outcome(finish()) == BUSY
    second_connection.rollback()
    assert (shopper.lists(), event_kinds()) == before
    assert (outcome(finish()), backend_pid()) == (DONE, pid)


def test_statement_timeout_is_answered_busy(shopper: User, second_connection: Client, finish: Callable[[], Any]) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    second_connection.execute(LOCK)
    execute("SET statement_timeout = '200ms'", [])
    started = time.monotonic()
    assert outcome(finish()) == BUSY
    assert time.monotonic() - started < 2  # The statement timeout, not the lock timeout.
    second_connection.rollback()
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE


def test_session_ended_while_idle_in_transaction_is_replaced(
    shopper: User, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program pauses inside the transaction, as a frozen process does. Without COMMIT, the operation is retried."""
    for limit in limits_in_a_transaction():
        shopper.start()
        execute(f"SET {limit} = '100ms'", [])
        paused_pids: list[int] = []
        with monkeypatch.context() as patched:
            seams.LISTS_OF_AN_END.replace(patched, paused_write_lists(paused_pids, times=1))
            assert outcome(finish()) == DONE
        assert len(set(paused_pids)) == 2, limit
    assert event_kinds().count("checkout_aborted") == len(limits_in_a_transaction())


def test_session_ended_at_each_try_is_answered_unavailable(
    shopper: User, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    for limit in limits_in_a_transaction():
        paused_pids: list[int] = []
        with monkeypatch.context() as patched:
            seams.LISTS_OF_AN_END.replace(patched, paused_write_lists(paused_pids, times=TRIES, limit=limit))
            assert outcome(finish()) == UNAVAILABLE
        assert len(set(paused_pids)) == TRIES, limit
        assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE


def paused_write_lists(paused_pids: list[int], *, times: int, limit: str = "") -> Callable[..., Any]:
    """Return a `write_lists` that pauses longer than the session's limit; `limit` is set for each new session as well."""
    write_lists = store.write_lists

    def write_after_pause(**arguments: Any) -> Any:
        paused_pids.append(backend_pid())
        if limit:
            execute(f"SET {limit} = '100ms'", []).fetchall()
        if len(paused_pids) <= times:
            time.sleep(0.4)
        return write_lists(**arguments)

    return write_after_pause


def test_session_ended_between_two_calls_is_replaced(shopper: User, finish: Callable[[], Any]) -> None:
    shopper.start()
    for call in (finish, lambda: shopper.finish(ordered=False)):
        before = backend_pid()
        execute("SET idle_session_timeout = '50ms'", [])
        time.sleep(0.3)
        call()
        assert backend_pid() != before
    assert event_kinds() == ["item_placed", "checkout_started", "checkout_aborted"]
