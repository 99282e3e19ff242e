"""Purges old data: stored responses past their window, and the history of baskets and orders past the retention.

# Note [What is purged of a basket]
# The start of its timeline: events older than the retention, up to the first younger one, or the first of a checkout that must
# stay. A checkout is purged with all its events, items, reservations and flags, or not at all. It stays while it is active, while
# it is younger than the retention, while it has an open flag, and while one of its products has a shortfall, which its sold
# pieces explain. A closed basket is deleted with its last event; any other basket keeps the events of its last change. A recorded
# adjustment takes the purged sold pieces off the supply, so that the balance of a product adds up at every commit; a stock
# report about an earlier time is refused.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.actors import Actor
from baskets.domain.events import feed
from baskets.domain.stock import supply
from baskets.models import Basket, IdempotencyRecord

WINDOW = 500
BATCH = 50
RESPONSE_BATCH = 1000
ACTOR = Actor.system("purge_history")
REASON = "sold pieces of purged orders"

# SKIP LOCKED: the statement waits for no row, so the order of its locks does not matter.
PURGE_RESPONSES = Statement(
    "purge_responses",
    """
WITH gone AS (
    SELECT id FROM baskets_idempotencyrecord WHERE created_at <= statement_timestamp() - %s::interval
    ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
)
DELETE FROM baskets_idempotencyrecord r USING gone WHERE r.id = gone.id
RETURNING r.id
""",
)
NEXT_BASKETS = Statement("next_baskets", "SELECT id FROM baskets_basket WHERE id > %s::uuid ORDER BY id LIMIT %s")
# A basket has something to purge only if its oldest event is old, or if it has no event.
DUE_BASKETS = Statement(
    "due_baskets",
    """
SELECT b.id FROM baskets_basket b
LEFT JOIN baskets_event e ON e.basket_id = b.id AND e.number = b.events_purged + 1
WHERE b.id = ANY(%s::uuid[]) AND coalesce(e.at, b.hidden_at) < statement_timestamp() - %s::interval
ORDER BY b.id
""",
)
TIMELINES = Statement(
    "timelines",
    """
SELECT b.id, b.revision, b.hidden_at < statement_timestamp() - %(age)s::interval,
       e.id, e.number, e.revision, e.session_id, p.position, e.at < statement_timestamp() - %(age)s::interval
FROM baskets_basket b
LEFT JOIN baskets_event e ON e.basket_id = b.id
LEFT JOIN baskets_feedposition p ON p.event_id = e.id
WHERE b.id = ANY(%(baskets)s::uuid[])
ORDER BY b.id, e.number
""",
)
# One count for each session: an EXISTS may be planned as one read of all pieces that were ever sold. An open flag has no `settled_by`, by a
# constraint: a condition on `settled_at` may be planned as a read of all open flags.
MUST_STAY = Statement(
    "must_stay",
    """
SELECT s.id FROM baskets_checkoutsession s
WHERE s.basket_id = ANY(%(baskets)s::uuid[]) AND (
    s.status = 'ACTIVE' OR s.finished_at >= statement_timestamp() - %(age)s::interval
    OR (SELECT count(*) FROM baskets_attention a WHERE a.session_id = s.id AND a.settled_by = '') > 0
    OR (
        SELECT count(*) FROM baskets_stockreservation r JOIN baskets_stock stock USING (product_id)
        WHERE r.session_id = s.id AND r.status = 'SOLD' AND stock.shortfall > 0
    ) > 0
)
""",
)
# Pieces ordered without a hold are not part of the supply: they count as 0, but the time of the order counts.
SOLD_PIECES = Statement(
    "sold_pieces",
    """
SELECT product_id, pieces, ended_at FROM baskets_stockreservation WHERE session_id = ANY(%(sessions)s::bigint[]) AND status = 'SOLD'
UNION ALL
SELECT i.product_id, 0, s.finished_at
FROM baskets_checkoutitem i JOIN baskets_checkoutsession s ON s.id = i.session_id
WHERE s.id = ANY(%(sessions)s::bigint[]) AND s.status = 'ORDERED' AND NOT s.test_mode AND coalesce(i.stocked, 1) > 0
  AND NOT EXISTS (
      SELECT FROM baskets_stockreservation r
      WHERE r.session_id = s.id AND r.product_id = i.product_id AND r.status IN ('SOLD', 'SHORT')
  )
