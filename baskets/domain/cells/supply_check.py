"""Checks all cells: the account of each product in each, the two halves of each move, and what they share. It repairs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connections

from baskets.domain.cells import shared_check, stock_moves
from baskets.domain.maintenance import invariant_checker
from baskets.domain.maintenance.invariant_checker import Finding
from baskets.domain.maintenance.invariants import stock
from baskets.domain.maintenance.invariants.invariant import Invariant

TOTALS = """
SELECT (SELECT coalesce(sum(delta), 0)::bigint FROM baskets_stockadjustment) AS supply,
       (SELECT coalesce(sum(available), 0)::bigint FROM baskets_stock) AS available,
       (SELECT coalesce(sum(pieces), 0)::bigint FROM baskets_stockreservation WHERE status = 'HELD') AS held,
       (SELECT coalesce(sum(pieces), 0)::bigint FROM baskets_stockreservation WHERE status = 'SOLD') AS sold,
       (SELECT coalesce(sum(shortfall), 0)::bigint FROM baskets_stock) AS shortfall
"""
COLUMNS = ("supply", "available", "held", "sold", "shortfall")
MOVES = Invariant(
    slug="moves_have_two_halves",
    rule=1,
    sentence="What one half of a move takes out of a cell, the other half adds in the other, as of the same moment.",
    sql="",  # The halves are in different databases.
)


@dataclass(frozen=True, kw_only=True)
class CellsChecked:
    """The result of a check over all cells.

    :param checked: number of rules, those of each cell counted once.
    :param totals: pieces of all products and cells: `supply`, `available`, `held`, `sold`, `shortfall`, and `moving` between cells.
    """

    cells: int
    checked: int
    findings: list[Finding]
    totals: Mapping[str, int]


def check() -> CellsChecked:
    """Check the rules of stock in each cell, in a snapshot of it, the moves between cells, and that all have the same catalog.

    :raises stock_moves.UnknownCell: the settings do not name two cells or more.
    """
    cells = stock_moves.cells()
    totals = dict.fromkeys(COLUMNS, 0)
    findings = []
    for cell in cells:
        database = stock_moves.database_of(cell)
        with invariant_checker.snapshot(using=database):
            for invariant in stock.INVARIANTS:
                if found := invariant_checker.check_invariant(invariant, using=database):
                    examples = [{"cell": cell} | example for example in found.examples]
                    findings.append(Finding(invariant=invariant, total=found.total, examples=examples))
            with connections[database].cursor() as cursor:
                cursor.execute(TOTALS)
                (row,) = cursor.fetchall()
        for name, pieces in zip(COLUMNS, row, strict=True):
            totals[name] += pieces
    lone = stock_moves.find_lone_halves()
    if wrong := [_example(half) for half in [*lone, *stock_moves.find_unequal_halves()]]:
        findings.append(Finding(invariant=MOVES, total=len(wrong), examples=wrong[: invariant_checker.MAX_EXAMPLES]))
    findings += shared_check.find_differences(cells)
    totals["moving"] = sum(-half.moved for half in lone)
    return CellsChecked(
        cells=len(cells), checked=len(stock.INVARIANTS) + 1 + len(shared_check.INVARIANTS), findings=findings, totals=totals
    )


def _example(half: stock_moves.Half) -> dict[str, Any]:
    return vars(half) | {"move_id": str(half.move_id), "as_of": half.as_of.isoformat()}
