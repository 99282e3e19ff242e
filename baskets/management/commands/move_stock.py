"""`move_stock`: the command for `stock_moves.move_stock` and `stock_moves.resume_moves`."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import CommandError

from baskets.domain.actors import Actor
from baskets.domain.cells import stock_moves
from baskets.domain.slots import SLOTS
from baskets.domain.stock.catalog import MAX_PIECES
from baskets.management.arguments import bounded_int, printable_text
from baskets.management.base import ServiceCommand

ACTOR = Actor.system("move_stock")


class Command(ServiceCommand):
    """Move available pieces of a product from one cell to another."""

    help = (
        "Take available pieces of a limited product out of one cell and add them in another, in one transaction each. "
        "BASKETS_CELL_DATABASES names the databases of all cells, in the order of their numbers, separated by spaces. If it ends in "
        "between, no cell sells the pieces until --resume, or the same command with its --id, completes the move."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        cell = bounded_int(minimum=1, maximum=SLOTS)
        parser.add_argument("product", metavar="PRODUCT", nargs="?", help="The product id.")
        parser.add_argument("pieces", metavar="PIECES", nargs="?", type=bounded_int(minimum=1, maximum=MAX_PIECES), help="How many.")
        parser.add_argument("--from", dest="source", metavar="CELL", type=cell, help="The cell that the pieces leave.")
        parser.add_argument("--to", dest="target", metavar="CELL", type=cell, help="The cell that gets them.")
        parser.add_argument("--id", dest="move_id", type=UUID, metavar="UUID", help="Names the move: a repetition does nothing twice.")
        parser.add_argument("--reason", type=printable_text(max_length=400), default="moved between cells", help="Stored in both cells.")
        parser.add_argument("--resume", action="store_true", help="Complete all moves that were left half done, and move nothing else.")

    def handle(self, *, resume: bool, reason: str, dry_run: bool, **options: Any) -> None:
        """Move, or complete what was left open."""
        move = [options[name] for name in ("product", "pieces", "source", "target")]
        if resume:
            if any(move) or options["move_id"]:
                raise CommandError("--resume completes all open moves; it takes no product.", returncode=2)
            self._resume(reason=reason, dry_run=dry_run)
            return
        if not all(move):
            raise CommandError("Give PRODUCT, PIECES, --from and --to; or --resume.", returncode=2)
        product_id, pieces, source, target = move
        move_id = options["move_id"] or uuid4()
        is_new = stock_moves.move_stock(
            move_id=move_id,
            product_id=product_id,
            pieces=pieces,
            source=source,
            target=target,
            reason=reason,
            actor=ACTOR,
            dry_run=dry_run,
        )
        moved = "Would have moved" if dry_run else "Moved" if is_new else "Already moved"
        self.print_result(
            text=f"{moved} {pieces} {product_id} from cell {source} to cell {target}: {move_id}.", move_id=str(move_id), is_new=is_new
        )

    def _resume(self, *, reason: str, dry_run: bool) -> None:
        done = stock_moves.resume_moves(reason=reason, actor=ACTOR, dry_run=dry_run)
        lines = [f"{half.moved:+d} {half.product_id} in cell {half.cell}: {half.move_id}" for half in done]
        self.print_result(
            text="\n".join([f"{'Would have completed' if dry_run else 'Completed'} {len(done)} moves.", *lines]),
            completed=[str(half.move_id) for half in done],
        )
