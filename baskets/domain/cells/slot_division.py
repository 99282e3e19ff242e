"""Divides the slots among cells, writes the map file of a division, and makes the database of a cell refuse other slots."""

from collections import Counter
from collections.abc import Sequence

from django.db import connection, transaction

from baskets.domain import slots
from baskets.models import Basket

TABLE = Basket._meta.db_table  # noqa: SLF001 (Django documents `_meta`)


def divide(cells: int, *, current: Sequence[int] | None = None) -> tuple[int, ...]:
    """Divide the slots evenly among cells, and move as few as possible.

    With a further cell each of the others gives up slots, and nothing moves between those.

    :param cells: how many cells there will be, from 1 to `SLOTS`.
    :param current: the cell of each slot now; None: no slot has a cell.
    :returns: the cell of each slot.

    >>> Counter(divide(3))
    Counter({1: 22, 2: 21, 3: 21})
    """
    division = list(current or [slots.NO_CELL] * slots.SLOTS)
    # Cells with more slots keep the larger shares, so that fewer slots move.
    size = Counter(division)
    by_size = sorted(range(1, cells + 1), key=lambda cell: (-size[cell], cell))
    share = {cell: slots.SLOTS // cells + (place < slots.SLOTS % cells) for place, cell in enumerate(by_size)}
    free = []
    for slot, cell in enumerate(division):
        if share.get(cell, 0) > 0:
            share[cell] -= 1
        else:
            free.append(slot)
    missing = [cell for cell in sorted(share) for _ in range(share[cell])]
    for slot, cell in zip(free, missing, strict=True):
        division[slot] = cell
    return tuple(division)


def render_slot_map(division: Sequence[int], *, current: Sequence[int] | None = None) -> str:
    """Render a division as a map file of HAProxy.

    :param current: the division before; comments name the slots that move.
    """
    moved = [
        f"# slot {slot} moves from cell {old} to cell {new}"
        for slot, (old, new) in enumerate(zip(current or (), division, strict=False))
        if old != new
    ]
    return "\n".join([*moved, *(f"{slot} {cell}" for slot, cell in enumerate(division))]) + "\n"


@transaction.atomic(durable=True)
def claim_slots(own: Sequence[int] | None) -> int:
    """Make the database refuse to write a basket of any other slot, whatever slot map a process has read.

    Takes an exclusive lock on the table of baskets for a moment. Only the owner of the table can do it.

    :param own: the slots of this cell; None: the installation is whole again, and nothing is refused.
    :returns: how many stored baskets are in other slots.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {slots.SLOT_CONSTRAINT}")
        if own is None:
            return 0
        listed = ", ".join(map(str, own)) or "-1"
        # Not validated: that would read the whole table under the lock. The rows that are there are counted below.
        cursor.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {slots.SLOT_CONSTRAINT} CHECK ({slots.SLOT_SQL} IN ({listed})) NOT VALID")
    return count_foreign_baskets(own)


def count_foreign_baskets(own: Sequence[int]) -> int:
    """Count the stored baskets that are in none of these slots."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE NOT ({slots.SLOT_SQL} = ANY(%s))", [list(own)])  # noqa: S608 (constants of ours)
        ((count,),) = cursor.fetchall()
    return int(count)
