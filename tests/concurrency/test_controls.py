"""The controls: with a lock taken away the race must go wrong, or the races beside this file prove nothing."""

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from baskets.db.statements import Statement
from baskets.domain import runner
from baskets.domain.baskets import store
from baskets.domain.checkout import direct_starts, reserving, sessions
from baskets.domain.checkout.pricing import CatalogEntry
from baskets.domain.errors import OutOfStock
from baskets.domain.stock import counters
from baskets.models import Event, Stock, StockReservation
from tests.concurrency.barrier import WAIT_SECONDS, PausedCall, run_concurrently, waiting_for_locks
from tests.conftest import APP
from tests.domain.scenarios import User, available
from tests.second_client import holding, holding_basket
from tests.waiting import eventually


@pytest.fixture
def pessimistic_start(monkeypatch: pytest.MonkeyPatch, start_in_two_trips: None) -> None:
    """Starts that ask what there is while they take it, as they do where they have seen that there is too little."""
    monkeypatch.setattr(reserving, "appear_in_stock", lambda *_, **__: False)


@pytest.mark.usefixtures("pessimistic_start")
def test_control_without_stock_lock_oversells(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
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

    buyers = [shopper.beside(f"buyer-{n}") for n in range(4)]
    for buyer in buyers:
        buyer.place("shirt", 4)
    with monkeypatch.context() as without_lock:
        without_lock.setattr(counters, "reserve", naive_take)
        run_concurrently([buyer.start for buyer in buyers])
    held = StockReservation.objects.filter(product_id="shirt", status="HELD")
    assert held.aggregate(n=Sum("pieces"))["n"] == 16
    Stock.objects.filter(pk="shirt").update(available=0, shortfall=6)  # The account is put right for the fixture.


@pytest.mark.usefixtures("start_in_two_trips")
def test_control_without_second_stock_check_oversells(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 buyers have read 10 pieces and reserve 16 if the reservation does not check again; the constraint would refuse the third."""
    everybody_has_read = threading.Barrier(4)

    def seem_to_be_there(*seen: Any, percent: int) -> bool:
        everybody_has_read.wait(WAIT_SECONDS)
        return really(*seen, percent=percent)

    really = reserving.appear_in_stock
    buyers = [shopper.beside(f"buyer-{n}") for n in range(4)]
    for buyer in buyers:
        buyer.place("shirt", 4)
    with monkeypatch.context() as without_look:
        without_look.setattr(reserving, "appear_in_stock", seem_to_be_there)
        blind = "UPDATE baskets_stock SET available = greatest(available - %s, 0) WHERE product_id = %s OR %s::bigint IS NULL"
        without_look.setattr(counters, "RESERVE_ONE_OR_FAIL", blind)
        run_concurrently([buyer.start for buyer in buyers])
    held = StockReservation.objects.filter(product_id="shirt", status="HELD")
    assert held.aggregate(n=Sum("pieces"))["n"] == 16
    Stock.objects.filter(pk="shirt").update(available=0, shortfall=6)  # The account is put right for the fixture.


@pytest.mark.usefixtures("start_in_two_trips")
def test_control_without_basket_lock_violates_one_active_checkout_constraint(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence: at most one active session, by the database."""
    shopper.place("shirt", 1)
    both_have_read = threading.Barrier(2)

    real_offers = sessions.entries_from_rows

    def meeting_offers(rows: Iterable[tuple[Any, ...]]) -> dict[str, CatalogEntry]:
        both_have_read.wait(WAIT_SECONDS)
        return real_offers(rows)

    with monkeypatch.context() as without_lock:
        without_lock.setattr(store, "LOCK_BASKET", "SELECT 1 FROM baskets_basket WHERE id = %s")
        without_lock.setattr(sessions, "entries_from_rows", meeting_offers)
        outcomes = run_concurrently([shopper.start, shopper.start])
    refused = [outcome for outcome in outcomes if isinstance(outcome, IntegrityError)]
    assert len(refused) == 1
    assert "one_active_checkout_per_basket" in str(refused[0])


@pytest.mark.parametrize("looks_again", [True, False])
def test_direct_start_needs_its_second_look_at_the_stock(shopper: User, monkeypatch: pytest.MonkeyPatch, *, looks_again: bool) -> None:
    """Two buyers have read 10 pieces, and want 7 each. The second waits for the first; without its second look, both hold 7."""
    other_shopper = shopper.beside("ben")
    for user in (shopper, other_shopper):
        user.place("shirt", 7)
    text = direct_starts.RESERVE.sql
    if not looks_again:
        text = text.replace("(stock.available - wanted.pieces) / (stock.available >= wanted.pieces)::int", "0")
    with monkeypatch.context() as patch, holding("SELECT FROM baskets_stock WHERE product_id = 'shirt' FOR UPDATE") as holder:

        def let_go() -> None:
            """Both have read the stock, and wait for its lock."""
            assert eventually(lambda: waiting_for_locks() == 2, WAIT_SECONDS)
            holder.rollback()

        patch.setattr(direct_starts, "RESERVE", Statement("reservation", text))
        *outcomes, _ = run_concurrently([shopper.start, other_shopper.start, let_go])
    held = StockReservation.objects.filter(product_id="shirt", status="HELD").aggregate(n=Sum("pieces"))["n"]
    refused = [outcome for outcome in outcomes if isinstance(outcome, OutOfStock)]
    assert (held, len(refused)) == ((7, 1) if looks_again else (14, 0))
    if not looks_again:
        Stock.objects.filter(pk="shirt").update(available=0, shortfall=4)  # The account is put right for the fixture.


@pytest.mark.usefixtures("pessimistic_start")
def test_second_start_rereads_stock_after_waiting(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second buyer decides by the stock after its wait, not by the stock that it read before."""
    paused = PausedCall()
    monkeypatch.setattr(counters, "reserve", paused.at(counters.reserve))
    other_shopper = shopper.beside("ben")
    for user in (shopper, other_shopper):
        user.place("shirt", 7)
        user.place("cap", 1)
    first, second = paused.run(shopper.start, while_paused=other_shopper.start)
    assert first.snapshot.checkout[0].stocked == 7
    assert [line.stocked for line in second.snapshot.checkout] == [-4, 1]


@pytest.mark.usefixtures("start_in_two_trips")
@pytest.mark.parametrize("others", ["shirt", "cap"])
def test_start_reports_what_is_left_when_stock_is_taken_after_its_read(shopper: User, others: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole start is done again, and this time by what is there."""
    paused = PausedCall()
    other_shopper = shopper.beside("ben")
    for name, count in (("shirt", 7), ("cap", 7)):
        shopper.place(name, count)
    other_shopper.place(others, 7)
    monkeypatch.setattr(reserving, "appear_in_stock", paused.at(reserving.appear_in_stock))
    first, _ = paused.run(shopper.start, while_paused=other_shopper.start)
    assert [(line.product_id, line.stocked) for line in first.snapshot.checkout] == [
        (name, -4 if name == others else 7) for name in ("shirt", "cap")
    ]
    assert available(others) == (3, 0)
    assert Event.objects.filter(basket_id=shopper.owner.basket_id, kind="checkout_started").count() == 1


def test_direct_start_takes_locks_before_writes_and_in_order(shopper: User) -> None:
    """The shape of a direct start: basket lock, everything else, and the stock rows last, locked by primary key before they are written."""
    shopper.place("shirt", 1)
    shopper.place("cap", 1)
    with CaptureQueriesContext(connection) as captured:
        shopper.start()
    lock, _, reservation, *_ = [query["sql"].strip() for query in captured.captured_queries]
    assert "FROM baskets_basket" in lock
    assert lock.endswith("FOR NO KEY UPDATE")
    locked, taken = reservation.split("UPDATE baskets_stock")
    assert re.search(r"ORDER BY product_id FOR NO KEY UPDATE OF stock\s*\)\s*$", locked)
    assert "FROM wanted" in taken


ALWAYS = ["SELECT", "SELECT", "SELECT", "SELECT", "WITH gone", "WITH session"]


def shape_of_a_start(user: User) -> tuple[list[str], list[str]]:
    """The statements of a start of two products: their first words, and their texts."""
    user.place("shirt", 1)
    user.place("cap", 1)
    with CaptureQueriesContext(connection) as captured:
        runner.run(sessions.start_session, owner=user.owner, actor=APP)
    statements = [query["sql"].strip() for query in captured.captured_queries]
    firsts = [re.match(r"WITH \w+|[A-Z]+( [A-Z]+)*( baskets_\w+)?", sql)[0] for sql in statements]
    lock, clock = statements[0], statements[1]
    assert "FROM baskets_basket" in lock
    assert lock.endswith("FOR NO KEY UPDATE")
    assert "statement_timestamp()" in clock
    return firsts, statements


def test_start_takes_locks_before_writes_and_in_order(shopper: User) -> None:
    """The shape of a start: basket lock, clock, everything else, and nothing after the stock rows, which are locked by primary key."""
    firsts, statements = shape_of_a_start(shopper)
    assert firsts == [*ALWAYS, "INSERT INTO baskets_event", "SELECT", "WITH taken"]
    assert statements[7].endswith("ORDER BY product_id FOR NO KEY UPDATE")


@pytest.mark.usefixtures("pessimistic_start")
def test_pessimistic_start_records_its_event_after_the_stock_update(shopper: User) -> None:
    """Where there may be too little, the event alone comes after the stock rows."""
    firsts, statements = shape_of_a_start(shopper)
    assert firsts == [*ALWAYS, "SELECT", "UPDATE baskets_stock", "INSERT INTO baskets_event"]
    assert statements[6].endswith("ORDER BY product_id FOR NO KEY UPDATE")


def test_abort_locks_stock_rows_in_order_before_it_releases_them(shopper: User) -> None:
    shopper.place("shirt", 1)
    shopper.place("cap", 1)
    shopper.start()
    with CaptureQueriesContext(connection) as captured:
        shopper.finish(False)
    lock, release = [query["sql"].strip() for query in captured.captured_queries[-2:]]
    assert lock.startswith("SELECT 1 FROM baskets_stock")
    assert lock.endswith("ORDER BY product_id FOR NO KEY UPDATE")
    assert release.startswith("UPDATE baskets_stock")


def test_reclaim_skips_a_locked_basket(shopper: User) -> None:
    """A lock timeout on one basket: the reclaim continues with the next."""
    for name, minutes in (("ben", 33), ("cleo", 32)):
        user = shopper.beside(name)
        user.place("shirt", 5)
        user.start()
        user.wait(minutes=minutes)
    other_shopper, fourth_shopper = shopper.beside("ben"), shopper.beside("dora")
    fourth_shopper.place("shirt", 5)
    with holding_basket(other_shopper.owner.basket_id):
        fourth_shopper.start()
    assert fourth_shopper.lists()["checkout"] == [("shirt", 5, 5)]
    assert other_shopper.lists()["checkout"] == [("shirt", 5, 5)]


def test_start_reserves_pieces_released_during_its_reclaim(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not report "sold out" for pieces that had lapsed and were released at that moment."""
    shopper.place("shirt", 8)
    shopper.start()
    shopper.wait(minutes=31)
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 5)
    paused = PausedCall()
    monkeypatch.setattr(counters, "reserve", paused.at(counters.reserve))
    started, _ = paused.run(other_shopper.start, while_paused=lambda: shopper.finish(False))
    assert started.snapshot.checkout[0].stocked == 5
