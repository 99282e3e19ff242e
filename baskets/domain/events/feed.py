"""The feed: gives every committed event a position, and reads events from a position on. It never changes an event.

# Note [Positions after the commit]
# A reader that follows times, ids or transaction ids skips events: none of them is in commit order. So committed events get
# their positions afterwards, by one transaction at a time, under an advisory lock. A reader that sees a position sees all
# positions before it, and an event that commits later gets a later position.
#
# Writing an event costs nothing extra. `assign_positions` looks for events without a position among the ids above
# `settled_id`. That mark may pass an id only when no running transaction can still commit it: each writer of events has a
# transaction id, from the lock on its basket, before it draws the id of an event. So the ids that one round saw are settled
# once every transaction has ended that began before a later round. `seen_id` is what one round saw, `horizon` the transaction
# id of a later round. A database restored in another cluster counts transactions from another number: a horizon from the future
# is discarded, and a horizon from the past is correct, because no transaction was running in the restored data.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import QuerySet

from baskets.db.pipeline import execute
from baskets.db.statements import Parameters, Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.events.payloads import ENTRY_COLUMNS, FeedEntry
from baskets.models import FeedGap, FeedPosition, FeedState

BATCH = 1000
(LOCK_KEY,) = struct.unpack(">q", b"the feed")

PENDING = Statement(
    "pending",
    """
SELECT coalesce((SELECT max(id) FROM baskets_event), 0) > coalesce((SELECT settled_id FROM baskets_feedstate), 0)
""",
)
# Draws no transaction id: the id that the next statement draws is younger than all ids of the last round.
LOCK = Statement("lock", "SELECT pg_advisory_xact_lock(%s)")
STATE = Statement(
    "state",
    """
INSERT INTO baskets_feedstate AS state (id, position, settled_id, seen_id, horizon, purged_position)
VALUES (1, 0, 0, 0, NULL, 0)
ON CONFLICT (id) DO UPDATE SET id = 1
RETURNING position, settled_id, seen_id, horizon, pg_current_xact_id()::text::bigint
""",
)
# The ids of one basket's events are in the order of their numbers, because they are drawn under the basket's lock.
# The public id is a digest of the event's identity: a restored backup gives the same event the same id, and another event in its
# place another id. It depends on no key and on no other basket.
IDENTITY = "concat_ws(' ', e.basket_id, e.number, extract(epoch FROM e.at))"
ASSIGN = Statement(
    "assign",
    f"""
WITH fresh AS (
    SELECT e.id, e.kind, b.partner_id, {IDENTITY} AS identity
    FROM baskets_event e JOIN baskets_basket b ON b.id = e.basket_id
    WHERE e.id > %(settled)s AND NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id AND p.event_id > %(settled)s)
    ORDER BY e.id LIMIT %(batch)s
), given AS (
    INSERT INTO baskets_feedposition (position, event_id, partner_id, kind, public_id)
    SELECT %(position)s + row_number() OVER (ORDER BY id), id, partner_id, kind,
           encode(substring(sha256(convert_to(identity, 'UTF8')) FOR 16), 'hex')::uuid
    FROM fresh
    RETURNING event_id
)
SELECT count(*), max(event_id), pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
       coalesce((SELECT max(id) FROM baskets_event), 0)
FROM given
""",  # noqa: S608 (a constant)
)
SAVE_STATE = Statement("save_state", "UPDATE baskets_feedstate SET position = %s, settled_id = %s, seen_id = %s, horizon = %s WHERE id = 1")
BOUNDS = Statement(
    "bounds",
    """
SELECT state.position, state.purged_position, e.id, e.at
FROM (SELECT coalesce(max(position), 0) AS position, coalesce(max(purged_position), 0) AS purged_position
      FROM baskets_feedstate) state
LEFT JOIN baskets_feedposition p ON p.position = %s
LEFT JOIN baskets_event e ON e.id = p.event_id
""",
)

# The end of the feed is from before the events.
UNREAD = Statement(
    "unread_events",
    """
SELECT reader.id, feed.position, EXISTS (
    SELECT FROM baskets_feedposition p
    WHERE p.partner_id = reader.partner AND p.position > reader.position AND p.position <= feed.position
)
FROM unnest(%(readers)s::bigint[], %(partners)s::bigint[], %(positions)s::bigint[]) reader (id, partner, position),
     (SELECT coalesce(max(position), 0) AS position FROM baskets_feedstate) feed
