"""Removes old history: remembered answers past their window, and what baskets and orders left behind long ago.

# Note [What is purged of a basket]
# The beginning of its timeline: events older than the retention, up to the first that is younger, or that belongs to a
# checkout that must stay. A checkout goes with all its events, items, reservations and flags, or not at all. It stays
# while it is active, while it is younger, and while a matter of it is open; and while one of its products has a
# shortfall, because what was sold explains it. A hidden basket of which nothing is left goes itself; of any other the
# events of its last change stay. Sold pieces that go are taken off the supply by a recorded adjustment, so that the
# account of a product adds up at every commit, and a report about the time before them is refused.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from baskets import conf
from baskets.db.pipeline import Statement, execute
from baskets.db.transactions import in_transaction
from baskets.domain.actors import Actor
from baskets.domain.events import feed
from baskets.domain.stock import supply
from baskets.models import Basket, IdempotencyRecord

WINDOW = 500
BATCH = 50
RESPONSE_BATCH = 1000
ACTOR = Actor.system("purge_history")
REASON = "sold pieces of purged orders"

# The rows of remembered answers are locked in no order that anybody waits in: who is at one keeps it.
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
# The oldest event that is kept is old, or there is none: only such a basket has anything to purge.
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
MUST_STAY = Statement(
    "must_stay",
    """
