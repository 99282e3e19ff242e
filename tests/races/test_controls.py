"""The controls: with a lock taken away the race must go wrong, or the races beside this file prove nothing."""

import re
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from baskets.domain import changes, checkout, stock
from baskets.domain.offers import Offer
from baskets.models import Stock, StockReservation
from tests.domain.worlds import User
from tests.races.barrier import WAIT_SECONDS, Frozen, together


def test_without_the_stock_lock_the_last_pieces_are_sold_twice(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, decide, write: 4 buyers of 10 get 16 pieces."""
    everybody_has_read = threading.Barrier(4)

    def naive_take(wanted: Mapping[str, int]) -> set[str]:
        ((product_id, pieces),) = wanted.items()
        available = Stock.objects.get(pk=product_id).available
        everybody_has_read.wait(WAIT_SECONDS)
        if available < pieces:
            return {product_id}
        Stock.objects.filter(pk=product_id).update(available=available - pieces)
        return set()

    buyers = [anna.beside(f"buyer-{n}") for n in range(4)]
    for buyer in buyers:
        buyer.place("shirt", 4)
    with monkeypatch.context() as without_lock:
        without_lock.setattr(stock, "take", naive_take)
        together([buyer.start for buyer in buyers])
    held = StockReservation.objects.filter(product_id="shirt", status="HELD")
    assert held.aggregate(n=Sum("pieces"))["n"] == 16
    Stock.objects.filter(pk="shirt").update(available=0, shortfall=6)  # The account is put right for the fixture.


def test_without_the_basket_lock_two_starts_meet_and_the_constraint_refuses(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence: at most one active session, by the database."""
    anna.place("shirt", 1)
    both_have_read = threading.Barrier(2)

    real_offers = checkout.offers_in

    def meeting_offers(rows: Iterable[tuple[Any, ...]]) -> dict[str, Offer]:
        both_have_read.wait(WAIT_SECONDS)
        return real_offers(rows)

    with monkeypatch.context() as without_lock:
        without_lock.setattr(changes, "LOCK", "SELECT 1 FROM baskets_basket WHERE id = %s")
        without_lock.setattr(checkout, "offers_in", meeting_offers)
        outcomes = together([anna.start, anna.start])
    refused = [outcome for outcome in outcomes if isinstance(outcome, IntegrityError)]
    assert len(refused) == 1
    assert "one_active_checkout_per_basket" in str(refused[0])


def test_a_frozen_buyer_makes_the_next_one_wait_and_look_again(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second buyer decides by the stock as it is after the wait, not as it was when it asked."""
    frozen = Frozen()
    monkeypatch.setattr(stock, "take", frozen.at(stock.take))
    ben = anna.beside("ben")
    for user in (anna, ben):
        user.place("shirt", 7)
        user.place("cap", 1)
    first, second = frozen.run(anna.start, while_frozen=ben.start)
    assert first.contents.checkout[0].stocked == 7
    assert [line.stocked for line in second.contents.checkout] == [-4, 1]


def test_locks_come_before_writes_and_in_order(anna: User) -> None:
    """The shape of a start: basket lock, clock, everything that can wait, then stock rows by primary key."""
    anna.place("shirt", 1)
    anna.place("cap", 1)
    with CaptureQueriesContext(connection) as captured:
        anna.start()
    statements = [query["sql"].strip() for query in captured.captured_queries]
    assert [re.match(r"BEGIN|COMMIT|WITH \w+|[A-Z]+( [A-Z]+)*( baskets_\w+)?", sql)[0] for sql in statements] == [
        "BEGIN",
        "SELECT",
        "SELECT",
        "SELECT",
        "SELECT",
        "WITH gone",
        "WITH session",
        "SELECT",
        "UPDATE baskets_stock",
        "INSERT INTO baskets_event",
        "COMMIT",
    ]
    lock, clock, stock_lock = statements[1], statements[2], statements[7]
    assert "FROM baskets_basket" in lock
    assert lock.endswith("FOR NO KEY UPDATE")
    assert "statement_timestamp()" in clock
    assert stock_lock.endswith("ORDER BY s.product_id\nFOR NO KEY UPDATE OF s")


def test_a_frozen_holder_does_not_keep_a_start_from_other_lapsed_stock(anna: User) -> None:
    """A reclaim goes on to the next basket when one is locked for longer than anybody waits."""
    for name, minutes in (("ben", 33), ("cleo", 32)):
        user = anna.beside(name)
        user.place("shirt", 5)
        user.start()
        user.wait(minutes=minutes)
    ben, dora = anna.beside("ben"), anna.beside("dora")
    dora.place("shirt", 5)
    with ThreadPoolExecutor(1) as pool:

        def hold_the_lock(locked: threading.Event, go: threading.Event) -> None:
            try:
                with transaction.atomic():
                    changes.lock(ben.owner.basket_id)
                    locked.set()
                    assert go.wait(WAIT_SECONDS)
            finally:
                connection.close()

        locked, go = threading.Event(), threading.Event()
        frozen = pool.submit(hold_the_lock, locked, go)
        assert locked.wait(WAIT_SECONDS)
        dora.start()
        go.set()
        frozen.result(WAIT_SECONDS)
    assert dora.lists()["checkout"] == [("shirt", 5, 5)]
    assert ben.lists()["checkout"] == [("shirt", 5, 5)]


def test_pieces_that_come_free_while_they_are_asked_for_are_found(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told "sold out" for pieces that had lapsed and were given back in that instant."""
    anna.place("shirt", 8)
    anna.start()
    anna.wait(minutes=31)
    ben = anna.beside("ben")
    ben.place("shirt", 5)
    frozen = Frozen()
    monkeypatch.setattr(stock, "take", frozen.at(stock.take))
    started, _ = frozen.run(ben.start, while_frozen=lambda: anna.finish(False))
    assert started.contents.checkout[0].stocked == 5
