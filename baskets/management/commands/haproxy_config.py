"""`haproxy_config`: the command for `proxy.render_haproxy_config`."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from baskets.domain import slots
from baskets.domain.cells import proxy
from baskets.management.base import ServiceCommand


def addresses(text: str) -> list[str]:
    """Accept `HOST:PORT`, several of them with commas between."""
    found = text.split(",")
    if not all(part.isprintable() and " " not in part and part.rpartition(":")[0] and part.rpartition(":")[2].isdigit() for part in found):
        raise ArgumentTypeError(f"{text[:80]!r} is not HOST:PORT, or several of them with commas between")
    return found


class Command(ServiceCommand):
    """Print the configuration of HAProxy."""

    help = "Print a configuration of HAProxy 2.6 or newer, built with OpenSSL, that sends each call to the cell of its user."
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--slot-map", required=True, metavar="FILE", help="The slot map, as HAProxy will read it.")
        parser.add_argument(
            "--cell",
            action="append",
            required=True,
            type=addresses,
            metavar="HOST:PORT[,HOST:PORT]",
            help="The servers of one cell; once for each cell, in the order of their numbers.",
        )
        parser.add_argument("--bind", default=":8080", help="Where HAProxy listens, with the options of its `bind` (default: %(default)s).")

    def handle(self, *, slot_map: str, cell: list[list[str]], bind: str, **_: Any) -> None:
        """Print the configuration."""
        with_slots = sorted(set(slots.read_slot_map(slot_map)) - {slots.NO_CELL})
        text = proxy.render_haproxy_config(cells=cell, bind=bind, map_file=slot_map, with_slots=with_slots)
        self.print_result(text=text.rstrip(), config=text)
