"""Finds API keys that may be stolen by the pattern of their checkouts, and undoes their checkouts by repairs.

Each key is compared with all other keys, and with its own past. Nothing happens automatically: an operator decides.
Source: `baskets/docs/adr/0035-limits-against-a-stolen-key.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from django.db import DatabaseError
from django.db.models import QuerySet

from baskets.db.errors import Fault, fault_of
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain import runner, validation
from baskets.domain.actors import Actor
from baskets.domain.support import checkout_repairs, guards
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.wording import sentence
from baskets.models import Basket, CheckoutSession

# --- Finding ----------------------------------------------------------------------

# Each is a sample of bounded size, read from one index (which needs its own condition), so the cost does not grow with a crowd.
LATEST = """
SELECT s.id, s.status FROM baskets_checkoutsession s
WHERE s.started_by_key = k.prefix AND s.started_by_key <> '' AND NOT s.test_mode AND {when}
ORDER BY s.started_at DESC LIMIT %(sample)s
"""
PIECES = """
SELECT count(*) AS checkouts, coalesce(sum(held.pieces), 0)::bigint AS pieces
FROM ({latest}) s
CROSS JOIN LATERAL (
    SELECT sum(r.pieces) AS pieces FROM baskets_stockreservation r
    WHERE r.session_id = s.id AND r.status IN ('HELD', 'SOLD', 'RELEASED')
) held
"""
IN_THE_HOUR = "s.started_at > statement_timestamp() - interval '1 hour'"
# Of each key: the latest checkouts of the hour, those of the hour that had ten minutes to be paid, and those before the hour.
ACTIVITY = Statement(
    "activity",
    f"""
