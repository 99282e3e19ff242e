"""`expire_baskets`: the command for the sweeps in `expiry`."""

import threading
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from django.core.management.base import CommandError
from django.db import OperationalError, connection

from baskets.db.transactions import run_in_transaction
from baskets.domain.access import rate_limits
from baskets.domain.checkout import expiry
from baskets.domain.events import activity
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand, counted
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown

log = structlog.get_logger("baskets.commands")

WORKERS = 2
MAX_WORKERS = 16


class Sweep(Protocol):
    """A sweep that works in batches."""

    def __call__(self, *, cursor: expiry.SweepCursor, dry_run: bool) -> expiry.SweepResult:
        """Process the next batch."""


@dataclass(kw_only=True)
class SweepTotals:
    """The totals of one sweep.

    :param left: candidates that were locked, or no longer due when they were locked.
    """

    expired: int = 0
    left: int = 0


class Command(ServiceCommand):
    """Expire lapsed checkouts and old baskets."""

    help = (
        "Expire lapsed checkouts, then baskets past their time, in batches, each in its own transaction. "
        "Safe to run twice, in parallel, and to stop: a finished batch stays finished."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--workers",
            type=bounded_int(minimum=1, maximum=MAX_WORKERS),
            default=WORKERS,
            metavar="N",
            help=f"How many batches are processed at a time, each on its own connection, while there is a backlog (default {WORKERS}).",
        )

    def handle(self, *, dry_run: bool, workers: int, **_: Any) -> None:
        """Sweep once, and print the totals."""
        with graceful_shutdown() as stop:
            sessions, baskets = run_sweeps(dry_run=dry_run, stop=stop, workers=workers)
            stopped = stop()
        verb = "Would expire" if dry_run else "Expired"
        in_use = sessions.left + baskets.left
        self.print_result(
            text=f"{verb} {counted(sessions.expired, 'checkout')} and {counted(baskets.expired, 'basket')}"
            + (f"; left {in_use} in use for the next run." if in_use else "."),
            checkouts_expired=sessions.expired,
            baskets_expired=baskets.expired,
            left_in_use=in_use,
            stopped=stopped,
        )
        if stopped:
            raise CommandError("Stopped on request after a whole batch; the next run does the rest.")


def run_sweeps(*, dry_run: bool, stop: Callable[[], bool], workers: int = WORKERS) -> tuple[SweepTotals, SweepTotals]:
    """Sweep sessions first, because a basket with an active checkout does not expire; then delete and count what the sweep keeps in order.

    :param stop: whether to stop after the current batches.
    :param workers: how many batches are processed at a time, if the database accepts as many connections.
    :returns: the totals of the checkouts, and of the baskets.
    """
    sessions = _run_sweep("checkouts", expiry.sweep_sessions, dry_run=dry_run, stop=stop, workers=workers)
    baskets = _run_sweep("baskets", expiry.sweep_baskets, dry_run=dry_run, stop=stop, workers=workers)
    if not dry_run:
        rate_limits.delete_ended_windows()
        activity.count_events(stop=stop)
        if not stop():
            run_in_transaction(activity.record_sweep)
    return sessions, baskets


def _run_sweep(what: str, sweep: Sweep, *, dry_run: bool, stop: Callable[[], bool], workers: int) -> SweepTotals:
    """Process every candidate once, the longest expired first. Only a sweep of more than one batch uses other workers."""
    swept, cursor, counting = SweepTotals(), expiry.SweepCursor(), threading.Lock()

    def process_batch() -> None:
        batch = sweep(cursor=cursor, dry_run=dry_run)
        with counting:
            swept.expired += batch.expired
            swept.left += batch.found - batch.expired
            advance(batch.found)

    def process_rest() -> None:
        try:
            while not (stop() or cursor.ended):
                process_batch()
        finally:
            cursor.ended = True  # After an error the others stop, too.

    with progress(doing=f"Expiring {what}", total=None, unit=what) as advance, ThreadPoolExecutor(workers) as others:
        if not stop():
            process_batch()
        started = [others.submit(_on_own_connection, process_rest) for _ in range(workers - 1) if not (stop() or cursor.ended)]
        process_rest()
        for other in started:
            other.result()
    return swept


def _on_own_connection(work: Callable[[], None]) -> None:
    """Work in another thread, on its connection, which is closed at the end.

    If the database refuses that connection, for example because the role may open only one, the others do the work.
    """
    try:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            # The refusal of a connection has no SQLSTATE, and its text quotes no rows.
            log.warning("sweep_worker_refused", problem=str(error).strip())
        else:
            work()
    finally:
        connection.close()
