"""The 64 slots of users, and the cell that each slot belongs to. A proxy computes the same slots. See ADR 56.

Without cells (`BASKETS_CELL` is 0) every name belongs here, and nothing is computed.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import structlog

from baskets import conf
from baskets.domain.errors import Refusal, WrongCell

log = structlog.get_logger("baskets.cells")

SLOTS = 64
# How long a process may serve by a slot map that has been replaced.
MAX_MAP_AGE_SECONDS = 1.0
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
    return not cell or cell_of(name) == cell


def cell_of(name: str) -> int:
    """Return the cell that serves a name, in an installation with cells; `NO_CELL` while its baskets are being moved."""
    return _slot_map(conf.slot_map_file())[slot_of(name)]


def cells() -> set[int]:
    """Return the cells that have slots, in an installation with cells."""
    return set(_slot_map(conf.slot_map_file())) - {NO_CELL}


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


@dataclass
class _Reader:
    """What a process has read of the slot map, and when it last looked for another version of the file."""

    version: object = None
    looked_at: float = -inf
    division: tuple[int, ...] = ()


_readers: dict[str, _Reader] = {}


def _slot_map(path: str) -> tuple[int, ...]:
    """Return the cell of each slot. A process notices another file within `MAX_MAP_AGE_SECONDS`, and keeps its map while it is invalid."""
    reader, now = _readers.setdefault(path, _Reader()), time.monotonic()
    if now - reader.looked_at < MAX_MAP_AGE_SECONDS:
        return reader.division
    try:
        status = Path(path).stat()
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != reader.version:
            reader.division, reader.version = read_slot_map(path), version
    except (OSError, InvalidSlotMap) as error:
        if not reader.division:
            raise InvalidSlotMap(f"The file {path!r} cannot be used ({type(error).__name__}).") from error
        log.exception("slot_map_invalid")
    reader.looked_at = now
    return reader.division
