"""Moves of stock between two cells, each with a separate database: killed half way, at the same moment, and beside buyers."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import DatabaseError, connections
from django.db.utils import OperationalError
from pytest_django import Settings

from baskets.domain.cells import stock_moves, supply_check
from baskets.domain.stock import supply
from tests.cells import aliases, close, copies, running
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User
from tests.factories import TESTER, ProductFactory

CELLS = (1, 2)
ALIASES = aliases(2)
PIECES = """
SELECT s.available, s.shortfall,
       (SELECT coalesce(sum(pieces), 0)::int FROM baskets_stockreservation WHERE product_id = 'shirt' AND status IN ('HELD', 'SOLD'))
FROM baskets_stock s WHERE product_id = 'shirt'
"""


@pytest.fixture(scope="module")
def second_database(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[str]]:
    with copies(2, django_db_blocker) as names:
        yield names


@pytest.fixture
def cells(shopper: User, settings: Settings, second_database: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two cells with 10 shirts and 10 caps each; the first is the database of the test, and sells.

    :returns: the URLs of their databases.
    """
    ProductFactory(product_id="song")
    with running(second_database, settings, monkeypatch) as urls:
        yield urls


def move(pieces: int = 4, *, move_id: UUID | None = None, source: int = 1, product_id: str = "shirt", dry_run: bool = False) -> bool:
    """Move shirts to the other cell."""
    try:
        return stock_moves.move_stock(
            move_id=move_id or uuid4(),
            product_id=product_id,
            pieces=pieces,
            source=source,
            target=3 - source,
            reason="a test",
            actor=TESTER,
            dry_run=dry_run,
        )
    finally:
        close()


def resume(**options: Any) -> list[stock_moves.Half]:
    try:
        return stock_moves.resume_moves(reason="a test", actor=TESTER, **options)
    finally:
        close()


def counters(cells: list[str]) -> list[tuple[int, int, int]]:
    """Read available, short, and held or sold shirts of each cell."""
    found = []
    for address in cells:
        with psycopg.connect(address) as client:
            found += client.execute(PIECES).fetchall()
    return found


def total(cells: list[str]) -> int:
    """Count the shirts of all cells: available, held or sold, less those that are not there."""
    return sum(available - shortfall + taken for available, shortfall, taken in counters(cells))


def findings() -> dict[str, int]:
    try:
        return {finding.invariant.slug: finding.total for finding in supply_check.check().findings}
    finally:
        close()


def report(cell: int, unsold: int, as_of: datetime) -> None:
    """Report the unsold shirts of a cell, as an import there does."""
    with connections[ALIASES[cell - 1]].cursor() as cursor:
        cursor.execute(supply.LOCK_AND_READ, [["shirt"]])
        parameters = {"reason": "counted", "actor": "tests", "record_unchanged": False, "confirm": False}
        cursor.execute(supply.SET_UNSOLD, parameters | {"as_of": as_of, "product_ids": ["shirt"], "unsold": [unsold]})


