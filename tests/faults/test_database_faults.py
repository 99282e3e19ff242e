"""Every kind of database error is provoked on a real server, and means what `baskets.database` says it means."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.test import Client

from baskets.database import Fault, constraint_of, execute, fault_of, sqlstate_of
from baskets.domain import changes, expiry
from baskets.domain.partners import issue_api_key
from baskets.domain.retries import TRIES, in_transaction
from baskets.models import Basket, Partner
from baskets.models.contents import Owner
from tests.domain.worlds import User
from tests.factories import PartnerFactory, ProductFactory
from tests.races.barrier import Frozen, together

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def anna() -> User:
    """A user with a song in the cart."""
    ProductFactory(product_id="song")
    user = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    user.place("song")
    return user


@pytest.fixture
def another() -> Iterator[psycopg.Connection[Any]]:
    """A second client of the same database, beside the service's connection."""
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters) as client:
        yield client


def finish_over_http(anna: User) -> Any:
    """Report an abort the way a partner does."""
    partner = Partner.objects.get()
    _, key = issue_api_key(partner_name=partner.name, kind="server", label="", created_by="tests")
    return lambda: Client(raise_request_exception=False).post(
        f"/baskets/users/{anna.owner.user_id}/checkout/sessions/finish-active",
        {"ordered": False},
        content_type="application/json",
        headers={"X-API-Key": key, "Host": "127.0.0.1"},
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lock_timeout", "3s"),
        ("statement_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("client_connection_check_interval", "2s"),
        ("default_transaction_isolation", "read committed"),
        ("TimeZone", "UTC"),
    ],
)
def test_every_connection_has_its_limits_by_word_of_the_server(setting: str, value: str) -> None:
    shown = execute(f"SHOW {setting}", []).fetchone()[0]
    assert shown == value


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
        ("DO $$ BEGIN RAISE serialization_failure; END $$", "40001", Fault.AGAIN),
        ("DO $$ BEGIN RAISE disk_full; END $$", "53100", Fault.UNAVAILABLE),
        ("DO $$ BEGIN RAISE too_many_connections; END $$", "53300", Fault.UNAVAILABLE),
        ("DO $$ BEGIN RAISE feature_not_supported; END $$", "0A000", Fault.AGAIN),
        ("SELECT 1 / 0", "22012", Fault.BUG),
        ("SELECT nonsense", "42703", Fault.BUG),
    ],
)
def test_an_error_with_a_state_means_what_its_state_says(sql: str, state: str, fault: Fault) -> None:
    error = fails(lambda: execute(sql, None))
    assert (sqlstate_of(error), fault_of(error)) == (state, fault)


def test_a_refused_connection_has_no_state_and_means_unavailable() -> None:
    refused = psycopg.OperationalError("connection refused")
    error = OperationalError()
    error.__cause__ = refused
    assert (sqlstate_of(error), fault_of(error)) == (None, Fault.UNAVAILABLE)


def test_a_constraint_is_known_by_its_name(anna: User) -> None:
    with pytest.raises(IntegrityError) as failure, transaction.atomic():
        Basket.objects.filter(pk=anna.owner.basket_id).update(revision=-1)
    assert (constraint_of(failure.value), fault_of(failure.value)) == ("revision_is_not_negative", Fault.BUG)


def test_a_wait_that_runs_out_is_answered_busy_and_changes_nothing(anna: User, another: psycopg.Connection[Any]) -> None:
    anna.start()
    before = anna.lists()
    finish = finish_over_http(anna)
    another.execute("SELECT FROM baskets_basket FOR UPDATE")
    answer = finish()
    another.rollback()
    assert (answer.status_code, answer.json()["error"]["details"]["reason"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert anna.lists() == before
    assert finish().status_code == 200


def test_a_killed_connection_is_replaced_before_anything_is_lost(anna: User, another: psycopg.Connection[Any]) -> None:
    anna.start()
    finish = finish_over_http(anna)
    another.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    another.commit()
    assert finish().status_code == 200
    assert anna.lists()["cart"] == [("song", 1)]


def test_a_connection_killed_inside_the_transaction_leaves_nothing_of_it(
    anna: User, another: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    anna.start()
    before = anna.lists()
    finish = finish_over_http(anna)
    record = changes.record

    def killed_before_its_event(**arguments: Any) -> None:
        another.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        another.commit()
        record(**arguments)

    with monkeypatch.context() as killing:
        killing.setattr("baskets.domain.checkout.record", killed_before_its_event)
        answer = finish()
    assert (answer.status_code, answer.json()["error"]["details"]["reason"]) == (503, "database_unavailable")
    assert anna.lists() == before
    assert finish().status_code == 200


def test_a_database_that_turned_read_only_is_answered_unavailable(anna: User, another: psycopg.Connection[Any]) -> None:
    anna.start()
    finish = finish_over_http(anna)
    execute("SET default_transaction_read_only = on", [])
    answer = finish()
    execute("SET default_transaction_read_only = off", [])
    assert (answer.status_code, answer.json()["error"]["details"]["reason"]) == (503, "database_unavailable")
    assert finish().status_code == 200


def test_a_deadlock_is_run_again_and_reaches_nobody(anna: User) -> None:
    ben = anna.beside("ben")
    ben.place("song")
    both_hold_one = threading.Barrier(2)

    def locking(first: User, second: User) -> Callable[[], int]:
        tries = []

        def step() -> int:
            tries.append(None)
            changes.lock(first.owner.basket_id)
            if len(tries) == 1:
                both_hold_one.wait(10)
            changes.lock(second.owner.basket_id)
            return len(tries)

        return lambda: in_transaction(step)

    assert sorted(together([locking(anna, ben), locking(ben, anna)])) == [1, 2]


def test_what_stays_impossible_is_tried_three_times_and_then_told() -> None:
    tries = []

    def step() -> None:
        tries.append(None)
        execute("DO $$ BEGIN RAISE serialization_failure; END $$", None)

    with pytest.raises(OperationalError):
        in_transaction(step)
    assert len(tries) == TRIES


def test_a_sweep_passes_by_a_basket_in_use(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    anna.start()
    anna.wait(minutes=31)
    frozen = Frozen()
    monkeypatch.setattr("baskets.domain.checkout.record", frozen.at(changes.record))
    finished, batch = frozen.run(lambda: anna.finish(ordered=True), while_frozen=expiry.sweep_sessions)
    assert finished.checkout == ()
    assert (batch.found, batch.expired) == (1, 0)
