"""`haproxy_config`: the command for `proxy.render_haproxy_config`."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from baskets.domain import slots
from baskets.domain.access.partners import partner_and_sandbox
from baskets.domain.cells import proxy
from baskets.management.base import ServiceCommand

HOST = re.compile(r"[a-z0-9.-]+", re.ASCII)


def addresses(text: str) -> list[str]:
    """Accept `HOST:PORT`, several of them with commas between."""
    found = text.split(",")
    if not all(part.isprintable() and " " not in part and part.rpartition(":")[0] and part.rpartition(":")[2].isdigit() for part in found):
        raise ArgumentTypeError(f"{text[:80]!r} is not HOST:PORT, or several of them with commas between")
    return found


def partner_host(text: str) -> tuple[str, str]:
    """Accept `HOST=NAME`."""
    host, _, name = text.partition("=")
    if not name or not HOST.fullmatch(host):
        raise ArgumentTypeError(f"{text[:80]!r} is not HOST=NAME, with the host in small letters")
    return host, name


def _cells(division: Sequence[int]) -> list[int]:
    return sorted(set(division) - {slots.NO_CELL})


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
        parser.add_argument(
            "--partner",
            action="append",
            default=[],
            type=partner_host,
            metavar="HOST=NAME",
            help="The host name of a partner to which the slot map gives other cells; once for each of them.",
        )
        parser.add_argument("--bind", default=":8080", help="Where HAProxy listens, with the options of its `bind` (default: %(default)s).")

    def handle(self, *, slot_map: str, cell: list[list[str]], bind: str, partner: list[tuple[str, str]], **_: Any) -> None:
        """Print the configuration."""
        division = slots.read_slot_map(slot_map)
        hosts = {host: partner_and_sandbox(name)[0] for host, name in partner}
        if shared := [name for host, name in partner if hosts[host] not in division.partners]:
            raise CommandError(f"The slot map has no separate cells for {shared[0]}.", returncode=2)
        text = proxy.render_haproxy_config(
            cells=cell,
            bind=bind,
            map_file=slot_map,
            with_slots=_cells(division.shared),
            partner_hosts=hosts,
            with_slots_of={number: _cells(division.of(number)) for number in hosts.values()},
        )
        self.print_result(text=text.rstrip(), config=text)