@contextlib.contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every move in the block end between its halves."""
    with monkeypatch.context() as between, contextlib.suppress(ZeroDivisionError):
        between.setattr(stock_moves, "_complete", lambda *_, **__: 1 // 0)
        yield


def test_move_is_done_once_with_one_id(cells: list[str]) -> None:
    one = uuid4()
    assert move(4, move_id=one, dry_run=True)
    assert counters(cells) == [(10, 0, 0), (10, 0, 0)]
    assert move(4, move_id=one)
    assert counters(cells) == [(6, 0, 0), (14, 0, 0)]
    assert not move(4, move_id=one)
    assert [(half.moved, half.other_cell) for half in stock_moves.read_halves(CELLS, [one])] == [(-4, 2), (4, 1)]
    for address, pieces in zip(cells, (-4, 4), strict=True):
        with psycopg.connect(address) as client:
            written = "SELECT data ->> 'pieces' FROM baskets_deskentry WHERE subject = 'shirt' AND data ->> 'move' = %s"
            assert client.execute(written, [str(one)]).fetchall() == [(str(pieces),)]
    assert counters(cells) == [(6, 0, 0), (14, 0, 0)]
    for other in ({"pieces": 3}, {"source": 2}, {"product_id": "cap"}):
        with pytest.raises(stock_moves.MoveRefused, match="belongs to another move, of 4 shirt"):
            move(**{"pieces": 4} | other, move_id=one)
    assert move(14, source=2)
    assert counters(cells) == [(20, 0, 0), (0, 0, 0)]
    assert findings() == {}


def test_refused_moves_change_nothing(cells: list[str], settings: Settings) -> None:
    with pytest.raises(stock_moves.MoveRefused, match="Cell 1 has 10 available pieces of shirt, not 11"):
        move(11)
    with pytest.raises(stock_moves.MoveRefused, match="song is not a limited product in cell 2"):
        move(1, product_id="song")
    with psycopg.connect(cells[0]) as client:
        client.execute("UPDATE baskets_stock SET limited = false WHERE product_id = 'cap'")
    with pytest.raises(stock_moves.MoveRefused, match="cap is not a limited product in cell 1"):
        move(1, product_id="cap")
    with psycopg.connect(cells[0]) as client:
        client.execute("UPDATE baskets_stock SET limited = true WHERE product_id = 'cap'")
    for databases, problem in ((ALIASES[:1], "two cells or more"), (ALIASES[:1] * 2, "one database twice")):
        settings.BASKETS_CELL_DATABASES = databases
        with pytest.raises(stock_moves.UnknownCell, match=problem):
            move(1)
    settings.BASKETS_CELL_DATABASES = ALIASES
    with pytest.raises(stock_moves.UnknownCell, match="there is no cell 3"):
        move(1, source=3)
    assert counters(cells) == [(10, 0, 0), (10, 0, 0)]
    assert stock_moves.read_halves(CELLS) == []


def test_process_killed_between_the_halves_leaves_a_move_that_a_run_completes(
    cells: list[str],
    process: Callable[..., Any],
    run: Run,  # noqa: F811 (the fixture)
) -> None:
    """The pieces are in no cell after the kill; `check_baskets --cells` finds them, `move_stock --resume` adds them once."""
    environment = {"BASKETS_CELL_DATABASES": " ".join(cells)}
    with psycopg.connect(cells[1]) as blocker:
        blocker.execute("SELECT FROM baskets_stock WHERE product_id = 'shirt' FOR UPDATE")
        mover = process("move_stock", "shirt", "4", "--from", "1", "--to", "2", env=environment)
        until = time.monotonic() + 30
        while counters(cells[:1]) != [(6, 0, 0)]:
            assert time.monotonic() < until, mover.communicate()
            time.sleep(0.02)
        os.kill(mover.pid, signal.SIGKILL)
        mover.communicate()
    assert total(cells) == 16
    found = run("check_baskets", "--cells", "--json")
    assert found.code == 1
    (finding,) = found.data["findings"]
    assert (finding["slug"], finding["total"], found.data["totals"]["moving"]) == ("moves_have_two_halves", 1, 4)
    (lone,) = finding["examples"]
    assert (lone["cell"], lone["other_cell"], lone["moved"]) == (1, 2, -4)
    assert run("move_stock", "--resume", "--dry-run").out == f"Would have completed 1 moves.\n+4 shirt in cell 2: {lone['move_id']}\n"
    assert total(cells) == 16
    assert run("move_stock", "--resume", "--json").data == {"completed": [lone["move_id"]], "dry_run": False}
    assert run("move_stock", "--resume", "--json").data == {"completed": [], "dry_run": False}
    again = run("move_stock", "shirt", "4", "--from", "1", "--to", "2", "--id", lone["move_id"])
    assert again.out == f"Already moved 4 shirt from cell 1 to cell 2: {lone['move_id']}.\n"
    assert counters(cells) == [(6, 0, 0), (14, 0, 0)]
    sound = run("check_baskets", "--cells")
    assert (sound.code, sound.out.splitlines()[1]) == (0, "40 supply, 40 available, 0 held, 0 sold, 0 shortfall, 0 moving")
    assert run("move_stock", "shirt").code == run("move_stock", "shirt", "--resume").code == 2


@pytest.mark.parametrize("resumed", [False, True], ids=["same id", "resume"])
def test_exception_between_the_halves_is_completed_once(cells: list[str], monkeypatch: pytest.MonkeyPatch, resumed: bool) -> None:
    one = uuid4()
    with interrupted(monkeypatch):
        move(move_id=one)
    assert total(cells) == 16
    assert sum(1 for done in run_concurrently([resume if resumed else lambda: move(move_id=one)] * 4) if done) == 1
    assert counters(cells) == [(6, 0, 0), (14, 0, 0)]
    assert findings() == {}


def test_failed_second_half_says_how_to_complete_it(cells: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    really = stock_moves._record

    def record(half: stock_moves.Half, **options: Any) -> bool:
        if half.moved > 0:
            raise OperationalError
        return really(half, **options)

    with monkeypatch.context() as failing:
        failing.setattr(stock_moves, "_record", record)
        with pytest.raises(stock_moves.MoveLeftOpen, match=r"\+4 shirt in cell 2 is missing. `move_stock --resume`"):
            move()
        with pytest.raises(DatabaseError):
            resume(dry_run=True)
    assert len(resume()) == 1
    assert total(cells) == 20


@pytest.mark.parametrize("earlier", [True, False], ids=["report of before the move", "report of after the move"])
@pytest.mark.parametrize("first_late", [False, True])
@pytest.mark.parametrize("second_late", [False, True])
def test_report_between_the_halves_is_right_in_both_cells(
    cells: list[str], monkeypatch: pytest.MonkeyPatch, earlier: bool, first_late: bool, second_late: bool
) -> None:
    """Whichever arrives first: a report of before the move is corrected by it, and one of after it has its pieces already."""
    between = datetime.now(UTC)
    with interrupted(monkeypatch):
        move(4)
    as_of = between if earlier else datetime.now(UTC)
    late = dict(zip(CELLS, (first_late, second_late), strict=True))
    unsold = {1: 8, 2: 9}
    for arrives_late in (False, True):
        for cell in CELLS:
            if late[cell] is arrives_late:
                report(cell, unsold[cell], as_of)
        resume()
    assert counters(cells) == ([(4, 0, 0), (13, 0, 0)] if earlier else [(8, 0, 0), (9, 0, 0)])
    assert findings() == {}


def test_control_with_two_moments_counts_pieces_twice(cells: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second half with another moment is later than a report of the whole supply: 17 pieces become 21."""
    with interrupted(monkeypatch):
        move(4)
    between = datetime.now(UTC)
    report(1, 8, between)
    report(2, 9, between)
    real = stock_moves.Half.counterpart.fget
    assert real is not None
    later = property(lambda half: stock_moves.Half(**vars(real(half)) | {"as_of": between + timedelta(microseconds=1)}))
    with monkeypatch.context() as own_moment:
        own_moment.setattr(stock_moves.Half, "counterpart", later)
        resume()
    assert total(cells) == 21
    assert findings() == {"moves_have_two_halves": 2}


