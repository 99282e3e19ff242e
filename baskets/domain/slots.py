"""The 64 slots of users, and the cell that each slot belongs to. A proxy computes the same slots. See ADR 56.

The slot map names the cells of all partners, and may name others for the users of a partner that is served apart from them.
Without cells (`BASKETS_CELL` is 0) every name belongs here, and nothing is computed.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import structlog

from baskets import conf
from baskets.domain.errors import Refusal, WrongCell

log = structlog.get_logger("baskets.cells")

SLOTS = 64
# HAProxy looks a line up by its text, so each number has one spelling.
LINE = re.compile(r"(?:([1-9][0-9]{0,17})/)?(0|[1-9][0-9]?)\s+(0|[1-9][0-9]?)", re.ASCII)
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


@dataclass(frozen=True, kw_only=True)
class SlotMap:
    """The cell of each slot.

    :param shared: by slot, for all partners that are not named; `NO_CELL` where none serves it.
    :param partners: the same for the users of some partners, by the primary key of the partner.
    """

    shared: tuple[int, ...] = ()
    partners: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def of(self, partner_id: int | None) -> tuple[int, ...]:
        """Return the cell of each slot of a partner's users.

        :param partner_id: None: of a partner that is not named.
        """
        return self.partners.get(partner_id, self.shared) if partner_id is not None else self.shared

    def cells_of(self, slot: int) -> set[int]:
        """Return the cells that serve a slot for some partner."""
        return {division[slot] for division in (self.shared, *self.partners.values())} - {NO_CELL}

    def slots_of(self, cell: int) -> dict[int | None, list[int]]:
        """Return the slots of a cell: under None those that are shared, under each partner that is named its own."""
        names = [None, *self.partners]
        return {name: [slot for slot, owner in enumerate(self.of(name)) if owner == cell] for name in names}


def slot_of(name: str) -> int:
    """Compute the slot of a name: of a user id, or of a token that leads to a user's basket.

    >>> slot_of("demo-anna")
    18
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] % SLOTS


def is_in_this_cell(name: str, *, partner_id: int | None = None) -> bool:
    """Return whether this cell serves a name. Without cells it serves all.

    :param partner_id: the partner of the user; None: the cell may serve the name for any partner.
    """
    cell = conf.cell()
    if not cell:
        return True
    return cell in cells_of(name) if partner_id is None else _slot_map().of(partner_id)[slot_of(name)] == cell


def cells_of(name: str) -> set[int]:
    """Return the cells that serve a name, in an installation with cells: one, unless a partner is served apart. None while it is moved."""
    return _slot_map().cells_of(slot_of(name))


def cells() -> set[int]:
    """Return the cells that have slots, in an installation with cells."""
    return {cell for slot in range(SLOTS) for cell in _slot_map().cells_of(slot)}


def has_slots(partner_id: int) -> bool:
    """Return whether this cell serves any user of a partner: a new cell has no slot yet, and a former one none any more."""
    cell = conf.cell()
    return not cell or cell in _slot_map().of(partner_id)


def is_served_apart(partner_id: int) -> bool:
    """Return whether the slot map names the cells of this partner: then the proxy knows its users by a host name of the partner."""
    return bool(conf.cell()) and partner_id in _slot_map().partners


def generate_in_this_cell(generate: Callable[[], str], *, partner_id: int) -> str:
    """Generate random names until one belongs to this cell: with N cells, N times on average.

    :param generate: returns another name in each call.
    :param partner_id: the partner of the user.
    :raises WrongCell: this cell serves no user of the partner.
    """
    if not has_slots(partner_id):
        raise WrongCell
    while not is_in_this_cell(name := generate(), partner_id=partner_id):
        pass
    return name


def read_slot_map(path: str) -> SlotMap:
    """Read the cell of each slot from a map file of HAProxy: a line `SLOT CELL` for each slot, comments in lines that begin with `#`.

    A line `PARTNER/SLOT CELL`, with the primary key of a partner, is about the users of that partner; each has all slots or none.

    :raises InvalidSlotMap: the file cannot be read, or does not name one cell for each slot.
    """
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError) as error:
        raise InvalidSlotMap(f"The file {path!r} cannot be read ({type(error).__name__}).") from error
    divisions: dict[int | None, dict[int, int]] = {None: {}}
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not (found := LINE.fullmatch(text)):
            raise InvalidSlotMap(f"{line[:40]!r} is not a slot and its cell.")
        partner, slot, cell = int(found[1]) if found[1] else None, int(found[2]), int(found[3])
        division = divisions.setdefault(partner, {})
        if slot >= SLOTS or cell > SLOTS or slot in division:
            raise InvalidSlotMap(f"{line[:40]!r} is out of range, or names a slot again.")
        division[slot] = cell
    for partner, division in divisions.items():
        if len(division) != SLOTS:
            of = "" if partner is None else f" of partner {partner}"
            raise InvalidSlotMap(f"The file {path!r} names {len(division)} of {SLOTS} slots{of}.")
    whole = {partner: tuple(division[slot] for slot in range(SLOTS)) for partner, division in divisions.items()}
    return SlotMap(shared=whole[None], partners={partner: division for partner, division in whole.items() if partner is not None})


@dataclass
class _Reader:
    """What a process has read of the slot map, and when it last looked for another version of the file."""

    version: object = None
    looked_at: float = -inf
    slot_map: SlotMap = field(default_factory=SlotMap)


_readers: dict[str, _Reader] = {}


def _slot_map() -> SlotMap:
    """Return the slot map. A process notices another file within `MAX_MAP_AGE_SECONDS`, and keeps its map while it is invalid."""
    path = conf.slot_map_file()
    reader, now = _readers.setdefault(path, _Reader()), time.monotonic()
    if now - reader.looked_at < MAX_MAP_AGE_SECONDS:
        return reader.slot_map
    try:
        status = Path(path).stat()
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != reader.version:
            reader.slot_map, reader.version = read_slot_map(path), version
    except (OSError, InvalidSlotMap) as error:
        if not reader.slot_map.shared:
            raise InvalidSlotMap(f"The file {path!r} cannot be used ({type(error).__name__}).") from error
        log.exception("slot_map_invalid")
    reader.looked_at = now
    return reader.slot_map
