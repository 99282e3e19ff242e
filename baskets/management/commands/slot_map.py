"""`slot_map`: the command for `slot_division.divide` and `slot_division.assign_slots`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from baskets.domain import slots
from baskets.domain.access.partners import partner_and_sandbox
from baskets.domain.cells import slot_division
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand


class Command(ServiceCommand):
    """Print a slot map."""

    help = (
        "Print a slot map, which names the cell of each of the 64 slots of users, for BASKETS_SLOT_MAP and for HAProxy. "
        "With --from, as few slots as possible change their cell. "
        "With --partner, the users of one partner get other cells than those of all others."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--cells", type=bounded_int(minimum=1, maximum=slots.SLOTS), metavar="N", help="How many cells.")
        parser.add_argument(
            "--slots",
            nargs="+",
            type=bounded_int(minimum=0, maximum=slots.SLOTS - 1),
            metavar="SLOT",
            help="The slots that change, for --to.",
        )
        parser.add_argument("--partner", metavar="NAME", help="For --to: only for this partner and its sandbox; without --slots all slots.")
        parser.add_argument(
            "--to", type=bounded_int(minimum=0, maximum=slots.SLOTS), metavar="CELL", help="Their cell; 0: none serves them."
        )
        parser.add_argument("--from", dest="current", metavar="FILE", help="The slot map that is in use.")

    def handle(self, *, cells: int | None, to: int | None, current: str | None, partner: str | None, **options: Any) -> None:
        """Print the map."""
        chosen = options["slots"] or ([] if partner is None else list(range(slots.SLOTS)))
        before = slots.read_slot_map(current) if current else slots.SlotMap()
        if (cells is None) == (to is None) or (to is None) == bool(chosen) or (chosen and not current):
            raise CommandError("Give either --cells, or --to with --from and --slots or --partner.", returncode=2)
        division, apart = before.shared, dict(before.partners)
        if to is None:
            of_partners = {cell for own in apart.values() for cell in own} - set(before.shared)
            if of_partners.issuperset(range(1, (cells or 1) + 1)):
                raise CommandError("These cells serve only partners that are served apart.", returncode=2)
            division = slot_division.divide(cells or 1, current=before.shared or None, without=of_partners)
        elif partner is None:
            division = slot_division.assign_slots(before.shared, chosen, to)
        else:
            apart |= {pk: slot_division.assign_slots(before.of(pk), chosen, to) for pk in partner_and_sandbox(partner)}
        text = slot_division.render_slot_map(division, current=before.shared or None, partners=apart)
        self.print_result(text=text.rstrip(), slots=list(division), **({"partners": apart} if apart else {}))
