"""`deliver_webhooks`: the command for `webhook_delivery.deliver_next`. It runs beside the service until SIGTERM."""

import threading
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, connection

from baskets.db.errors import Fault, fault_of
from baskets.domain.events import webhook_delivery
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown

log = structlog.get_logger("baskets.webhooks")

PAUSE_SECONDS = 1.0
MAX_WORKERS = 32


@dataclass(kw_only=True)
class DeliveryTotals:
    """The totals of all workers."""

    delivered: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, turn: webhook_delivery.DeliveryRun) -> None:
        """Add the result of one run."""
        with self.lock:
            self.delivered += turn.delivered
            self.failed += turn.failed


class Command(ServiceCommand):
    """Deliver events to the webhooks of partners."""

    help = (
        "Deliver events to the webhooks of partners, in order and at least once, until SIGTERM or Ctrl-C. "
        "Safe to run several times at once, and to kill."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--once", action="store_true", help="Deliver what is due now and end, for a scheduler.")
        parser.add_argument(
            "--workers",
            type=bounded_int(minimum=1, maximum=MAX_WORKERS),
            default=4,
            metavar="N",
            help="How many webhooks are delivered to at once (default 4); each takes a connection to the database.",
        )

    def handle(self, *, once: bool, workers: int, as_json: bool, **_: Any) -> None:
        """Deliver until a stop signal; with `once`, deliver what is due now."""
        totals = DeliveryTotals()
        with graceful_shutdown() as stop, progress(doing="Delivering", total=None, unit="events") as advance:
            with ThreadPoolExecutor(workers) as pool:
                running = [pool.submit(_work, once=once, stop=stop, totals=totals, advance=advance) for _ in range(workers)]
            for worker in running:
                worker.result()
            stopped = stop()
        self.answer(
            as_json=as_json,
            text=f"Delivered {totals.delivered} events; {totals.failed} tries failed.",
            delivered=totals.delivered,
            failed=totals.failed,
            stopped=stopped,
        )
        if once and totals.failed:
            raise CommandError("Some webhooks failed; they are tried again when their time has come.")


def _work(*, once: bool, stop: Callable[[], bool], totals: DeliveryTotals, advance: Callable[[int], None]) -> None:
    try:
        while not stop():
            turn = _deliver_next(once=once, stop=stop)
            if turn is None:
                if once:
                    return
                threading.Event().wait(PAUSE_SECONDS)
                continue
            totals.add(turn)
            advance(turn.delivered)
    finally:
        connection.close()


def _deliver_next(*, once: bool, stop: Callable[[], bool]) -> webhook_delivery.DeliveryRun | None:
    """Deliver to one webhook. Without `once`, a database error is logged and retried by the caller.

    :returns: None if no webhook has due events, or after a database error.
    """
    try:
        return webhook_delivery.deliver_next(stop=stop)
    except (DatabaseError, InterfaceError) as error:
        if once or fault_of(error) is Fault.INTERNAL:
            raise
        log.warning("webhooks_wait_for_the_database", fault=fault_of(error).name)
        connection.close()
        return None
