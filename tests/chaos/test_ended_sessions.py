"""Statements that somebody cancels, and sessions that the server ends by a limit: what the caller sees, and what is left."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection

from baskets.db.pipeline import execute
from baskets.db.transactions import TRIES
from baskets.domain.baskets import store
from tests.chaos.db_inspection import BUSY, DONE, UNAVAILABLE, backend_pid, event_kinds, outcome, waits_for_lock
from tests.chaos.harness import eventually
from tests.domain.scenarios import User

pytestmark = pytest.mark.django_db(transaction=True)

Client = psycopg.Connection[Any]
LOCK = "SELECT FROM baskets_basket FOR UPDATE"


def limits_in_a_transaction() -> list[str]:
    """What ends a session that stays in its transaction: one waiting for its program, and, from 17 on, any."""
    version: int = connection.connection.info.server_version
    return ["idle_in_transaction_session_timeout", *(["transaction_timeout"] if version >= 170_000 else [])]


def test_a_statement_that_an_administrator_cancels_is_told_to_come_back(
    shopper: User, second_connection: Client, finish: Callable[[], Any]
) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    pid = backend_pid()
    second_connection.execute(LOCK)

    def cancel() -> None:
        assert eventually(waits_for_lock(second_connection, pid), 10)
        second_connection.execute("SELECT pg_cancel_backend(%s)", [pid])

    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(cancel)
        assert outcome(finish()) == BUSY
        cancelled.result(10)
    second_connection.rollback()
    assert (shopper.lists(), event_kinds()) == before
    assert (outcome(finish()), backend_pid()) == (DONE, pid)


def test_a_statement_that_takes_too_long_is_told_to_come_back(shopper: User, second_connection: Client, finish: Callable[[], Any]) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    second_connection.execute(LOCK)
    execute("SET statement_timeout = '200ms'", [])
    started = time.monotonic()
    assert outcome(finish()) == BUSY
    assert time.monotonic() - started < 2  # It was this limit, and not that of locks.
    second_connection.rollback()
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE


def test_a_session_that_is_ended_for_its_silence_is_replaced(
    shopper: User, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program falls silent in the middle, as one does whose process is frozen. What it has not told to commit is done again."""
    for limit in limits_in_a_transaction():
        shopper.start()
        execute(f"SET {limit} = '100ms'", [])
        silences: list[int] = []
        with monkeypatch.context() as silent:
            silent.setattr("baskets.domain.checkout.sessions.write_lists", falling_silent(silences, times=1))
            assert outcome(finish()) == DONE
        assert len(set(silences)) == 2, limit
    assert event_kinds().count("checkout_aborted") == len(limits_in_a_transaction())


def test_a_session_that_is_ended_for_its_silence_each_time_is_told(
    shopper: User, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    for limit in limits_in_a_transaction():
        silences: list[int] = []
        with monkeypatch.context() as silent:
            silent.setattr("baskets.domain.checkout.sessions.write_lists", falling_silent(silences, times=TRIES, limit=limit))
            assert outcome(finish()) == UNAVAILABLE
        assert len(set(silences)) == TRIES, limit
        assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE


def falling_silent(silences: list[int], *, times: int, limit: str = "") -> Callable[..., Any]:
    """Write the lists after a silence that is longer than the session's limit, which is set here for the new session as well."""
    write_lists = store.write_lists

    def silent(**arguments: Any) -> Any:
        silences.append(backend_pid())
        if limit:
            execute(f"SET {limit} = '100ms'", []).fetchall()
        if len(silences) <= times:
            time.sleep(0.4)
        return write_lists(**arguments)

    return silent


def test_a_session_that_is_ended_between_two_calls_is_replaced(shopper: User, finish: Callable[[], Any]) -> None:
    shopper.start()
    for call in (finish, lambda: shopper.finish(ordered=False)):
        before = backend_pid()
        execute("SET idle_session_timeout = '50ms'", [])
        time.sleep(0.3)
        call()
        assert backend_pid() != before
    assert event_kinds() == ["item_placed", "checkout_started", "checkout_aborted"]
