"""`slot_map`: the command for `slot_division.divide` and `slot_division.assign_slots`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

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
        wanted = parser.add_mutually_exclusive_group(required=True)
        wanted.add_argument("--cells", type=bounded_int(minimum=1, maximum=slots.SLOTS), metavar="N", help="How many cells.")
        wanted.add_argument(
            "--slots",
            nargs="+",
            type=bounded_int(minimum=0, maximum=slots.SLOTS - 1),
            metavar="SLOT",
            help="The slots that change, for --to.",
        )
        parser.add_argument(
            "--to", type=bounded_int(minimum=0, maximum=slots.SLOTS), metavar="CELL", help="Their cell; 0: none serves them."
        )
        parser.add_argument("--from", dest="current", metavar="FILE", help="The slot map that is in use.")

    def handle(self, *, cells: int | None, to: int | None, current: str | None, **options: Any) -> None:
        """Print the map."""
        chosen = options["slots"]
        before = slots.read_slot_map(current) if current else None
        if (chosen is None) != (to is None) or (chosen and before is None):
            raise CommandError("--slots, --to and --from belong together.", returncode=2)
        if cells is None and before is not None:
            division = slot_division.assign_slots(before, chosen, to or slots.NO_CELL)
        else:
            division = slot_division.divide(cells or 1, current=before)
        self.print_result(text=slot_division.render_slot_map(division, current=before).rstrip(), slots=list(division))
