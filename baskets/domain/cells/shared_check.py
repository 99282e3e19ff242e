"""Compares what cells share: that all follow the publisher and have its rows, and that a product is limited in all or in none."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections
from psycopg import sql

from baskets.db.limits import client_waits
from baskets.domain.cells import replication, stock_moves
from baskets.domain.cells.replication import SHARED, SharedTable
from baskets.domain.maintenance.invariant_checker import MAX_EXAMPLES, Finding
from baskets.domain.maintenance.invariants.invariant import Invariant
from baskets.models.products import SANDBOX_PREFIX

# What has been committed by the publisher may still be on its way, and PostgreSQL connects a cell again after 5 s.
ARRIVAL_SECONDS = 10.0
LIMITED_ALIKE = Invariant(
    slug="limited_in_all_cells_or_none",
    rule=1,
    sentence="A product that one cell counts is counted by all: a cell without a stock row would sell it without end.",
    sql="",  # The rows are in different databases, here and below.
)
FOLLOWING = Invariant(
    slug="cells_follow_the_publisher",
    rule=3,
    sentence="Every cell follows the one that publishes the catalog, partners, keys and staff.",
    sql="",
)
EQUAL = Invariant(
    slug="shared_rows_are_equal",
    rule=3,
    sentence="Every cell has the rows that the publisher has, and no others.",
    sql="",
)
INVARIANTS = (LIMITED_ALIKE, FOLLOWING, EQUAL)
READ_LIMITED = """
SELECT p.product_id, coalesce(s.limited, false) FROM baskets_product p LEFT JOIN baskets_stock s USING (product_id)
WHERE NOT starts_with(p.product_id, %s)
"""
READ_ACTIVE_SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE active AND database = current_database()"


def find_differences(cells: Sequence[int]) -> list[Finding]:
    """Compare all cells. Without a publisher, only what is limited is compared.

    :returns: the violations; examples name tables and keys, never contents.
    """
    with client_waits(statement_seconds=None):
        found = {LIMITED_ALIKE: _limited_differently(cells)}
        if publisher := replication.find_publisher(cells):
            others = [cell for cell in cells if cell != publisher]
            found[FOLLOWING] = _not_following(others, publisher)
            found[EQUAL] = [example for cell in others for example in _differing_rows(cell, publisher)]
    return [Finding(invariant=invariant, total=len(rows), examples=rows[:MAX_EXAMPLES]) for invariant, rows in found.items() if rows]


def _limited_differently(cells: Sequence[int]) -> list[dict[str, Any]]:
    limited: dict[str, dict[int, bool]] = {}
    for cell in cells:
        for product_id, is_limited in _read(cell, READ_LIMITED, [SANDBOX_PREFIX]):
            limited.setdefault(product_id, {})[cell] = is_limited
    return [
        {"product": product_id, "unlimited_in": [cell for cell, is_limited in by_cell.items() if not is_limited]}
        for product_id, by_cell in sorted(limited.items())
        if len(set(by_cell.values())) > 1
    ]


def _not_following(cells: Sequence[int], publisher: int) -> list[dict[str, Any]]:
    """Find the cells that are not connected to the publisher, nor within the time that PostgreSQL needs to connect again."""
    end = time.monotonic() + ARRIVAL_SECONDS
    while True:
        active = {name for (name,) in _read(publisher, READ_ACTIVE_SLOTS)}
        missing = [cell for cell in cells if replication.slot_name(cell) not in active]
        if not missing or time.monotonic() > end:
            return [{"cell": cell, "publisher": publisher} for cell in missing]
        time.sleep(0.2)


def _differing_rows(cell: int, publisher: int) -> list[dict[str, Any]]:
    """Compare every shared table; look again at one that differs, until its changes had time to arrive."""
    end = time.monotonic() + ARRIVAL_SECONDS
    examples = []
    for shared in SHARED:
        while keys := _differing_keys(shared, cell, publisher):
            if time.monotonic() > end:
                examples += [{"cell": cell, "table": shared.name, "key": key} for key in keys]
                break
            time.sleep(0.2)
    return examples


def _differing_keys(shared: SharedTable, cell: int, publisher: int) -> list[str]:
    here, there = (_digests(shared, number) for number in (cell, publisher))
    return sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))


def _digests(shared: SharedTable, cell: int) -> Mapping[str, str]:
    """Compute a digest of the published columns of each row, by its key. What each cell also writes is left out."""
    compared = [sql.Identifier(column) for column in shared.columns if column not in shared.touched]
    statement = sql.SQL("SELECT {key}::text, md5(ROW({columns})::text) FROM {table}").format(
        key=sql.Identifier(shared.key), columns=sql.SQL(", ").join(compared), table=sql.Identifier(shared.name)
    )
    return dict(_read(cell, statement))


def _read(cell: int, statement: str | sql.Composed, values: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
    with connections[stock_moves.database_of(cell)].cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
