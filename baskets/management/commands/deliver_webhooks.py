"""`deliver_webhooks`: the command for `webhook_delivery.Deliverer`. It runs beside the service until SIGTERM."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from baskets.domain.events import webhook_delivery
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown

MAX_WORKERS = 512


class Command(ServiceCommand):
    """Deliver events to the webhooks of partners."""

    help = (
        "Deliver events to the webhooks of partners, in order for each basket and at least once, until SIGTERM or Ctrl-C. "
        "Safe to run several times at once, and to kill."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--once", action="store_true", help="Deliver what is due now and end, for a scheduler.")
        parser.add_argument(
            "--workers",
            type=bounded_int(minimum=1, maximum=MAX_WORKERS),
            default=128,
            metavar="N",
            help="How many requests are in flight at most (default 128); together they take one connection to the database.",
        )

    def handle(self, *, once: bool, workers: int, **_: Any) -> None:
        """Deliver until a stop signal; with `once`, deliver what is due now."""
        with graceful_shutdown() as stop, progress(doing="Delivering", total=None, unit="events") as advance:
            totals = webhook_delivery.Deliverer(workers=workers).run(once=once, stop=stop, advance=advance)
            stopped = stop()
        self.print_result(
            text=f"Delivered {totals.delivered} events; {totals.failed} tries failed.",
            delivered=totals.delivered,
            failed=totals.failed,
            stopped=stopped,
        )
        if once and totals.failed:
            raise CommandError("Some webhooks failed; they are tried again when their time has come.")