def test_source_restored_from_a_backup_gives_up_the_pieces_again(cells: list[str]) -> None:
    """What the backup brought back is in the other cell, and may be sold there."""
    move(4)
    with psycopg.connect(cells[0]) as client:
        client.execute("DELETE FROM baskets_stockadjustment WHERE move IS NOT NULL")
        client.execute("UPDATE baskets_stock SET available = 10 WHERE product_id = 'shirt'")
    assert total(cells) == 24
    assert findings() == {"moves_have_two_halves": 1}
    assert [half.moved for half in resume()] == [-4]
    assert counters(cells) == [(6, 0, 0), (14, 0, 0)]
    assert findings() == {}


def test_concurrent_moves_take_only_what_is_available(cells: list[str]) -> None:
    one = uuid4()
    assert sum(1 for done in run_concurrently([lambda: move(1, move_id=one)] * 6) if done is True) >= 1
    assert counters(cells) == [(9, 0, 0), (11, 0, 0)]
    away = run_concurrently([lambda: move(2)] * 6 + [lambda: move(3, source=2)] * 2)
    refused = [outcome for outcome in away if isinstance(outcome, stock_moves.MoveRefused)]
    assert len(refused) + away.count(True) == 8
    assert total(cells) == 20
    assert findings() == {}


def test_crowd_of_starts_beside_moves_oversells_nothing(cells: list[str], shopper: User) -> None:
    """12 buyers and 12 moves want the 10 shirts of a cell, and 3 moves bring one each: every piece goes one way."""
    buyers = [shopper.beside(f"buyer-{n}") for n in range(12)]
    for buyer in buyers:
        buyer.place("shirt", 1)
    outcomes = run_concurrently(
        [call for buyer in buyers for call in (buyer.start, lambda: move(1))] + [lambda: move(1, source=2) for _ in range(3)]
    )
    held = sum(1 for outcome in outcomes if type(outcome).__name__ == "StartedSession")
    moved = sum(1 for outcome in outcomes[1:24:2] if outcome is True)
    assert {type(outcome).__name__ for outcome in outcomes} <= {"StartedSession", "OutOfStock", "bool", "MoveRefused"}
    assert counters(cells) == [(13 - held - moved, 0, held), (7 + moved, 0, 0)]
    assert total(cells) == 20
    assert findings() == {}
