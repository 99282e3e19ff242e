"""`expire_baskets`: the command for the sweeps in `expiry`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from django.core.management.base import CommandError

from baskets.db.transactions import run_in_transaction
from baskets.domain.access import rate_limits
from baskets.domain.checkout import expiry
from baskets.domain.events import activity
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown


class Sweep(Protocol):
    """A sweep that works in batches."""

    def __call__(self, *, after: expiry.Candidate | None, dry_run: bool) -> expiry.SweepResult:
        """Process the next batch, after a candidate."""


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

    def handle(self, *, dry_run: bool, **_: Any) -> None:
        """Sweep once, and print the totals."""
        with graceful_shutdown() as stop:
            sessions, baskets = run_sweeps(dry_run=dry_run, stop=stop)
            stopped = stop()
        verb = "Would expire" if dry_run else "Expired"
        in_use = sessions.left + baskets.left
        self.print_result(
            text=f"{verb} {sessions.expired} checkouts and {baskets.expired} baskets"
            + (f"; left {in_use} in use for the next run." if in_use else "."),
            checkouts_expired=sessions.expired,
            baskets_expired=baskets.expired,
            left_in_use=in_use,
            stopped=stopped,
        )
        if stopped:
            raise CommandError("Stopped on request after a whole batch; the next run does the rest.")


def run_sweeps(*, dry_run: bool, stop: Callable[[], bool]) -> tuple[SweepTotals, SweepTotals]:
    """Sweep sessions first, because a basket with an active checkout does not expire; then delete and count what the sweep keeps in order.

    :param stop: whether to stop after the current batch.
    :returns: the totals of the checkouts, and of the baskets.
    """
    sessions = _run_sweep("checkouts", expiry.sweep_sessions, dry_run=dry_run, stop=stop)
    baskets = _run_sweep("baskets", expiry.sweep_baskets, dry_run=dry_run, stop=stop)
    if not dry_run:
        rate_limits.delete_ended_windows()
        activity.count_events(stop=stop)
        if not stop():
            run_in_transaction(activity.record_sweep)
    return sessions, baskets


def _run_sweep(what: str, sweep: Sweep, *, dry_run: bool, stop: Callable[[], bool]) -> SweepTotals:
    """Process every candidate once, the longest expired first."""
    swept, after = SweepTotals(), None
    with progress(doing=f"Expiring {what}", total=None, unit=what) as advance:
        while not stop():
            batch = sweep(after=after, dry_run=dry_run)
            swept.expired += batch.expired
            swept.left += batch.found - batch.expired
            advance(batch.found)
            if (after := batch.last) is None:
                break
    return swept
