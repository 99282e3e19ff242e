"""`slot_map`: the command for `slot_division.divide`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain import slots
from baskets.domain.cells import slot_division
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand


class Command(ServiceCommand):
    """Print a slot map."""

    help = (
        "Print a slot map, which names the cell of each of the 64 slots of users, for BASKETS_SLOT_MAP and for HAProxy. "
        "With --from, as few slots as possible change their cell."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--cells", type=bounded_int(minimum=1, maximum=slots.SLOTS), required=True, metavar="N", help="How many cells.")
        parser.add_argument("--from", dest="current", metavar="FILE", help="The slot map that is in use.")

    def handle(self, *, cells: int, current: str | None, **_: Any) -> None:
        """Print the map."""
        before = slots.read_slot_map(current) if current else None
        division = slot_division.divide(cells, current=before)
        self.print_result(text=slot_division.render_slot_map(division, current=before).rstrip(), slots=list(division))