SELECT k.id, k.prefix, p.name, recent.checkouts, recent.pieces, due.checkouts, due.ordered, earlier.checkouts, earlier.pieces
FROM baskets_apikey k
JOIN baskets_partner p ON p.id = k.partner_id AND p.sandbox_of_id IS NULL
CROSS JOIN LATERAL ({PIECES.format(latest=LATEST.format(when=IN_THE_HOUR))}) recent
CROSS JOIN LATERAL (
    SELECT count(*) AS checkouts, count(*) FILTER (WHERE s.status = 'ORDERED') AS ordered
    FROM ({LATEST.format(when=f"{IN_THE_HOUR} AND s.started_at < statement_timestamp() - interval '10 minutes'")}) s
) due
CROSS JOIN LATERAL ({PIECES.format(latest=LATEST.format(when=f"NOT {IN_THE_HOUR}"))}) earlier
WHERE k.revoked_at IS NULL AND recent.checkouts > 0
ORDER BY k.id
""",  # noqa: S608 (its parts are constants)
)
SAMPLE = 500
# A key with fewer pieces, or fewer checkouts that are due, is never called unlike the others.
MIN_PIECES = 100
MIN_DUE = 100
# How many checkouts the others, or the key before, must have to be compared with.
MIN_COMPARED = 20
MIN_PIECES_RATIO = 5
# "Never orders": one in a hundred or fewer, where the others order one in ten or more.
MAX_ORDERED_PERCENT = 1
MIN_ORDERED_PERCENT_OF_OTHERS = 10


@dataclass(frozen=True, kw_only=True)
class KeyActivity:
    """The pattern of the latest checkouts of one key.

    :param checkouts: the number of checkouts in the last hour, at most `SAMPLE`.
    :param pieces: the pieces that they held or sold.
    :param due: the checkouts of the last hour that are at least ten minutes old.
    :param ordered: the number of `due` checkouts that were ordered.
    :param earlier: the number of checkouts before the last hour, at most `SAMPLE`.
    :param earlier_pieces: the pieces that the earlier checkouts held or sold.
    """

    key_id: int
    prefix: str
    partner: str
    checkouts: int
    pieces: int
    due: int
    ordered: int
    earlier: int
    earlier_pieces: int


@dataclass(frozen=True, kw_only=True)
class UnusualKey:
    """A key that differs from all others, and how."""

    activity: KeyActivity
    why: str


def find_unusual_keys() -> list[UnusualKey]:
    """Find the keys whose checkouts differ from those of all other keys, and from their own earlier ones."""
    names = [field.name for field in fields(KeyActivity)]
    return compare_keys([KeyActivity(**dict(zip(names, row, strict=True))) for row in execute(ACTIVITY, {"sample": SAMPLE})])


def compare_keys(keys: Sequence[KeyActivity]) -> list[UnusualKey]:
    """Compare each key with all others together.

    A script shows in two ways, whatever the number of users: it holds many pieces with each checkout, or it never pays.
    """
    found = []
    for key in keys:
        others = [other for other in keys if other is not key]
        usual = max(
            _ratio(sum(other.pieces for other in others), sum(other.checkouts for other in others)),
            _ratio(key.earlier_pieces, key.earlier),
            1.0,
        )
        pieces_per_checkout = key.pieces / key.checkouts
        due = sum(other.due for other in others)
        others_order = 100 * _ratio(sum(other.ordered for other in others), due)
        if key.pieces >= MIN_PIECES and pieces_per_checkout >= MIN_PIECES_RATIO * usual:
            found.append(
                UnusualKey(
                    activity=key,
                    why=sentence("%(pieces).1f pieces a checkout, where %(usual).1f are usual", pieces=pieces_per_checkout, usual=usual),
                )
            )
        elif key.due >= MIN_DUE and 100 * key.ordered <= MAX_ORDERED_PERCENT * key.due and others_order >= MIN_ORDERED_PERCENT_OF_OTHERS:
            why = sentence(
                "%(ordered)s of %(due)s checkouts ordered, where other keys order %(others).0f in 100",
                ordered=key.ordered,
                due=key.due,
                others=others_order,
            )
            found.append(UnusualKey(activity=key, why=why))
    return found


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole >= MIN_COMPARED else 0.0


# --- Undoing ----------------------------------------------------------------------

BATCH = 100


class SessionRepair(Protocol):
    """A domain call that repairs one checkout session."""

    def __call__(self, *, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
        """Execute the repair."""


@dataclass(frozen=True, kw_only=True)
class RepairBatch:
    """The result of one batch.

    :param found: the number of checkouts in the batch.
    :param last: the primary key of the last one; the next batch starts after it.
    :param done: the number of repaired checkouts.
    :param left: the number of checkouts that were in use; the next run finds them again.
    """

    found: int
    last: int
    done: int
    left: int


def started_by(prefix: str) -> QuerySet[CheckoutSession]:
    """The active checkouts that a key has started."""
    return CheckoutSession.objects.active().filter(started_by_key=prefix)


def ordered_by(prefix: str, *, since: datetime) -> QuerySet[CheckoutSession]:
    """The checkouts that a key has reported as ordered since a moment, reversed ones included."""
    # The condition on the empty prefix is the one of the index.
    ordered = CheckoutSession.objects.filter(status=CheckoutSession.Status.ORDERED, finished_by_key=prefix, finished_at__gte=since)
    return ordered.exclude(finished_by_key="")


def release_holds(*, prefix: str, after: int, reason: str, actor: Actor, dry_run: bool = False) -> RepairBatch:
    """Abort some active checkouts that a key has started, each in a separate transaction: their pieces are free at once.

    Safe to repeat and to run in parallel. Locks each basket, then stock rows by primary key.

    :param after: `last` of the previous batch; 0 for the first.
    :param dry_run: whether to roll each repair back.
    """
    return _repair_some(started_by(prefix), checkout_repairs.abort, after=after, reason=reason, actor=actor, dry_run=dry_run)


def reverse_orders(*, prefix: str, since: datetime, after: int, reason: str, actor: Actor, dry_run: bool = False) -> RepairBatch:
    """Reverse some orders that a key has reported, each in a separate transaction: their pieces return as supply.

    An order that was already reversed stays unchanged. Safe to repeat and to run in parallel. Locks each basket, then stock rows.

    :param since: the moment of the first order that may be a thief's.
    """
    orders = ordered_by(prefix, since=since).filter(reversed_at__isnull=True)
    return _repair_some(orders, checkout_repairs.reverse_order, after=after, reason=reason, actor=actor, dry_run=dry_run)


def _repair_some(
    sessions: QuerySet[CheckoutSession], repair: SessionRepair, *, after: int, reason: str, actor: Actor, dry_run: bool
) -> RepairBatch:
    validation.require_reason(reason)
    batch: list[Any] = list(sessions.filter(pk__gt=after).order_by("pk")[:BATCH])
    done = left = 0
    for session in batch:
        # Read per checkout: an earlier repair of this batch may have changed the same basket.
        events = Basket.objects.filter(pk=session.basket_id).values_list("events", flat=True).first()
        call = partial(repair, session=session, expected_events=events or 0, reason=reason, actor=actor)
        try:
            if dry_run:
                guards.dry_run(operation=call, snapshot=lambda: None)
            else:
                runner.run(call)
            done += 1
        except RepairNotApplicable:
            continue  # It has ended or was reversed otherwise.
        except StaleState:
            left += 1
        except DatabaseError as error:
            if fault_of(error) is not Fault.BUSY:
                raise
            left += 1
    return RepairBatch(found=len(batch), last=batch[-1].pk if batch else after, done=done, left=left)
