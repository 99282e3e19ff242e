"""Runs a repair, for real or as a dry run, and turns what stops it into a sentence for staff. Knows no page."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core.languages import Text
from baskets.admin.core.refusals import translated
from baskets.admin.repairs import snapshots
from baskets.admin.repairs.definitions import Operation, R, Repair
from baskets.admin.repairs.snapshots import Difference, Snapshot
from baskets.db import errors
from baskets.domain import runner
from baskets.domain.errors import OutOfStock, Refusal
from baskets.domain.retries import OwnSessionLapsed, StockReclaimable
from baskets.domain.support import guards
from baskets.models import DeskEntry, Event, StockAdjustment, WebhookChange

T = TypeVar("T")

LAPSED = _("Lapsed checkouts block this repair or hold the stock that it needs. They are expired first, then the repair is tried again.")
BUSY = _("The database is busy, or another user is changing the same record. Nothing was done. Try again.")
GONE = _("The record no longer exists.")
OTHER_OUTCOME = _("The stock or the basket is different now, so the outcome would differ from the preview.")


class DatabaseBusy(Exception):
    """The database is busy, and nothing was done."""

    def __str__(self) -> str:
        return str(BUSY)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a dry run has found: either the changes, or the obstacle.

    :param after: what the repair would lead to; empty if there is an obstacle.
    :param obstacle: a refusal of the domain, or the sentence `LAPSED`: the repair is possible, but its outcome is not known yet.
    """

    changes: Sequence[Difference] = ()
    after: Snapshot = field(default_factory=dict)
    obstacle: Refusal | str | None = None


def run(operation: Callable[[], T]) -> T:
    """Run a repair in its transaction.

    :raises Refusal: the domain refuses it.
    :raises DatabaseBusy: the database or a lock is not available in time.
    """
    try:
        return runner.run(operation)
    except (DatabaseError, InterfaceError) as error:
        if errors.fault_of(error) is errors.Fault.INTERNAL:
            raise
        raise DatabaseBusy from error


def preview(repair: Repair[R], record: R, operation: Operation[R]) -> Preview:
    """Run a repair and roll it back."""
    try:
        before, after = guards.dry_run(operation=operation, snapshot=lambda: repair.snapshot(record))
    except Refusal as refusal:
        return Preview(obstacle=refusal)
    except (StockReclaimable, OwnSessionLapsed):
        return Preview(obstacle=str(LAPSED))
    return Preview(changes=snapshots.differences(before, after), after=after)


def outcome_digest(repair: Repair[R], after: Snapshot) -> str:
    """Digest the values that must come out as the preview has shown them, short enough for a form field; empty where there are none."""
    if not repair.confirmed_values or not after:
        return ""
    return hashlib.sha256("\n".join(str(after.get(str(name))) for name in repair.confirmed_values).encode()).hexdigest()


def require_outcome(repair: Repair[R], record: R, confirmed: str) -> None:
    """Require that a repair has led to what its preview has shown.

    :param confirmed: the digest of the preview; empty if the preview had no outcome, because lapsed checkouts had to be expired first.
    :raises StaleState: the outcome differs; the transaction must be rolled back.
    """
    if repair.confirmed_values and confirmed and outcome_digest(repair, repair.snapshot(record)) != confirmed:
        raise guards.StaleState(since=[])


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of a record since its page was shown."""

    at: datetime
    what: str
    actor: str


def changes_since(problem: object, name: Callable[[Event], Text]) -> list[Change]:
    """List what has changed since the page was shown, the oldest first; nothing for a refusal that has another cause.

    :param name: names an event of a timeline.
    """
    since = problem.since if isinstance(problem, guards.StaleState) else ()
    return [
        Change(at=_time_of(change), what=str(name(change) if isinstance(change, Event) else change.get_kind_display()), actor=change.actor)
        for change in since
    ]


def _time_of(change: Event | DeskEntry | StockAdjustment | WebhookChange) -> Any:
    return change.at if isinstance(change, Event | DeskEntry) else change.created_at


def refusal_text(problem: object) -> str:
    """Write a refusal as a sentence; a shortage names its products."""
    if isinstance(problem, guards.StaleState) and not problem.since:
        return f"{translated(problem)} {OTHER_OUTCOME}"
    if isinstance(problem, OutOfStock):
        lines = (
            gettext("%(product)s: %(wanted)s wanted, %(available)s available")
            % {"product": short.product_id, "wanted": short.wanted, "available": short.available}
            for short in problem.shortages
        )
        return f"{translated(problem)} {', '.join(lines)}"
    return translated(problem) if isinstance(problem, Refusal) else str(problem or "")
