"""`revoke_api_key`: the command for `api_keys.revoke_api_key`, and for `key_misuse`, which undoes what a stolen key did."""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.core.management.base import CommandError

from baskets.domain import validation
from baskets.domain.access import api_keys
from baskets.domain.actors import Actor
from baskets.domain.support import key_misuse
from baskets.management.arguments import api_key_prefix, aware_datetime, printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown

ACTOR = Actor.system("revoke_api_key")
# Running calls may still commit after the revocation, and locked baskets become free.
PASSES = 3


class Command(ServiceCommand):
    """Revoke an API key."""

    help = (
        "Revoke an API key at once, and perhaps undo what it did. Safe to repeat and to run in parallel: a key stays revoked since the "
        "first time, a checkout is aborted once, an order is reversed once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("prefix", type=api_key_prefix, help="The part of the key between its two underscores.")
        parser.add_argument(
            "--release-holds",
            action="store_true",
            help="Abort the active checkouts that the key started, of honest users too: their pieces are free at once.",
        )
        parser.add_argument(
            "--reverse-orders-since",
            type=aware_datetime,
            metavar="TIME",
            help="Reverse the orders that the key has reported since then, of honest users too: their pieces return as supply.",
        )
        parser.add_argument(
            "--reason",
            type=printable_text(max_length=validation.REASON_LIMIT),
            default="API key revoked",
            metavar="TEXT",
            help="Why, as timelines and the audit log say it; left out: API key revoked.",
        )

    def handle(
        self,
        *,
        prefix: str,
        release_holds: bool,
        reverse_orders_since: datetime | None,
        reason: str,
        dry_run: bool,
        **_: Any,
    ) -> None:
        """Revoke the key, undo what the options name, and print the totals."""
        with dry_run_transaction(dry_run=dry_run):
            key = api_keys.revoke_api_key(prefix=prefix, reason=reason, actor=ACTOR)
        assert key.revoked_at is not None  # noqa: S101 (the call above has set it)
        data: dict[str, Any] = {"prefix": prefix, "partner": key.partner.name, "revoked_at": key.revoked_at.isoformat()}
        text = [
            f"Would revoke key {prefix} of partner {key.partner.name!r}."
            if dry_run
            else f"Key {prefix} of partner {key.partner.name!r} is revoked since {key.revoked_at.isoformat()}."
        ]
        passes = 1 if dry_run else PASSES
        with graceful_shutdown() as stop:
            if release_holds:
                release = partial(key_misuse.release_holds, prefix=prefix, reason=reason, actor=ACTOR, dry_run=dry_run)
                aborted = _repair_in_passes("checkouts", release, passes=passes, stop=stop)
                data |= {"checkouts_aborted": aborted.done, "checkouts_left_in_use": aborted.left}
                text.append(f"{'Would abort' if dry_run else 'Aborted'} {aborted.done} checkouts{_left(aborted)}.")
            if reverse_orders_since:
                reverse = partial(
                    key_misuse.reverse_orders, prefix=prefix, since=reverse_orders_since, reason=reason, actor=ACTOR, dry_run=dry_run
                )
                orders = _repair_in_passes("orders", reverse, passes=passes, stop=stop)
                data |= {"orders_reversed": orders.done, "orders_left_in_use": orders.left}
                text.append(f"{'Would reverse' if dry_run else 'Reversed'} {orders.done} orders{_left(orders)}.")
            stopped = stop()
        self.print_result(text=" ".join(text), **data)
        if stopped:
            raise CommandError("Stopped on request after a whole batch; the next run does the rest.")


@dataclass(kw_only=True)
class RepairTotals:
    """The totals of a repair. `left` counts checkouts that were locked and are left for the next run."""

    done: int = 0
    left: int = 0


def _left(totals: RepairTotals) -> str:
    return f", and left {totals.left} in use for the next run" if totals.left else ""


def _repair_in_passes(
    what: str, repair_batch: Callable[..., key_misuse.RepairBatch], *, passes: int, stop: Callable[[], bool]
) -> RepairTotals:
    """Repair all checkouts in batches, in at most so many passes: a further pass follows while some are left or new."""
    totals = RepairTotals()
    with progress(doing=f"Undoing {what}", total=None, unit=what) as advance:
        for _ in range(passes):
            after, done, totals.left = 0, 0, 0
            while not stop():
                batch = repair_batch(after=after)
                if not batch.found:
                    break
                after = batch.last
                done += batch.done
                totals.left += batch.left
                advance(batch.found)
            totals.done += done
            if stop() or not (done or totals.left):
                break
    return totals
