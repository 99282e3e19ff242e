"""Divides one report of the unsold pieces of products among all cells. What a report means in a cell is in `stock.supply`.

Note [First less, then more]
No transaction spans two databases, and cells sell while the report is applied. So of each product, the cells whose pieces decrease get
their report first, then the others: a run that ends in between leaves some pieces unsold, and sells none twice. A cell needs the pieces
that it holds and has sold since the moment of the report. This need is measured to divide the pieces, and again under the lock of the
report. If it has grown, the difference is taken from cells that get their report later; if there is none, the cell is short until a move
covers it. A repeated run measures everything again.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections, transaction

from baskets.domain.actors import Actor
from baskets.domain.cells import shares, stock_moves
from baskets.domain.cells.rebalancing import Level, read_levels, rebalance
from baskets.domain.errors import Refusal
from baskets.domain.stock import supply

BATCH = 500
ARRIVAL_SECONDS = 30
READ_KNOWN = "SELECT product_id FROM baskets_product WHERE product_id = ANY(%s)"
READ_STOCK = (
    "SELECT product_id, limited, available - shortfall, reported_as_of > %s::timestamptz FROM baskets_stock WHERE product_id = ANY(%s)"
)

Division = dict[int, int]


class ProductMissing(Refusal):
    """A product of the report has not reached a cell; no report was applied."""

    reason = "product_missing"
    message = "A product has not reached a cell."


@dataclass(frozen=True, kw_only=True)
class DividedReport:
    """The result of a report to all cells.

    :param as_of: its moment, the same in every cell.
    :param shares: pieces by product and cell, of those that were divided.
    :param unlimited: ids of products that are unlimited by the report.
    :param older: ids of products of which a cell has a later report, so that this one changed nothing in any.
    """

    as_of: datetime
    shares: dict[str, Division] = field(default_factory=dict)
    unlimited: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)


def common_moment() -> datetime:
    """Return a moment that is in the past of every cell, by the clocks of their databases.

    :raises stock_moves.UnknownCell: the settings do not name two cells or more.
    """
    moments: list[datetime] = []
    for cell in stock_moves.cells():
        with connections[stock_moves.database_of(cell)].cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            moments += [at for (at,) in cursor.fetchall()]
    return min(moments)


def wait_for_products(product_ids: Sequence[str]) -> None:
    """Wait until replication has brought products to every cell.

    :raises stock_moves.UnknownCell: the settings do not name two cells or more.
    :raises ProductMissing: one is not there in time.
    """
    end = time.monotonic() + ARRIVAL_SECONDS
    for cell in stock_moves.cells():
        while missing := set(product_ids) - _known(cell, product_ids):
            if time.monotonic() > end:
                raise ProductMissing(f"{min(missing)} has not reached cell {cell}, so no stock was reported. Run the command again.")
            time.sleep(0.1)


def _known(cell: int, product_ids: Iterable[str]) -> set[str]:
    with connections[stock_moves.database_of(cell)].cursor() as cursor:
        cursor.execute(READ_KNOWN, [list(product_ids)])
        return {product_id for (product_id,) in cursor.fetchall()}


def report_to_all_cells(
    *,
    reports: Mapping[str, int | None],
    as_of: datetime,
    equally: bool,
    within: timedelta,
    reason: str,
    actor: Actor,
    dry_run: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> DividedReport:
    """Divide a report of unsold pieces among all cells, by the rate of sale in each, and apply each part.

    Every cell must answer: what one holds is part of the report. Safe to repeat with the same moment, also after it was killed. See Note
    [First less, then more]. Locks the stock rows of a batch in one cell at a time, by primary key.

    :param reports: unsold pieces in all cells together, held ones included, by product; None makes a product unlimited.
    :param equally: give each cell the same, whatever it sells.
    :param within: how far back sales count.
    :param reason: stored with every adjustment; not empty.
    :param dry_run: measure and divide the products that all cells have, and apply nothing.
    :param advance: called with the number of products of each batch.
    :raises stock_moves.UnknownCell: the settings do not name two cells or more.
    :raises FutureMoment: `as_of` is in the future of a cell.
    :raises SalesPurged: records of sales after `as_of` were purged in a cell.
    """
    done = DividedReport(as_of=as_of)
    cells = stock_moves.cells()
    product_ids = sorted(set(reports).intersection(*(_known(cell, reports) for cell in cells)) if dry_run else reports)
    for start in range(0, len(product_ids), BATCH):
        batch = _Batch({product_id: reports[product_id] for product_id in product_ids[start : start + BATCH]}, cells, as_of, reason, actor)
        batch.leave_out_older(done)
        sold = {} if equally else read_levels(cells, within=within, product_ids=list(batch.counted))
        batch.divide(sold)
        if not dry_run:
            batch.apply()
            _cover_shortfalls(cells, list(batch.counted), within=within, reason=reason, actor=actor)
        done.shares.update(batch.shares)
        done.unlimited.extend(batch.unlimited)
        advance(len(product_ids[start : start + BATCH]))
    return done


def _cover_shortfalls(cells: Sequence[int], product_ids: Sequence[str], *, within: timedelta, reason: str, actor: Actor) -> None:
    """Cover the shortfall of a cell with pieces of the others."""
    levels = read_levels(cells, within=within, product_ids=product_ids)
    short = [product_id for product_id, found in levels.items() if min(found.values()).free < 0 < max(found.values()).free]
    if short:
        rebalance(within=within, max_moves=len(short) * len(cells), product_ids=short, reason=reason, actor=actor)


class _Batch:
    """The reports of some products, on their way to all cells.

    :ivar needs: what each cell holds and has sold since the moment, by product and cell; below zero where moves have brought pieces since.
    :ivar free: what each cell can sell now; missing where the product is not limited.
    :ivar shares: what is reported to each cell.
    """

    def __init__(self, reports: Mapping[str, int | None], cells: Sequence[int], as_of: datetime, reason: str, actor: Actor) -> None:
        self.cells, self.as_of, self.reason, self.actor = cells, as_of, reason, actor
        self.counted = {product_id: unsold for product_id, unsold in reports.items() if unsold is not None}
        self.unlimited = [product_id for product_id, unsold in reports.items() if unsold is None]
        self.needs: dict[str, Division] = {product_id: {} for product_id in self.counted}
        self.free: dict[str, Division] = {product_id: {} for product_id in self.counted}
        self.shares: dict[str, Division] = {}
        self._weights: dict[str, dict[int, int]] = {}

    def leave_out_older(self, done: DividedReport) -> None:
        """Leave out the products of which a cell has a later report: parts of two reports must not mix."""
        older: set[str] = set()
        for cell in self.cells:
            with connections[stock_moves.database_of(cell)].cursor() as cursor:
                cursor.execute(READ_STOCK, [self.as_of, [*self.counted, *self.unlimited]])
                for product_id, limited, free, is_later in cursor.fetchall():
                    if is_later:
                        older.add(product_id)
                    elif limited and product_id in self.free:
                        self.free[product_id][cell] = free
        done.older.extend(sorted(older))
        self.counted = {product_id: unsold for product_id, unsold in self.counted.items() if product_id not in older}
        self.unlimited = [product_id for product_id in self.unlimited if product_id not in older]

    def divide(self, sold: Mapping[str, Mapping[int, Level]]) -> None:
        """Measure what each cell needs, and divide the rest."""
        for cell in self.cells:
            with transaction.atomic(using=stock_moves.database_of(cell), durable=True):
                self._measure(cell, self.counted)
        for product_id, unsold in self.counted.items():
            levels = sold.get(product_id, {})
            weights = shares.weigh([levels.get(cell, Level(0, 0)).sold for cell in self.cells])
            self._weights[product_id] = dict(zip(self.cells, weights, strict=True))
            self.shares[product_id] = self._divide(product_id, unsold, self.cells)

    def apply(self) -> None:
        """Report to each cell: first where it leaves fewer pieces than now, then the rest."""
        fewer = {cell: [product_id for product_id in self.counted if self._leaves_fewer(product_id, cell)] for cell in self.cells}
        taken = dict.fromkeys(self.counted, 0)
        for number, cell in enumerate(self.cells):
            with transaction.atomic(using=stock_moves.database_of(cell), durable=True):
                planned = {product_id: self.needs[product_id][cell] for product_id in fewer[cell]}
                self._measure(cell, fewer[cell])
                for product_id in fewer[cell]:
                    later = [other for other in self.cells if other in self.cells[number + 1 :] or product_id not in fewer[other]]
                    taken[product_id] = self._follow_need(product_id, cell, planned[product_id], later, taken[product_id])
                self._report(cell, fewer[cell])
        for product_id, unsold in self.counted.items():
            others = [cell for cell in self.cells if product_id not in fewer[cell]]
            given = sum(self.shares[product_id][cell] for cell in self.cells if cell not in others)
            self.shares[product_id].update(self._divide(product_id, max(unsold - given, 0), others))
        for cell in self.cells:
            with transaction.atomic(using=stock_moves.database_of(cell), durable=True):
                self._report(cell, [product_id for product_id in self.counted if product_id not in fewer[cell]])
                self._set_unsold(cell, dict.fromkeys(self.unlimited))

    def _follow_need(self, product_id: str, cell: int, planned: int, later: Sequence[int], taken: int) -> int:
        """Raise the share of a cell by what its need has grown beyond it, or lower it by what earlier cells have taken.

        :param planned: its need when the pieces were divided.
        :param later: the cells that get their report later, and can give.
        :param taken: pieces that earlier cells have taken from later ones.
        :returns: the new value of `taken`.
        """
        share, need = self.shares[product_id], self.needs[product_id][cell]
        grown = max(need - share[cell], 0) - max(planned - share[cell], 0)
        if grown > 0:
            spare = sum(max(share[other] - self.needs[product_id][other], 0) for other in later) - taken
            change = min(grown, max(spare, 0))
        else:
            change = -min(taken, max(share[cell] - need, 0))
        share[cell] += change
        return taken + change

    def _leaves_fewer(self, product_id: str, cell: int) -> bool:
        free = self.free[product_id].get(cell)
        return free is None or self.shares[product_id][cell] - self.needs[product_id][cell] < free

    def _divide(self, product_id: str, unsold: int, cells: Sequence[int]) -> Division:
        """Give each cell what it needs and its part of the rest; of too few pieces, parts by their needs."""
        if not cells:
            return {}
        needs = {cell: self.needs[product_id][cell] for cell in cells}
        wanted = {cell: max(need, 0) for cell, need in needs.items()}
        if sum(wanted.values()) > unsold:
            return dict(zip(cells, shares.divide(unsold, [max(wanted[cell], 0) for cell in cells]), strict=True))
        rest = unsold - sum(needs.values())
        weights = [self._weights[product_id][cell] for cell in cells]
        parts = shares.divide(rest, weights, least=[max(-needs[cell], 0) for cell in cells])
        return {cell: needs[cell] + part for cell, part in zip(cells, parts, strict=True)}

    def _measure(self, cell: int, product_ids: Iterable[str]) -> None:
        """Measure what a cell needs: apply the reports, read what they leave, and roll them back. The rows stay locked."""
        chosen = {product_id: self.counted[product_id] for product_id in product_ids}
        if not chosen:
            return
        database = stock_moves.database_of(cell)
        supply.lock_supply(chosen, using=database)
        before = transaction.savepoint(using=database)
        self._set_unsold(cell, chosen)
        with connections[database].cursor() as cursor:
            cursor.execute(READ_STOCK, [self.as_of, list(chosen)])
            for product_id, _, free, _ in cursor.fetchall():
                self.needs[product_id][cell] = chosen[product_id] - free
        transaction.savepoint_rollback(before, using=database)

    def _report(self, cell: int, product_ids: Iterable[str]) -> None:
        self._set_unsold(cell, {product_id: self.shares[product_id][cell] for product_id in product_ids})

    def _set_unsold(self, cell: int, reports: Mapping[str, int | None]) -> None:
        if reports:
            database = stock_moves.database_of(cell)
            supply.set_unsold(reports=reports, as_of=self.as_of, reason=self.reason, actor=self.actor, using=database)
