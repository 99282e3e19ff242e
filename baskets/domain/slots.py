"""The 64 slots of users, and the cell that each slot belongs to. A proxy computes the same slots. See ADR 56.

Without cells (`BASKETS_CELL` is 0) every name belongs here, and nothing is computed.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from baskets import conf
from baskets.domain.errors import Refusal, WrongCell

SLOTS = 64
# The value of a slot that no cell serves, because its baskets are being moved.
NO_CELL = 0
# `slot_of` in PostgreSQL. SHA-256 is what Python, PostgreSQL 15 and the proxy all have.
SLOT_SQL = f"mod(get_byte(sha256(convert_to(user_id, 'UTF8')), 0), {SLOTS})"
# Violated by a call for a user of another cell. It exists in cells only; see `domain.cells.slot_division`.
SLOT_CONSTRAINT = "basket_is_in_a_slot_of_this_cell"


class InvalidSlotMap(Refusal):
    """The file does not name one cell for each slot."""

    reason = "slot_map_invalid"
    message = "The slot map is not valid."


def slot_of(name: str) -> int:
    """Compute the slot of a name: of a user id, or of a token that leads to a user's basket.

    >>> slot_of("demo-anna")
    18
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] % SLOTS


def is_in_this_cell(name: str) -> bool:
    """Return whether this cell serves a name. Without cells it serves all."""
    cell = conf.cell()
    return not cell or _slot_map(conf.slot_map_file())[slot_of(name)] == cell


def has_slots() -> bool:
    """Return whether this cell serves any name: a new cell has no slot yet, and a former one none any more."""
    cell = conf.cell()
    return not cell or cell in _slot_map(conf.slot_map_file())


def generate_in_this_cell(generate: Callable[[], str]) -> str:
    """Generate random names until one belongs to this cell: with N cells, N times on average.

    :param generate: returns another name in each call.
    :raises WrongCell: this cell has no slot.
    """
    if not has_slots():
        raise WrongCell
    while not is_in_this_cell(name := generate()):
        pass
    return name


def read_slot_map(path: str) -> tuple[int, ...]:
    """Read the cell of each slot from a map file of HAProxy: a line `SLOT CELL` for each slot, comments after `#`.

    :returns: 64 cells, by slot; `NO_CELL` where none serves the slot.
    :raises InvalidSlotMap: the file cannot be read, or does not name one cell for each slot.
    """
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError) as error:
        raise InvalidSlotMap(f"The file {path!r} cannot be read ({type(error).__name__}).") from error
    cells: dict[int, int] = {}
    for line in lines:
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 2 or not all(field.isdigit() and len(field) <= 2 for field in fields):
            raise InvalidSlotMap(f"{line[:40]!r} is not a slot and its cell.")
        slot, cell = map(int, fields)
        if slot >= SLOTS or cell > SLOTS or slot in cells:
            raise InvalidSlotMap(f"{line[:40]!r} is out of range, or names a slot again.")
        cells[slot] = cell
    if len(cells) != SLOTS:
        raise InvalidSlotMap(f"The file {path!r} names {len(cells)} of {SLOTS} slots.")
    return tuple(cells[slot] for slot in range(SLOTS))


# A process reads the file once: another division needs another start, as every other setting does.
_slot_map = cache(read_slot_map)