SELECT s.id FROM baskets_checkoutsession s
WHERE s.basket_id = ANY(%(baskets)s::uuid[]) AND (
    s.status = 'ACTIVE' OR s.finished_at >= statement_timestamp() - %(age)s::interval
    OR EXISTS (SELECT FROM baskets_attention a WHERE a.session_id = s.id AND a.settled_at IS NULL)
    OR EXISTS (
        SELECT FROM baskets_stockreservation r JOIN baskets_stock stock USING (product_id)
        WHERE r.session_id = s.id AND r.status = 'SOLD' AND stock.shortfall > 0
    )
)
""",
)
# Pieces that were ordered without a hold are no part of the supply: they count as none, and their moment is kept.
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
    """A product has got a shortfall between the look and the lock."""


@dataclass(frozen=True, kw_only=True)
class PurgeResult:
    """What one step removed.

    :param last: the greatest basket seen, to go on from; None where there is none left.
    """

    last: UUID | None
    sessions: int = 0
    events: int = 0
    baskets: int = 0
    left: int = 0


@dataclass(kw_only=True)
class _Timeline:
    """The events of one basket in their order: id, number, revision, session, position, whether it is old."""

    revision: int
    long_hidden: bool
    events: list[tuple[int, int, int, int | None, int | None, bool]] = field(default_factory=list)


@dataclass(kw_only=True)
class _Deletion:
    """What is to be removed."""

    events: list[int] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    baskets: list[UUID] = field(default_factory=list)
    cuts: dict[UUID, int] = field(default_factory=dict)
    position: int = 0


def purge_stored_responses(*, dry_run: bool = False) -> int:
    """Remove one batch of remembered answers past their window, in one transaction, and tell how many.

    :param dry_run: count all of them.
    """
    if dry_run:
        return IdempotencyRecord.objects.filter(created_at__lte=Now() - conf.idempotency_window()).count()
    return in_transaction(lambda: len(execute(PURGE_RESPONSES, [conf.idempotency_window(), RESPONSE_BATCH]).fetchall()))


def purge_baskets(*, older_than: timedelta, after: UUID | None = None, dry_run: bool = False) -> PurgeResult:
    """Remove the old history of the next baskets, each batch in one transaction. See Note [What is purged of a basket].

    Baskets that somebody holds are left for the next run. Locks at most 50 baskets by primary key, then stock rows by
    primary key, then the state of the feed. Source: `baskets/docs/operations.md`.

    :param older_than: the retention; it is never shorter than the time for late orders.
    :param after: baskets up to this one have been seen in this run.
    :param dry_run: do it and roll it back.
    """
    age = max(older_than, conf.grace_period(), conf.idempotency_window())
    window = [pk for (pk,) in execute(NEXT_BASKETS, [after or UUID(int=0), WINDOW])]
    if not window:
        return PurgeResult(last=None)
    due = [pk for (pk,) in execute(DUE_BASKETS, [window, age])]
    sessions = events = baskets = left = 0
    for start in range(0, len(due), BATCH):
        chosen = due[start : start + BATCH]
        gone, locked = _purge_batch(chosen, age=age, dry_run=dry_run)
        sessions, events, baskets = sessions + len(gone.sessions), events + len(gone.events), baskets + len(gone.baskets)
        left += len(chosen) - locked
    return PurgeResult(last=window[-1], sessions=sessions, events=events, baskets=baskets, left=left)


def _purge_batch(due: Sequence[UUID], *, age: timedelta, dry_run: bool) -> tuple[_Deletion, int]:
    def step() -> tuple[_Deletion, int]:
        locked = list(Basket.objects.filter(pk__in=due).locked(skip_locked=True).values_list("pk", flat=True))
        gone = _plan_deletion(_read_timelines(locked, age), {pk for (pk,) in execute(MUST_STAY, {"baskets": locked, "age": age})})
        _delete(gone)
        transaction.set_rollback(dry_run)
        return gone, len(locked)

    while True:
        try:
            return in_transaction(step)
        except _ShortfallAppeared:
            continue  # It is seen now, and the sessions stay.


def _read_timelines(baskets: Sequence[UUID], age: timedelta) -> Mapping[UUID, _Timeline]:
    found: dict[UUID, _Timeline] = {}
    for basket_id, revision, long_hidden, *event in execute(TIMELINES, {"baskets": baskets, "age": age}):
        timeline = found.setdefault(basket_id, _Timeline(revision=revision, long_hidden=bool(long_hidden)))
        if event[0] is not None:
            pk, number, at_revision, session_id, position, old = event
            timeline.events.append((pk, number, at_revision, session_id, position, old))
    return found


def _plan_deletion(timelines: Mapping[UUID, _Timeline], must_stay: set[int]) -> _Deletion:
    gone = _Deletion()
    for basket_id, timeline in timelines.items():
        cut = _cut(timeline, must_stay, whole=timeline.long_hidden)
        if timeline.long_hidden and cut == len(timeline.events):
            gone.baskets.append(basket_id)
        else:
            cut = _cut(timeline, must_stay, whole=False)
            if cut:
                gone.cuts[basket_id] = timeline.events[cut - 1][1]
        for pk, _, _, session_id, position, _ in timeline.events[:cut]:
            gone.events.append(pk)
            gone.position = max(gone.position, position or 0)
            if session_id is not None and session_id not in gone.sessions:
                gone.sessions.append(session_id)
    return gone


def _cut(timeline: _Timeline, must_stay: set[int], *, whole: bool) -> int:
    """How many of the first events go, so that no checkout is torn apart.

    :param whole: whether the events of the last change may go as well.
    """
    events = timeline.events
    cut = 0
    for _, _, revision, session_id, position, old in events:
        # An event without a position was told to nobody yet.
        if not old or position is None or session_id in must_stay or (revision == timeline.revision and not whole):
            break
        cut += 1
    first: dict[int, int] = {}
    last: dict[int, int] = defaultdict(int)
    for n, (_, _, _, session_id, _, _) in enumerate(events):
        if session_id is not None:
            first.setdefault(session_id, n)
            last[session_id] = n
    while torn := [first[session_id] for session_id in first if first[session_id] < cut <= last[session_id]]:
        cut = min(torn)
    return cut


def _delete(gone: _Deletion) -> None:
    sales: list[tuple[str, int, datetime]] = execute(SOLD_PIECES, {"sessions": gone.sessions}).fetchall()
    parameters: dict[str, Any] = {"events": gone.events, "sessions": gone.sessions, "baskets": gone.baskets}
    for statement in DELETES:
        execute(statement, parameters)
    execute(SAVE_PURGED_COUNT, [list(gone.cuts), list(gone.cuts.values())])
    if not supply.write_off_purged_sales(sales, reason=REASON, actor=ACTOR):
        raise _ShortfallAppeared
    if gone.position:
        feed.mark_purged(up_to=gone.position)
