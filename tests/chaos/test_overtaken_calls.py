"""Serialization failures (40001) under stricter isolation: the whole transaction is retried, at most three tries in total."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as Moment
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from baskets.db import transactions
from baskets.db.pipeline import execute
from baskets.models import Basket
from tests.chaos.db_inspection import BUSY, DONE, backend_pid, event_kinds, outcome, waits_for_lock
from tests.domain.scenarios import User
from tests.second_client import holding
from tests.threads import beside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

Client = psycopg.Connection[Any]
# No call writes this column.
OVERTAKE = "UPDATE baskets_basket SET created_at = created_at - interval '1 second'"


@contextmanager
def overtaken(client: Client, *, times: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Let another client change the basket `times` times, each time while the service waits for its lock.

    Yields the pauses between the tries, in seconds. Each pause lasts until the other client holds the row again, so that the
    order does not depend on timing.
    """
    pid = backend_pid()
    held, paused = Moment(), Moment()
    pauses: list[float] = []

    def overtake() -> None:
        for left in reversed(range(times)):
            client.execute(OVERTAKE)
            held.set()
            assert eventually(waits_for_lock(client, pid), 10)
            if left:
                held.clear()
            client.commit()
            if left:
                assert paused.wait(60)
                paused.clear()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        paused.set()
        assert held.wait(60)

    with beside(overtake), monkeypatch.context() as pausing:
        pausing.setattr(transactions, "time", SimpleNamespace(sleep=pause))
        assert held.wait(60)
        yield pauses


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("times", [1, 2])
def test_serialization_failure_retries_the_whole_call(
    level: str, times: int, shopper: User, second_connection: Client, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper.start()
    created = Basket.objects.get().created_at
    execute(f"SET default_transaction_isolation = '{level}'", [])
    with overtaken(second_connection, times=times, monkeypatch=monkeypatch) as pauses:
        assert outcome(finish()) == DONE
    assert len(pauses) == times
    assert event_kinds() == ["item_placed", "checkout_started", "checkout_aborted"]
    assert (created - Basket.objects.get().created_at).total_seconds() == times


def test_three_serialization_failures_are_answered_busy(
    shopper: User, second_connection: Client, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper.start()
    before = shopper.lists()
    execute("SET default_transaction_isolation = 'repeatable read'", [])
    with overtaken(second_connection, times=transactions.TRIES, monkeypatch=monkeypatch):
        assert outcome(finish()) == BUSY
    assert (shopper.lists(), event_kinds()) == (before, ["item_placed", "checkout_started"])
    assert outcome(finish()) == DONE


def test_write_skew_retries_the_whole_call(
    shopper: User, second_connection: Client, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is written by both, but each has read a row that the other writes: a write skew."""
    pauses: list[float] = []
    monkeypatch.setattr(transactions, "time", SimpleNamespace(sleep=pauses.append))
    execute("SET default_transaction_isolation = 'serializable'", [])
    pid = backend_pid()
    with holding("SELECT FROM baskets_basket FOR UPDATE") as holder:

        def cross() -> None:
            assert eventually(waits_for_lock(holder, pid), 10)
            second_connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            second_connection.execute("SELECT * FROM baskets_basket")
            second_connection.execute("UPDATE baskets_product SET name = 'another name'")
            second_connection.commit()
            holder.rollback()

        with beside(cross):
            answer = call("POST", "/baskets/users/anna/products/song", {"count": 7})
    assert (outcome(answer), len(pauses)) == (DONE, 1)
    assert shopper.lists()["cart"] == [("song", 7)]
    assert event_kinds() == ["item_placed", "item_placed"]
