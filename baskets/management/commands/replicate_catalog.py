"""`replicate_catalog`: the command for `replication.publish` and `replication.subscribe`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain.actors import Actor
from baskets.domain.cells import replication, stock_moves
from baskets.domain.slots import SLOTS
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand

ACTOR = Actor.system("replicate_catalog")


class Command(ServiceCommand):
    """Let one cell publish the catalog and the access of all cells."""

    help = (
        "Let all cells follow one cell in products, partners, API keys, issuers, signing keys of guests, staff and roles, by PostgreSQL's "
        "logical replication. BASKETS_CELL_DATABASES names the databases of all cells, as the owners of their tables. Changes rows of the "
        "other cells that differ; stock stays what it is in each. Safe to repeat, also after it was killed."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        cell = bounded_int(minimum=1, maximum=SLOTS)
        parser.add_argument("--publisher", type=cell, default=1, metavar="CELL", help="The cell that publishes (default: %(default)s).")
        parser.add_argument("--cell", type=cell, metavar="CELL", help="Only this cell begins to follow, or begins again.")
        parser.add_argument(
            "--connection",
            default="",
            metavar="CONNINFO",
            help="How the servers of the other cells reach the publisher's database, as libpq takes it; by default as this command does.",
        )

    def handle(self, *, publisher: int, cell: int | None, connection: str, **_: Any) -> None:
        """Set the replication up."""
        following = [number for number in stock_moves.cells() if number != publisher and cell in (None, number)]
        stock_moves.database_of(publisher)
        replication.publish(publisher, actor=ACTOR)
        for number in following:
            replication.subscribe(number, publisher=publisher, conninfo=connection, actor=ACTOR)
            self.stderr.write(f"Cell {number} follows cell {publisher}.")
        self.print_result(
            text=f"Cell {publisher} publishes {len(replication.SHARED)} tables to {len(following)} cells.",
            publisher=publisher,
            subscribers=following,
        )
