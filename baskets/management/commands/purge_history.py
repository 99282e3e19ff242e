"""`purge_history`: the command for `retention`. Open history stays at any age."""

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log, runner
from baskets.domain.events import activity
from baskets.domain.maintenance import retention
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown
from baskets.models import DeskEntry

DEFAULT_DAYS = 365
MAX_DAYS = 36_500


class Command(ServiceCommand):
    """Remove old history."""

    help = (
        "Remove stored responses past their window, and the history of baskets and ended checkouts that is older than a "
        "retention. Nothing that is open is removed. In batches, each in its own transaction; safe to run "
        "twice, in parallel, and to stop or kill."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--older-than-days",
            type=bounded_int(minimum=1, maximum=MAX_DAYS),
            default=DEFAULT_DAYS,
            metavar="N",
            help=f"The retention of orders, timelines and closed baskets (default {DEFAULT_DAYS}).",
        )

    def handle(self, *, older_than_days: int, dry_run: bool, **_: Any) -> None:
        """Purge stored responses, then history."""
        done = {"answers": 0, "checkouts": 0, "events": 0, "baskets": 0}
        left = 0
        with graceful_shutdown() as stop, progress(doing="Purging", total=None, unit="baskets seen") as advance:
            done["answers"] = _purge_responses(dry_run=dry_run, stop=stop)
            if not dry_run:
                activity.count_events(stop=stop)  # An event without a position is never purged, and a purged one is never counted.
                run_in_transaction(activity.delete_old_counts)
            after = None
            while not stop():
                batch = retention.purge_baskets(older_than=timedelta(days=older_than_days), after=after, dry_run=dry_run)
                if (after := batch.last) is None:
                    break
                for name, count in (("checkouts", batch.sessions), ("events", batch.events), ("baskets", batch.baskets)):
                    done[name] += count
                left += batch.left
                advance(retention.WINDOW)
            stopped = stop()
            if not dry_run:
                data = {**done, "older_than_days": older_than_days}
                runner.run(audit_log.record, kind=DeskEntry.Kind.PURGED, about="basket", data=data, actor=retention.ACTOR)
        summary = ", ".join(f"{count} {name}" for name, count in done.items())
        self.print_result(
            text=f"{'Would purge' if dry_run else 'Purged'} {summary}"
            + (f"; left {left} baskets in use for the next run." if left else "."),
            **done,
            left_in_use=left,
            stopped=stopped,
        )
        if stopped:
            raise CommandError("Stopped on request after a whole batch; the next run does the rest.")


def _purge_responses(*, dry_run: bool, stop: Callable[[], bool]) -> int:
    """Purge stored responses in batches. A dry run counts them at once."""
    purged = 0
    while not stop():
        batch = retention.purge_stored_responses(dry_run=dry_run)
        purged += batch
        if dry_run or not batch:
            break
    return purged
