"""`deliver_webhooks`: the shell of `webhook_delivery.deliver_next`. It runs beside the service until it is told to stop."""

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
    """What all workers have done."""

    delivered: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, turn: webhook_delivery.DeliveryRun) -> None:
        """Count a turn."""
        with self.lock:
            self.delivered += turn.delivered
            self.failed += turn.failed


class Command(ServiceCommand):
    """Deliver events to the webhooks of partners."""

    help = (
        "Deliver events to the webhooks of partners, in order and at least once, until told to stop. "
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
        """Deliver until told to stop, or what is due now."""
        tally = DeliveryTotals()
        with graceful_shutdown() as stop, progress(doing="Delivering", total=None, unit="events") as advance:
            with ThreadPoolExecutor(workers) as pool:
                running = [pool.submit(_work, once=once, stop=stop, tally=tally, advance=advance) for _ in range(workers)]
            for each in running:
                each.result()
            stopped = stop()
        self.answer(
            as_json=as_json,
            text=f"Delivered {tally.delivered} events; {tally.failed} tries failed.",
            delivered=tally.delivered,
            failed=tally.failed,
            stopped=stopped,
        )
        if once and tally.failed:
            raise CommandError("Some webhooks failed; they are tried again when their time has come.")


def _work(*, once: bool, stop: Callable[[], bool], tally: DeliveryTotals, advance: Callable[[int], None]) -> None:
    try:
        while not stop():
            turn = _deliver_next(once=once, stop=stop)
            if turn is None:
                if once:
                    return
                threading.Event().wait(PAUSE_SECONDS)
                continue
            tally.add(turn)
            advance(turn.delivered)
    finally:
        connection.close()


def _deliver_next(*, once: bool, stop: Callable[[], bool]) -> webhook_delivery.DeliveryRun | None:
    """One turn; a database that is away for a while is waited for, unless somebody waits for the end."""
    try:
        return webhook_delivery.deliver_next(stop=stop)
    except (DatabaseError, InterfaceError) as error:
        if once or fault_of(error) is Fault.INTERNAL:
            raise
        log.warning("webhooks_wait_for_the_database", fault=fault_of(error).name)
        connection.close()
        return None