""",
)
DELETES = (
    "DELETE FROM baskets_feedposition WHERE event_id = ANY(%(events)s::bigint[])",
    "DELETE FROM baskets_event WHERE id = ANY(%(events)s::bigint[])",
    "DELETE FROM baskets_attention WHERE session_id = ANY(%(sessions)s::bigint[])",
    "DELETE FROM baskets_stockreservation WHERE session_id = ANY(%(sessions)s::bigint[])",
    "DELETE FROM baskets_checkoutitem WHERE session_id = ANY(%(sessions)s::bigint[])",
    "DELETE FROM baskets_checkoutsession WHERE id = ANY(%(sessions)s::bigint[])",
    "DELETE FROM baskets_guesttoken WHERE basket_id = ANY(%(baskets)s::uuid[])",
    "DELETE FROM baskets_transfer WHERE basket_id = ANY(%(baskets)s::uuid[])",
    "DELETE FROM baskets_webhookblockedbasket WHERE basket_id = ANY(%(baskets)s::uuid[])",
    "DELETE FROM baskets_basket WHERE id = ANY(%(baskets)s::uuid[])",
)
SAVE_PURGED_COUNT = Statement(
    "save_purged_count",
    """
UPDATE baskets_basket b SET events_purged = cut.number
FROM unnest(%s::uuid[], %s::bigint[]) AS cut (id, number) WHERE b.id = cut.id
""",
)


class _ShortfallAppeared(Exception):
    """A product has got a shortfall since `MUST_STAY` was read: the batch must be tried again."""


@dataclass(frozen=True, kw_only=True)
class PurgeResult:
    """The result of one window of baskets.

    :param last: the last basket, for `after` of the next window; None if no basket is left.
    :param left: how many due baskets were locked.
    """

    last: UUID | None
    sessions: int = 0
    events: int = 0
    baskets: int = 0
    left: int = 0


class _Event(NamedTuple):
    """One event of a timeline.

    :param position: in the feed; None if it has none yet.
    :param is_old: whether it is older than the retention.
    """

    id: int
    number: int
    revision: int
    session_id: int | None
    position: int | None
    is_old: bool


@dataclass(kw_only=True)
class _Timeline:
    """The events of one basket in the order of their numbers.

    :param revision: of the basket.
    :param long_closed: whether the basket is closed since before the retention.
    """

    revision: int
    long_closed: bool
    events: list[_Event] = field(default_factory=list)


@dataclass(kw_only=True)
class _Deletion:
    """The primary keys to delete.

    :param cuts: for each basket that stays, the number of its last purged event.
    :param position: the highest feed position of a deleted event.
    """

    events: list[int] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    baskets: list[UUID] = field(default_factory=list)
    cuts: dict[UUID, int] = field(default_factory=dict)
    position: int = 0


def purge_stored_responses(*, dry_run: bool = False) -> int:
    """Delete one batch of stored responses past their window, in one transaction.

    :param dry_run: count all of them instead.
    :returns: how many.
    """
    if dry_run:
        return IdempotencyRecord.objects.filter(created_at__lte=Now() - conf.idempotency_window()).count()
    return run_in_transaction(lambda: len(execute(PURGE_RESPONSES, [conf.idempotency_window(), RESPONSE_BATCH]).fetchall()))


def purge_baskets(*, older_than: timedelta, after: UUID | None = None, dry_run: bool = False) -> PurgeResult:
    """Purge the old history of the next `WINDOW` baskets, each batch in one transaction. See Note [What is purged of a basket].

    Skips locked baskets. Locks at most 50 baskets by primary key, then stock rows by primary key, then the state of the feed.
    Source: `baskets/docs/operations.md`.

    :param older_than: the retention; the time for late orders and the idempotency window are its minimum.
    :param after: start after this basket; None for the first window.
    :param dry_run: purge and roll back.
    """
    age = max(older_than, conf.grace_period(), conf.idempotency_window())
    window = [pk for (pk,) in execute(NEXT_BASKETS, [after or UUID(int=0), WINDOW])]
    if not window:
        return PurgeResult(last=None)
    due = [pk for (pk,) in execute(DUE_BASKETS, [window, age])]
    sessions = events = baskets = left = 0
    for start in range(0, len(due), BATCH):
        batch = due[start : start + BATCH]
        deletion, locked = _purge_batch(batch, age=age, dry_run=dry_run)
        sessions, events, baskets = sessions + len(deletion.sessions), events + len(deletion.events), baskets + len(deletion.baskets)
        left += len(batch) - locked
    return PurgeResult(last=window[-1], sessions=sessions, events=events, baskets=baskets, left=left)


def _purge_batch(due: Sequence[UUID], *, age: timedelta, dry_run: bool) -> tuple[_Deletion, int]:
    """Purge one batch in one transaction.

    :returns: what was deleted, and how many baskets were locked for it.
    """

    def step() -> tuple[_Deletion, int]:
        locked = list(Basket.objects.filter(pk__in=due).locked(skip_locked=True).values_list("pk", flat=True))
        must_stay = {pk for (pk,) in execute(MUST_STAY, {"baskets": locked, "age": age})}
        deletion = _plan_deletion(_read_timelines(locked, age), must_stay)
        _delete(deletion)
        transaction.set_rollback(dry_run)
        return deletion, len(locked)

    while True:
        try:
            return run_in_transaction(step)
        except _ShortfallAppeared:
            continue  # The next try reads the shortfall, and its sessions stay.


def _read_timelines(baskets: Sequence[UUID], age: timedelta) -> Mapping[UUID, _Timeline]:
    timelines: dict[UUID, _Timeline] = {}
    for basket_id, revision, long_closed, *event in execute(TIMELINES, {"baskets": baskets, "age": age}):
        timeline = timelines.setdefault(basket_id, _Timeline(revision=revision, long_closed=bool(long_closed)))
        if event[0] is not None:
            timeline.events.append(_Event(*event))
    return timelines


def _plan_deletion(timelines: Mapping[UUID, _Timeline], must_stay: set[int]) -> _Deletion:
    """Choose the rows to delete.

    :param must_stay: the sessions that Note [What is purged of a basket] keeps.
    """
    deletion = _Deletion()
    for basket_id, timeline in timelines.items():
        cut = _cut(timeline, must_stay, whole=timeline.long_closed)
        if timeline.long_closed and cut == len(timeline.events):
            deletion.baskets.append(basket_id)
        else:
            cut = _cut(timeline, must_stay, whole=False)
            if cut:
                deletion.cuts[basket_id] = timeline.events[cut - 1].number
        for event in timeline.events[:cut]:
            deletion.events.append(event.id)
            deletion.position = max(deletion.position, event.position or 0)
            if event.session_id is not None and event.session_id not in deletion.sessions:
                deletion.sessions.append(event.session_id)
    return deletion


def _cut(timeline: _Timeline, must_stay: set[int], *, whole: bool) -> int:
    """Return how many of the first events to delete, so that each checkout keeps or loses all of its events.

    :param whole: whether to delete the events of the last change too.
    """
    cut = 0
    for event in timeline.events:
        is_last_change = event.revision == timeline.revision
        # An event without a position is not in the feed yet.
        if not event.is_old or event.position is None or event.session_id in must_stay or (is_last_change and not whole):
            break
        cut += 1
    first: dict[int, int] = {}
    last: dict[int, int] = defaultdict(int)
    for index, event in enumerate(timeline.events):
        if event.session_id is not None:
            first.setdefault(event.session_id, index)
            last[event.session_id] = index
    while divided := [first[session_id] for session_id in first if first[session_id] < cut <= last[session_id]]:
        cut = min(divided)
    return cut


def _delete(deletion: _Deletion) -> None:
    """Delete the rows, and write their sold pieces off the supply.

    :raises _ShortfallAppeared: a product has a shortfall now.
    """
    sales: list[tuple[str, int, datetime]] = execute(SOLD_PIECES, {"sessions": deletion.sessions}).fetchall()
    parameters: dict[str, Any] = {"events": deletion.events, "sessions": deletion.sessions, "baskets": deletion.baskets}
    for statement in DELETES:
        execute(statement, parameters)
    execute(SAVE_PURGED_COUNT, [list(deletion.cuts), list(deletion.cuts.values())])
    if not supply.write_off_purged_sales(sales, reason=REASON, actor=ACTOR):
        raise _ShortfallAppeared
    if deletion.position:
        feed.mark_purged(up_to=deletion.position)
