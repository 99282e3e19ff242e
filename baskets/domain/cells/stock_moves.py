"""Moves available pieces of a product between cells, as two adjustments with one id. It decides nothing about how many.

Note [Halves of a move]
No transaction spans two databases. The first half takes the pieces out of one cell and commits; only then the second adds them in
the other. In between they are in no cell, so no cell sells them. Each half names the move, its pieces and the other cell: the databases
themselves tell what is open, and a later run needs nothing else to complete it. A unique constraint on the id refuses a half that is there.
Both halves speak of one moment, later than the latest report in either cell when the move begins. A report counts a half of an earlier
moment as done, whichever of the two arrives first; so a half that comes after such a report is recorded, and changes no counter.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connections, transaction

from baskets import conf
from baskets.db.errors import Fault, fault_of
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.stock.supply import LOCK_AND_READ
from baskets.models import DeskEntry

# The moment when the server of a database started tells two servers apart, without any privilege.
IDENTIFY_DATABASE = "SELECT pg_postmaster_start_time(), current_database(), current_schema()"
READ_HALVES = """
SELECT move, product_id, moved, other_cell, as_of FROM baskets_stockadjustment
WHERE move IS NOT NULL AND (%(move_ids)s::uuid[] IS NULL OR move = ANY(%(move_ids)s::uuid[]))
ORDER BY as_of, move
"""
LAST_REPORT = "SELECT reported_as_of FROM baskets_stock WHERE product_id = %s AND limited"
# Runs after the statement that locks the row, so no report of this cell is of a later moment.
CHOOSE_MOMENT = """
SELECT greatest(statement_timestamp(), reported_as_of + interval '1 microsecond', %s::timestamptz + interval '1 microsecond')
FROM baskets_stock WHERE product_id = %s
"""
RECORD_HALF = """
WITH half AS (
    SELECT product_id, available - shortfall AS free,
           CASE WHEN reported_as_of < %(as_of)s::timestamptz THEN %(moved)s::bigint ELSE 0 END AS delta
    FROM baskets_stock WHERE product_id = %(product_id)s
), recorded AS (
    INSERT INTO baskets_stockadjustment (product_id, kind, delta, as_of, reason, actor, created_at, move, moved, other_cell)
    SELECT product_id, 'supply', delta, %(as_of)s::timestamptz, %(reason)s, %(actor)s, statement_timestamp(), %(move_id)s::uuid,
           %(moved)s::bigint, %(other_cell)s::bigint
    FROM half
    ON CONFLICT (move) WHERE move IS NOT NULL DO NOTHING
    RETURNING product_id
)
UPDATE baskets_stock s
SET available = greatest(half.free + half.delta, 0), shortfall = greatest(-half.free - half.delta, 0)
FROM half JOIN recorded USING (product_id) WHERE s.product_id = half.product_id
"""


@dataclass(frozen=True, kw_only=True)
class Half:
    """What a move changes in one cell.

    :param moved: pieces; below zero in the cell that they leave.
    :param as_of: the moment of the move, the same in both halves.
    """

    cell: int
    other_cell: int
    move_id: UUID
    product_id: str
    moved: int
    as_of: datetime

    @property
    def counterpart(self) -> "Half":
        """The half in the other cell."""
        return Half(
            cell=self.other_cell,
            other_cell=self.cell,
            move_id=self.move_id,
            product_id=self.product_id,
            moved=-self.moved,
            as_of=self.as_of,
        )


class UnknownCell(Refusal):
    """The settings name no database of a cell."""

    reason = "cell_unknown"
    message = "BASKETS_CELL_DATABASES does not name the database of that cell."


class MoveRefused(Refusal):
    """The pieces cannot be moved; nothing has changed."""

    reason = "move_refused"
    message = "The pieces cannot be moved."


class MoveLeftOpen(Refusal):
    """The pieces may have left one cell, and are not known to be in the other.

    :param half: the one that is missing.
    """

    reason = "move_left_open"
    message = "The move may be half done."

    def __init__(self, half: Half) -> None:
        super().__init__(
            f"The move {half.move_id} may be half done, so that no cell sells its pieces: {half.moved:+d} {half.product_id} "
            f"in cell {half.cell} is missing. `move_stock --resume` completes it."
        )
        self.half = half


def database_of(cell: int) -> str:
    """Return the alias of the database of a cell.

    :raises UnknownCell: the settings name none.
    """
    databases = conf.cell_databases()
    if not 1 <= cell <= len(databases):
        raise UnknownCell(f"BASKETS_CELL_DATABASES names the databases of {len(databases)} cells; there is no cell {cell}.")
    return databases[cell - 1]


def cells() -> range:
    """Return the numbers of all cells.

    :raises UnknownCell: fewer than two are named, or two of them are one database.
    """
    numbers = _named_cells()
    _check_distinct(numbers)
    return numbers


def reachable_cells() -> list[int]:
    """Return the numbers of the cells whose databases answer.

    :raises UnknownCell: fewer than two are named, or two of them are one database.
    """
    reachable = []
    for cell in _named_cells():
        try:
            _identify(cell)
        except (DatabaseError, InterfaceError) as error:
            if fault_of(error) is not Fault.UNAVAILABLE:
                raise
        else:
            reachable.append(cell)
    _check_distinct(reachable)
    return reachable


def _named_cells() -> range:
    databases = conf.cell_databases()
    if len(databases) < 2:
        raise UnknownCell("BASKETS_CELL_DATABASES must name the databases of two cells or more, in the order of their numbers.")
    return range(1, len(databases) + 1)


def _identify(cell: int) -> tuple[object, ...]:
    with connections[database_of(cell)].cursor() as cursor:
        cursor.execute(IDENTIFY_DATABASE)
        (identity,) = cursor.fetchall()
    return tuple(identity)


def _check_distinct(cells: Sequence[int]) -> None:
    if len({_identify(cell) for cell in cells}) < len(cells):
        raise UnknownCell("BASKETS_CELL_DATABASES names one database twice.")


def move_stock(
    *, move_id: UUID, product_id: str, pieces: int, source: int, target: int, reason: str, actor: Actor, dry_run: bool = False
) -> bool:
    """Take available pieces of a product out of one cell, and add them in another. See Note [Halves of a move].

    Safe to repeat with the same id: what is recorded already is not done again. Runs one transaction in each cell, and locks the stock
    row of the product in it.

    :param move_id: names this move in both cells.
    :param pieces: above zero.
    :param source: the number of the cell that the pieces leave.
    :param reason: the reason for both records; not empty.
    :param dry_run: check everything in both cells, and record nothing.
    :returns: whether something was recorded; False: the move was complete.
    :raises UnknownCell: the settings do not name both cells.
    :raises MoveRefused: the product is not limited in both cells, has too few available pieces, or the id belongs to another move.
    :raises MoveLeftOpen: the second half failed.
    """
    if source == target:
        raise MoveRefused("The pieces are in that cell already.")
    _named_cells()
    # Only these two: a cell that is down does not stop moves between others.
    _check_distinct([source, target])
    wanted = (source, target, product_id, -pieces)
    for half in read_halves([source, target], [move_id]):
        first = half if half.moved < 0 else half.counterpart
        if (first.cell, first.other_cell, first.product_id, first.moved) != wanted:
            raise MoveRefused(f"The id {move_id} belongs to another move, of {-first.moved} {first.product_id}.")
    reported = _last_report(target, product_id)
    first = Half(cell=source, other_cell=target, move_id=move_id, product_id=product_id, moved=-pieces, as_of=reported)
    try:
        with _transaction(source, dry_run=dry_run):
            first, is_new = _take_out(first, reason=reason, actor=actor)
    except (DatabaseError, InterfaceError) as error:
        # The answer to the COMMIT may be lost.
        if dry_run or fault_of(error) is not Fault.UNAVAILABLE:
            raise
        raise MoveLeftOpen(first.counterpart) from error
    return _complete(first.counterpart, reason=reason, actor=actor, dry_run=dry_run) or is_new


def resume_moves(*, reason: str, actor: Actor, dry_run: bool = False, among: Sequence[int] | None = None) -> list[Half]:
    """Complete every move of which one half is missing, in all cells.

    That is the second half if a process ended between the two; or the first if its cell lost it, restored from an earlier backup.
    What is no longer available there becomes a shortfall, because the other cell may have sold it.

    :param reason: the reason for the records; not empty.
    :param among: only moves between these cells; None: between all.
    :returns: the halves that were missing.
    :raises UnknownCell: the settings do not name all cells.
    :raises MoveLeftOpen: one of them failed.
    """
    missing = [half.counterpart for half in find_lone_halves(among)]
    return [half for half in missing if _complete(half, reason=reason, actor=actor, dry_run=dry_run)]


def find_lone_halves(among: Sequence[int] | None = None) -> list[Half]:
    """Return the halves of moves whose other half is missing. A move that runs at this moment may be among them.

    :param among: only moves between these cells; None: between all.
    :raises UnknownCell: fewer than two cells are named.
    """
    all_cells = cells() if among is None else among
    halves = _by_move(read_halves(all_cells))
    # The cells are read one after the other. A first half commits before the second, so a second look finds it.
    lone = [move_id for move_id, found in halves.items() if len(found) == 1 and (among is None or found[0].other_cell in among)]
    return [found[0] for found in _by_move(read_halves(all_cells, lone)).values() if len(found) == 1] if lone else []


def find_unequal_halves() -> list[Half]:
    """Return the halves of moves with two or more that do not add up: of other pieces, another product, moment or cell.

    :raises UnknownCell: fewer than two cells are named.
    """
    moves = _by_move(read_halves(cells())).values()
    return [half for halves in moves if len(halves) > 1 and halves != [halves[-1].counterpart, halves[0].counterpart] for half in halves]


def read_halves(cells: Sequence[int], move_ids: Sequence[UUID] | None = None) -> list[Half]:
    """Read the recorded halves in cells, oldest first in each.

    :param move_ids: of these moves; None: of all.
    """
    halves = []
    for cell in cells:
        with connections[database_of(cell)].cursor() as cursor:
            cursor.execute(READ_HALVES, {"move_ids": None if move_ids is None else list(move_ids)})
            halves += [
                Half(cell=cell, move_id=move_id, product_id=product_id, moved=moved, other_cell=other_cell, as_of=as_of)
                for move_id, product_id, moved, other_cell, as_of in cursor.fetchall()
            ]
    return halves


def _by_move(halves: Sequence[Half]) -> Mapping[UUID, list[Half]]:
    found: dict[UUID, list[Half]] = {}
    for half in halves:
        found.setdefault(half.move_id, []).append(half)
    return found


@contextmanager
def _transaction(cell: int, *, dry_run: bool) -> Iterator[None]:
    """Run the block in one transaction of a cell; roll it back with `dry_run`."""
    with transaction.atomic(using=database_of(cell), durable=True):
        yield
        if dry_run:
            transaction.set_rollback(True, using=database_of(cell))


def _last_report(cell: int, product_id: str) -> datetime:
    """Return the moment of the latest report of a limited product in a cell.

    :raises MoveRefused: it is not limited there.
    """
    with connections[database_of(cell)].cursor() as cursor:
        cursor.execute(LAST_REPORT, [product_id])
        rows = cursor.fetchall()
    if not rows:
        raise MoveRefused(f"{product_id} is not a limited product in cell {cell}.")
    at: datetime = rows[0][0]
    return at


def _take_out(half: Half, *, reason: str, actor: Actor) -> tuple[Half, bool]:
    """Record the first half of a move, or find it.

    :param half: its `as_of` is the latest report in the other cell.
    :returns: the half as it is recorded, and whether this call recorded it.
    """
    with connections[database_of(half.cell)].cursor() as cursor:
        cursor.execute(LOCK_AND_READ, [[half.product_id]])
        rows = cursor.fetchall()
        if found := read_halves([half.cell], [half.move_id]):
            return found[0], False
        limited, available = rows[0][1:3] if rows else (False, 0)
        if not limited:
            raise MoveRefused(f"{half.product_id} is not a limited product in cell {half.cell}.")
        if available < -half.moved:
            raise MoveRefused(f"Cell {half.cell} has {available} available pieces of {half.product_id}, not {-half.moved}.")
        cursor.execute(CHOOSE_MOMENT, [half.as_of, half.product_id])
        ((at,),) = cursor.fetchall()
    first = Half(**vars(half) | {"as_of": at})
    _record(first, reason=reason, actor=actor)
    return first, True


def _complete(half: Half, *, reason: str, actor: Actor, dry_run: bool) -> bool:
    """Record the missing half of a move in a transaction of its cell.

    :returns: False if it is there.
    :raises MoveLeftOpen: it could not be recorded.
    """
    try:
        with _transaction(half.cell, dry_run=dry_run), connections[database_of(half.cell)].cursor() as cursor:
            cursor.execute(LOCK_AND_READ, [[half.product_id]])
            return _record(half, reason=reason, actor=actor)
    except (DatabaseError, InterfaceError, KeyboardInterrupt) as error:
        if dry_run:
            raise
        raise MoveLeftOpen(half) from error


def _record(half: Half, *, reason: str, actor: Actor) -> bool:
    """Insert a half and change the counters, on a locked row, unless the half is there."""
    with connections[database_of(half.cell)].cursor() as cursor:
        cursor.execute(RECORD_HALF, vars(half) | {"reason": reason, "actor": actor.name})
        is_new = bool(cursor.rowcount)
    if is_new:
        data = {"move": str(half.move_id), "pieces": half.moved, "other_cell": half.other_cell}
        audit_log.record(
            kind=DeskEntry.Kind.MAINTAINED,
            about="product",
            subject=half.product_id,
            reason=reason,
            data=data,
            actor=actor,
            using=database_of(half.cell),
        )
    return is_new