""",
)


class EventsPurged(Exception):
    """Events after the cursor have been purged."""


class EventsRewound(Exception):
    """The cursor belongs to a history that a restored backup does not have."""


@dataclass(frozen=True, kw_only=True)
class FeedCursor:
    """A place in the feed: directly after a position.

    :param event_id: the event at the position, which identifies the history; None at the beginning or where a purge ended.
    :param at: the time of that event.
    """

    position: int
    event_id: int | None = None
    at: datetime | None = None


def assign_positions(*, batches: int | None = None, size: int | None = None, stop: Callable[[], bool] = lambda: False) -> int:
    """Give every committed event a position. See Note [Positions after the commit].

    Runs its own transactions. Without new events it costs one read of two indexes.
    Locks the feed.

    :param batches: how many batches at most; None assigns all positions.
    :param size: the events of a batch; None is `BATCH`.
    :param stop: checked before each batch.
    :returns: how many positions were assigned.
    """
    assigned = done = 0
    size = size or BATCH
    while done != batches and not stop() and _has_pending():
        count = run_in_transaction(partial(_assign_batch, size))
        assigned, done = assigned + count, done + 1
        if count < size:
            break
    return assigned


@transaction.atomic(savepoint=False)
def catch_up() -> int:
    """Give every committed event a position, within the transaction of the caller.

    Does not move `settled_id`: only a younger transaction may. Locks the feed until the end of the transaction, so it must be one of
    its last steps.

    :returns: the last position.
    """
    execute(LOCK, [LOCK_KEY])
    while True:
        position, settled, seen, horizon, _ = _fetch_row(STATE, [])
        count, *_ = _fetch_row(ASSIGN, {"settled": settled, "batch": BATCH, "position": position})
        execute(SAVE_STATE, [position + count, settled, seen, horizon])
        if count < BATCH:
            return int(position + count)


def _has_pending() -> bool:
    return bool(_fetch_row(PENDING, [])[0])


def _assign_batch(size: int) -> int:
    """Give positions to one batch, and move the marks. The marks are correct only with the statements in this order.

    :returns: how many positions were assigned.
    """
    execute(LOCK, [LOCK_KEY])
    position, settled, seen, horizon, own = before = _fetch_row(STATE, [])
    count, last, oldest, newest = _fetch_row(ASSIGN, {"settled": settled, "batch": size, "position": position})
    if horizon is not None and horizon >= own:
        horizon = None  # From another cluster, which counts transactions from another number.
    if seen > settled and horizon is None:
        horizon = own
    elif seen > settled and oldest >= horizon and (count < size or last >= seen):
        settled = seen
    if seen == settled:
        seen, horizon = max(seen, newest if count < size else last), None
    after = (position + count, settled, seen, horizon)
    if after != before[:4]:
        execute(SAVE_STATE, after)
    return int(count)


def read(rows: QuerySet[FeedPosition], *, after: FeedCursor | None, limit: int) -> tuple[list[FeedEntry], FeedCursor]:
    """Read events after a cursor, in order.

    :param rows: the events to choose from, by partner and filters.
    :param after: None begins with the oldest event that was not purged.
    :param limit: the maximum number of events.
    :returns: the events, and the cursor after the last of them.
    :raises EventsPurged: events after the cursor have been purged.
    :raises EventsRewound: the cursor belongs to another history.
    """
    cursor = after or FeedCursor(position=_read_bounds(0).purged)
    later = rows.filter(position__gt=cursor.position).order_by("position").values_list(*ENTRY_COLUMNS)
    page = [FeedEntry._make(row) for row in later[:limit]]
    # Read after the page: the page still has all events that a purge deletes from now on.
    last, purged, event_id, at = _read_bounds(cursor.position)
    if cursor.position < purged:
        if after is None:
            return read(rows, after=None, limit=limit)
        raise EventsPurged
    if cursor.position > last or (event_id is not None and cursor.event_id is not None and (event_id, at) != (cursor.event_id, cursor.at)):
        raise EventsRewound
    if page:
        cursor = FeedCursor(position=page[-1].position, event_id=page[-1].event_id, at=page[-1].at)
    return page, cursor


def read_end() -> int:
    """Return the last position."""
    return _read_bounds(0).last


def find_unread(positions: dict[int, tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """Find the readers whose partners have events after a position.

    :param positions: for each reader, by any number, its partner and its position.
    :returns: for each reader, the end of the feed, and whether there are events.
    """
    values = {
        "readers": list(positions),
        "partners": [partner for partner, _ in positions.values()],
        "positions": [position for _, position in positions.values()],
    }
    return [(row[0], row[1], row[2]) for row in execute(UNREAD, values)]


class _Bounds(NamedTuple):
    """The last position, the last purged position, and the id and time of the event at a position; None where there is none."""

    last: int
    purged: int
    event_id: int | None
    at: datetime | None


def _read_bounds(position: int) -> _Bounds:
    return _Bounds._make(_fetch_row(BOUNDS, [position]))


def _fetch_row(statement: Statement, parameters: Parameters) -> tuple[Any, ...]:
    """Return the only row of a statement."""
    (row,) = execute(statement, parameters)
    return row


@transaction.atomic(savepoint=False)
def mark_purged(*, up_to: int) -> None:
    """Record that events up to this position are purged, so that an older cursor is refused."""
    FeedState.objects.filter(pk=1, purged_position__lt=up_to).update(purged_position=up_to)
    FeedGap.objects.filter(position__lte=up_to).delete()
