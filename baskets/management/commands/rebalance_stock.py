"""`rebalance_stock`: the command for `rebalancing.rebalance`."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from baskets.domain.actors import Actor
from baskets.domain.cells import rebalancing
from baskets.management.arguments import bounded_int, printable_text
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress

ACTOR = Actor.system("rebalance_stock")
MAX_MOVES = 1000


class Command(ServiceCommand):
    """Move pieces to the cells that sell them."""

    help = (
        "Move available pieces to cells that have less than half of the share that their sales give them, and complete moves that were "
        "left half done. Explains each move. Also writes down in each cell what the others have, for its metrics. A cell that does not "
        "answer is left out. Run it on a timer, such as each minute."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("products", metavar="PRODUCT", nargs="*", help="Only these products.")
        parser.add_argument(
            "--sold-hours",
            type=bounded_int(minimum=1, maximum=24 * 365),
            default=24,
            metavar="HOURS",
            help="How far back sales count (default: %(default)s).",
        )
        parser.add_argument(
            "--max-moves",
            type=bounded_int(minimum=0, maximum=1_000_000),
            default=MAX_MOVES,
            metavar="N",
            help="The most urgent moves; the next run makes others (default: %(default)s).",
        )
        parser.add_argument("--reason", type=printable_text(max_length=400), default="rebalanced", help="Stored in both cells.")

    def handle(self, *, products: list[str], sold_hours: int, max_moves: int, reason: str, dry_run: bool, **_: Any) -> None:
        """Move, and say why."""
        with progress(doing="Moving", total=None, unit="moves") as advance:
            done = rebalancing.rebalance(
                within=timedelta(hours=sold_hours),
                max_moves=max_moves,
                product_ids=products or None,
                reason=reason,
                actor=ACTOR,
                dry_run=dry_run,
                advance=advance,
            )
        would = "Would have moved" if dry_run else "Moved"
        cells, pieces = ", ".join(map(str, done.cells)), sum(move.pieces for move in done.moved)
        lines = [
            f"{would} {pieces} pieces in {len(done.moved)} moves between cells {cells}; sales of {sold_hours} h count.",
            *map(str, done.moved),
            *(f"not moved, sold in the meantime: {move}" for move in done.refused),
        ]
        if done.resumed:
            lines.append(f"{done.resumed} moves that were left half done {'would have been' if dry_run else 'were'} completed.")
        if done.left:
            lines.append(f"{done.left} more moves are left to the next run.")
        self.print_result(
            text="\n".join(lines),
            cells=list(done.cells),
            moved=[{"product": move.product_id, "pieces": move.pieces, "from": move.source, "to": move.target} for move in done.moved],
            refused=len(done.refused),
            resumed=done.resumed,
            left=done.left,
        )
