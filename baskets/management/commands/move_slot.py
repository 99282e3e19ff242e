"""`move_slot`: the command for `slot_moves.drain_slots` and `slot_moves.move_slots`."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from baskets.domain.access.partners import partner_and_sandbox
from baskets.domain.actors import Actor
from baskets.domain.cells import slot_moves
from baskets.domain.slots import MAX_MAP_AGE_SECONDS, SLOTS
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress

ACTOR = Actor.system("move_slot")
POLL_SECONDS = 2


class Command(ServiceCommand):
    """Move the baskets of slots from this cell to another."""

    help = (
        "Move all baskets of slots, with everything that belongs to them, from this cell to another; with --partner "
        "those of one partner. First --drain lets no checkout start "
        "and waits until none is active; then give the proxy and all services a slot map with 0 for these slots, move them, and give "
        "a map with the new cell. Run it as the owner of the tables. It can be repeated after whatever ended it."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        slot = bounded_int(minimum=0, maximum=SLOTS - 1)
        parser.add_argument("slots", nargs="*", metavar="SLOT", type=slot, help="The slots; none, with --partner: all.")
        parser.add_argument("--partner", metavar="NAME", help="Only the baskets of this partner and its sandbox.")
        parser.add_argument("--to", dest="target", metavar="CELL", type=bounded_int(minimum=1, maximum=SLOTS), help="The other cell.")
        parser.add_argument("--drain", action="store_true", help="Only let no checkout start, and wait until none is active.")
        wait = bounded_int(minimum=0, maximum=24 * 60 * 60)
        parser.add_argument("--wait", type=wait, default=3600, metavar="SECONDS", help="How long --drain waits (default: %(default)s).")

    def handle(self, *, slots: list[int], partner: str | None, target: int | None, drain: bool, wait: int, **_: Any) -> None:
        """Drain, or move."""
        if drain == (target is not None):
            raise CommandError("Give either --to or --drain.", returncode=2)
        if not slots and partner is None:
            raise CommandError("Give slots, or --partner.", returncode=2)
        chosen = partner_and_sandbox(partner) if partner is not None else []
        if target is None:
            self._drain(slots, chosen, wait=wait)
            return
        # Services that still have the former map notice the new one within this time.
        time.sleep(MAX_MAP_AGE_SECONDS)
        moved = slot_moves.move_slots(slots, target=target, partners=chosen, actor=ACTOR)
        stay = f"; {moved.in_checkout} stay until their checkout ends: then move the slots again" if moved.in_checkout else ""
        earlier = f", and completed an earlier move of {moved.completed}" if moved.completed else ""
        self.print_result(
            text=f"Moved {moved.baskets} baskets to cell {target}{earlier}{stay}.",
            baskets=moved.baskets,
            completed=moved.completed,
            in_checkout=moved.in_checkout,
        )
        if moved.in_checkout:
            raise CommandError("The slots have not moved as a whole.")

    def _drain(self, slots: list[int], partners: list[int], *, wait: int) -> None:
        first = active = slot_moves.drain_slots(slots, partners=partners, actor=ACTOR)
        deadline = time.monotonic() + wait
        with progress(doing="Draining", total=first, unit="checkouts") as advance:
            while active and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                before, active = active, slot_moves.count_active(slots or range(SLOTS), partners=partners)
                advance(max(before - active, 0))
        self.print_result(text=f"{active} checkouts are active in these slots, and none starts.", active=active)
        if active:
            raise CommandError("Checkouts are still active.")
