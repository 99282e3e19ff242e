"""Moves pieces to the cells that sell them, and records in each cell what the others have. `stock_moves` moves them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from django.db import connections, transaction

from baskets.db.limits import client_waits
from baskets.domain.actors import Actor
from baskets.domain.cells import shares, stock_moves
from baskets.models.products import SANDBOX_PREFIX

READ_LEVELS = """
SELECT s.product_id, s.available - s.shortfall, coalesce(sold.pieces, 0)::bigint
FROM baskets_stock s LEFT JOIN (
    SELECT product_id, sum(pieces) AS pieces FROM baskets_stockreservation
    WHERE status = 'SOLD' AND ended_at > statement_timestamp() - %(within)s::interval GROUP BY product_id
) sold USING (product_id)
WHERE s.limited AND NOT starts_with(s.product_id, %(sandbox)s)
  AND (%(product_ids)s::text[] IS NULL OR s.product_id = ANY(%(product_ids)s::text[]))
"""
# Writes only rows whose number has changed.
WRITE_ELSEWHERE = """
WITH read AS (
    SELECT * FROM unnest(%s::text[], %s::bigint[]) AS r (product_id, available)
    WHERE EXISTS (SELECT FROM baskets_stock s WHERE s.product_id = r.product_id)
), gone AS (
    DELETE FROM baskets_stockelsewhere e WHERE NOT EXISTS (SELECT FROM read WHERE read.product_id = e.product_id)
)
INSERT INTO baskets_stockelsewhere AS e (product_id, available, read_at)
SELECT product_id, available, statement_timestamp() FROM read ORDER BY product_id
ON CONFLICT (product_id) DO UPDATE SET available = excluded.available, read_at = excluded.read_at WHERE e.available <> excluded.available
"""


class Level(NamedTuple):
    """What one cell has of a product: pieces that it can sell, below zero if it is short; and pieces sold within the time."""

    free: int
    sold: int


@dataclass(frozen=True, kw_only=True)
class PlannedMove:
    """Pieces that one cell needs more than another.

    :param pieces: how many.
    :param given: what `source` has, before the move.
    :param needed: what `target` has, before the move.
    """

    product_id: str
    pieces: int
    source: int
    target: int
    given: Level
    needed: Level

    def __str__(self) -> str:
        return (
            f"{self.product_id}: {self.pieces} from cell {self.source} ({self.given.free} available, {self.given.sold} sold) "
            f"to cell {self.target} ({self.needed.free} available, {self.needed.sold} sold)"
        )


@dataclass(frozen=True, kw_only=True)
class Rebalanced:
    """The result of a run.

    :param cells: the cells that answered.
    :param resumed: number of earlier moves that were completed.
    :param moved: the moves that were made, or would be.
    :param refused: the moves whose source no longer had the pieces.
    :param left: number of moves beyond the limit of this run.
    """

    cells: Sequence[int]
    resumed: int
    moved: Sequence[PlannedMove]
    refused: Sequence[PlannedMove]
    left: int


def rebalance(
    *,
    within: timedelta,
    max_moves: int,
    product_ids: Sequence[str] | None = None,
    reason: str,
    actor: Actor,
    dry_run: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> Rebalanced:
    """Complete open moves, then move pieces to cells that have less than half of the share that their sales give them.

    A shortfall of one cell is covered first by what others have. The share of a cell is by its sales, see `shares.weigh`. If a run is
    killed, the next one completes its moves, and plans from what the cells have then. A cell that does not answer keeps what it has.
    Also records in each cell what the others have, unless products are named.

    :param within: how far back sales count.
    :param max_moves: the most urgent moves; the others are left to the next run.
    :param product_ids: only these products; None: all.
    :param reason: the reason for the records; not empty.
    :param advance: called with 1 after each move.
    :raises stock_moves.UnknownCell: the settings do not name two cells or more.
    :raises stock_moves.MoveLeftOpen: a cell failed in the middle of a move.
    """
    cells = stock_moves.reachable_cells()
    resumed = stock_moves.resume_moves(reason=reason, actor=actor, dry_run=dry_run, among=cells)
    levels = read_levels(cells, within=within, product_ids=product_ids)
    plan = sorted((move for product_id, found in sorted(levels.items()) for move in plan_moves(product_id, found)), key=_urgency)
    moved, refused = [], []
    for move in plan[:max_moves]:
        try:
            stock_moves.move_stock(
                move_id=uuid4(),
                product_id=move.product_id,
                pieces=move.pieces,
                source=move.source,
                target=move.target,
                reason=reason,
                actor=actor,
                dry_run=dry_run,
            )
        except stock_moves.MoveRefused:  # It was sold in the meantime; the next run plans again.
            refused.append(move)
        else:
            moved.append(move)
        advance(1)
    if not dry_run and product_ids is None:
        write_elsewhere(read_levels(cells, within=within))
    return Rebalanced(cells=cells, resumed=len(resumed), moved=moved, refused=refused, left=max(len(plan) - max_moves, 0))


def read_levels(cells: Sequence[int], *, within: timedelta, product_ids: Sequence[str] | None = None) -> Mapping[str, Mapping[int, Level]]:
    """Read what each cell has and sold of its limited products.

    :returns: levels by product and cell; a product is missing where it is not limited in a cell.
    """
    parameters: dict[str, Any] = {
        "within": within,
        "sandbox": SANDBOX_PREFIX,
        "product_ids": product_ids if product_ids is None else list(product_ids),
    }
    levels: dict[str, dict[int, Level]] = {}
    with client_waits(statement_seconds=None):
        for cell in cells:
            database = stock_moves.database_of(cell)
            with transaction.atomic(using=database), connections[database].cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute(READ_LEVELS, parameters)
                for product_id, free, sold in cursor.fetchall():
                    levels.setdefault(product_id, {})[cell] = Level(free, sold)
    return levels


def plan_moves(product_id: str, levels: Mapping[int, Level]) -> Iterator[PlannedMove]:
    """Plan the moves of one product: none while each cell has at least half of its share.

    :param levels: by cell.
    """
    cells = sorted(levels)
    free = {cell: levels[cell].free for cell in cells}
    weights = shares.weigh([levels[cell].sold for cell in cells])
    share = dict(zip(cells, shares.divide(max(sum(free.values()), 0), weights), strict=True))
    if all(free[cell] >= 0 and 2 * free[cell] >= share[cell] for cell in cells):
        return
    while True:
        source = max(cells, key=lambda cell: free[cell] - share[cell])
        target = min(cells, key=lambda cell: free[cell] - share[cell])
        # Never more than the source has: of a product that is short everywhere, the share of each cell is 0.
        pieces = min(free[source] - share[source], share[target] - free[target])
        if pieces <= 0:
            return
        yield PlannedMove(product_id=product_id, pieces=pieces, source=source, target=target, given=levels[source], needed=levels[target])
        free[source] -= pieces
        free[target] += pieces


def write_elsewhere(levels: Mapping[str, Mapping[int, Level]]) -> None:
    """Record in each cell how many pieces of each product the others have, for its metrics.

    :param levels: by product and cell, of the cells that answered.
    """
    for cell in sorted({cell for found in levels.values() for cell in found}):
        products = [product_id for product_id in sorted(levels) if cell in levels[product_id]]
        others = [sum(max(level.free, 0) for other, level in levels[product_id].items() if other != cell) for product_id in products]
        database = stock_moves.database_of(cell)
        with transaction.atomic(using=database, durable=True), connections[database].cursor() as cursor:
            cursor.execute(WRITE_ELSEWHERE, [products, others])


def _urgency(move: PlannedMove) -> tuple[int, int, str]:
    """Order moves: to cells without pieces first, then those that sell most."""
    return max(move.needed.free, 0), -move.needed.sold, move.product_id
