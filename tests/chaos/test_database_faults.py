"""Provokes each kind of database error on a real server and checks its meaning in `baskets.db.errors`."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction

from baskets.db.errors import Fault, constraint_of, fault_of
from baskets.db.pipeline import execute
from baskets.db.transactions import TRIES, run_in_transaction
from baskets.domain import runner
from baskets.domain.baskets import store, timeline
from baskets.domain.checkout import expiry, sessions
from baskets.error_summary import sqlstate_of
from baskets.models import Basket
from tests import seams
from tests.concurrency.barrier import PausedCall, run_concurrently
from tests.conftest import APP
from tests.domain.scenarios import User

pytestmark = pytest.mark.django_db(transaction=True)


def fails(step: Callable[[], object]) -> DatabaseError:
    """Run a step that must fail in the database."""
    with pytest.raises(DatabaseError) as failure, transaction.atomic():
        step()
    return failure.value


@pytest.mark.parametrize(
    ("sql", "state", "fault"),
    [
        ("SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(5)", "57014", Fault.BUSY),
        ("SET TRANSACTION READ ONLY; UPDATE baskets_basket SET revision = revision", "25006", Fault.UNAVAILABLE),
        ("DO $$ BEGIN RAISE serialization_failure; END $$", "40001", Fault.RETRY),
        ("DO $$ BEGIN RAISE disk_full; END $$", "53100", Fault.UNAVAILABLE),
        ("DO $$ BEGIN RAISE too_many_connections; END $$", "53300", Fault.UNAVAILABLE),
        ("DO $$ BEGIN RAISE feature_not_supported; END $$", "0A000", Fault.INTERNAL),
        ("SELECT 1 / 0", "22012", Fault.INTERNAL),
        ("SELECT nonsense", "42703", Fault.INTERNAL),
    ],
)
def test_sqlstate_decides_the_fault(sql: str, state: str, fault: Fault) -> None:
    error = fails(lambda: connection.cursor().execute(sql))
    assert (sqlstate_of(error), fault_of(error)) == (state, fault)


def test_refused_connection_has_no_sqlstate_and_means_unavailable() -> None:
    refused = psycopg.OperationalError("connection refused")
    error = OperationalError()
    error.__cause__ = refused
    assert (sqlstate_of(error), fault_of(error)) == (None, Fault.UNAVAILABLE)


def test_violated_constraint_is_named(shopper: User) -> None:
    with pytest.raises(IntegrityError) as failure, transaction.atomic():
        Basket.objects.filter(pk=shopper.owner.basket_id).update(revision=-1)
    assert (constraint_of(failure.value), fault_of(failure.value)) == ("revision_is_not_negative", Fault.INTERNAL)


def test_lock_timeout_is_answered_busy_and_changes_nothing(
    shopper: User, second_connection: psycopg.Connection[Any], finish: Callable[[], Any]
) -> None:
    shopper.start()
    before = shopper.lists()
    second_connection.execute("SELECT FROM baskets_basket FOR UPDATE")
    answer = finish()
    second_connection.rollback()
    assert (answer.status_code, answer.json()["error"]["details"]["reason"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert shopper.lists() == before
    assert finish().status_code == 200


def test_read_only_database_is_answered_unavailable(shopper: User, finish: Callable[[], Any]) -> None:
    shopper.start()
    execute("SET default_transaction_read_only = on", [])
    answer = finish()
    execute("SET default_transaction_read_only = off", [])
    assert (answer.status_code, answer.json()["error"]["details"]["reason"]) == (503, "database_unavailable")
    assert finish().status_code == 200


def test_deadlock_is_retried_and_stays_invisible(shopper: User) -> None:
    other_shopper = shopper.beside("ben")
    other_shopper.place("song")
    both_hold_one = threading.Barrier(2)

    def locking(first: User, second: User) -> Callable[[], int]:
        tries = []

        def step() -> int:
            tries.append(None)
            store.lock_basket(first.owner.basket_id)
            if len(tries) == 1:
                both_hold_one.wait(60)
            store.lock_basket(second.owner.basket_id)
            return len(tries)

        return lambda: run_in_transaction(step)

    assert sorted(run_concurrently([locking(shopper, other_shopper), locking(other_shopper, shopper)])) == [1, 2]


def test_persistent_serialization_failure_is_raised_after_three_tries() -> None:
    tries = []

    def step() -> None:
        tries.append(None)
        execute("DO $$ BEGIN RAISE serialization_failure; END $$", [])

    with pytest.raises(OperationalError):
        run_in_transaction(step)
    assert len(tries) == TRIES


def test_sweep_skips_a_locked_basket(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    shopper.start()
    shopper.wait(minutes=31)
    paused = PausedCall()
    seams.EVENT_OF_AN_ORDER.replace(monkeypatch, paused.at(timeline.record_event))
    finish = partial(sessions.finish_session, owner=shopper.owner, ordered=True, order_no=None, actor=APP)  # The direct order has no pause.
    finished, batch = paused.run(lambda: runner.run(finish), while_paused=expiry.sweep_sessions)
    assert finished.checkout == ()
    assert (batch.found, batch.expired) == (1, 0)
