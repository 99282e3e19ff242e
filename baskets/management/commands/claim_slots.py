"""`claim_slots`: the command for `slot_division.claim_slots`."""

from typing import Any

from baskets import conf
from baskets.domain import slots
from baskets.domain.actors import Actor
from baskets.domain.cells import slot_division
from baskets.management.base import ServiceCommand


class Command(ServiceCommand):
    """Make the database of a cell refuse the users of other cells."""

    help = (
        "Make the database refuse every write for a user of another cell, by BASKETS_CELL and BASKETS_SLOT_MAP; with BASKETS_CELL=0 "
        "it refuses none. Run it as the owner of the tables, after migrate and whenever the slot map has changed."
    )
    supports_dry_run = False

    def handle(self, **_: Any) -> None:
        """Set the constraint and count what is against it."""
        cell = conf.cell()
        own = slots.read_slot_map(conf.slot_map_file()).slots_of(cell) if cell else None
        foreign = slot_division.claim_slots(own, actor=Actor.system("claim_slots"))
        self.print_result(
            text="Every user belongs here." if own is None else f"Cell {cell} has {len(own[None])} slots; {foreign} baskets are in others.",
            cell=cell,
            slots=None if own is None else own[None],
            foreign_baskets=foreign,
        )
