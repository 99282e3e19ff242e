"""The feed: gives every event its position after its commit, and reads on from a position. It never changes an event.

# Note [Positions after the commit]
# A reader who goes by times, ids or transaction ids skips events: none of them is in the order of the commits. So a
# position is given to events that are committed, by one at a time, under an advisory lock that ends with the
# transaction. Whoever sees a position sees all before it, and what is committed later comes later.
#
# Writing an event costs nothing for it. Who gives positions looks for events without one among the ids above
# `settled_id`. That mark may only move past ids that nobody can still commit: every writer of events has a transaction
# id, from the lock on its basket, before it draws an event's id. So once every transaction has ended that began before a
# later round than the one that saw an id, the ids below it are settled. `seen_id` is what one round saw, `horizon` the
# transaction id of a later one. A data base that was restored elsewhere counts transactions anew; a horizon from the
# future is taken as none, and one from the past is right, because nothing was under way in what was restored.
"""

import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from baskets.db.pipeline import Parameters, execute
from baskets.db.transactions import in_transaction
from baskets.models import FeedPosition, FeedState

BATCH = 1000
(LOCK_KEY,) = struct.unpack(">q", b"the feed")

PENDING = """
SELECT coalesce((SELECT max(id) FROM baskets_event), 0) > coalesce((SELECT settled_id FROM baskets_feedstate), 0)
"""
# Does not draw a transaction id: the one that the next statement draws is younger than all of the last round.
LOCK = "SELECT pg_advisory_xact_lock(%s)"
STATE = """
INSERT INTO baskets_feedstate AS state (id, position, settled_id, seen_id, horizon, purged_position)
VALUES (1, 0, 0, 0, NULL, 0)
ON CONFLICT (id) DO UPDATE SET id = 1
RETURNING position, settled_id, seen_id, horizon, pg_current_xact_id()::text::bigint
"""
# The events of one basket have their ids in the order of their numbers, because they are drawn under the basket's lock.
# The public id is a digest of what makes an event this one: so a restored backup gives it the same id again, and another
# event in its place another one. It depends on no key, and on nothing of another basket.
ASSIGN = """
WITH fresh AS (
    SELECT e.id, e.kind, b.partner_id,
           concat_ws(' ', e.basket_id, e.number, extract(epoch FROM e.at)) AS identity
    FROM baskets_event e JOIN baskets_basket b ON b.id = e.basket_id
    WHERE e.id > %(settled)s AND NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id)
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
"""
SAVE_STATE = "UPDATE baskets_feedstate SET position = %s, settled_id = %s, seen_id = %s, horizon = %s WHERE id = 1"
BOUNDS = """
SELECT state.position, state.purged_position, e.id, e.at
FROM (SELECT coalesce(max(position), 0) AS position, coalesce(max(purged_position), 0) AS purged_position
      FROM baskets_feedstate) state
LEFT JOIN baskets_feedposition p ON p.position = %s
LEFT JOIN baskets_event e ON e.id = p.event_id
"""


class EventsPurged(Exception):
    """Events after this place have been purged."""


class EventsRewound(Exception):
    """The place is of a history that a restored backup does not have."""


@dataclass(frozen=True, kw_only=True)
class FeedCursor:
    """A place in the feed: after the event of a position, which is named so that another history is told from this one.

    :param event_id: None at a place that is no event's: the beginning, or where a purge ended.
    """

    position: int
    event_id: int | None = None
    at: datetime | None = None


def assign_positions() -> int:
    """Give a position to every committed event that has none, and tell to how many.

    Runs transactions of its own, and costs one look at two indexes where there is nothing to do.
    Locks the feed. See Note [Positions after the commit].
    """
    given = 0
    while _has_pending():
        count = in_transaction(_assign_batch)
        given += count
        if count < BATCH:
            break
    return given


@transaction.atomic(savepoint=False)
def catch_up() -> int:
    """Give a position to every committed event that has none, within the transaction of the caller; return the last one.

    It moves no mark: that takes a transaction that is younger than the one that saw.
    Locks the feed until the end of the transaction, and comes last but for what must know the end of the feed.
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


def _assign_batch() -> int:
    """Give positions to one batch, and move the marks. The order of these statements is what makes the marks right."""
    execute(LOCK, [LOCK_KEY])
    position, settled, seen, horizon, own = before = _fetch_row(STATE, [])
    count, last, oldest, newest = _fetch_row(ASSIGN, {"settled": settled, "batch": BATCH, "position": position})
    if horizon is not None and horizon >= own:
        horizon = None  # Of another cluster, whose transactions are not ours.
    if seen > settled and horizon is None:
        horizon = own
    elif seen > settled and oldest >= horizon and (count < BATCH or last >= seen):
        settled = seen
    if seen == settled:
        seen, horizon = max(seen, newest if count < BATCH else last), None
    after = (position + count, settled, seen, horizon)
    if after != before[:4]:
        execute(SAVE_STATE, after)
    return int(count)


def read(rows: QuerySet[FeedPosition], *, after: FeedCursor | None, limit: int) -> tuple[list[FeedPosition], FeedCursor]:
    """Read events after a place, in order, and the place to go on from.

    :param rows: which events of which partner.
    :param after: None begins with the oldest event that was not purged.
    :param limit: how many at most.
    :raises EventsPurged: events after this place have been purged.
    :raises EventsRewound: the place is of another history.
    """
    place = after or FeedCursor(position=_read_bounds(0)[1])
    further = rows.filter(position__gt=place.position).order_by("position")
    page = list(further.select_related("event__basket", "event__session")[:limit])
    # Asked after the page was read: what a purge takes away from now on was still in it.
    given, purged, event_id, at = _read_bounds(place.position)
    if place.position < purged:
        if after is None:
            return read(rows, after=None, limit=limit)
        raise EventsPurged
    if place.position > given or (event_id is not None and place.event_id is not None and (event_id, at) != (place.event_id, place.at)):
        raise EventsRewound
    if page:
        place = FeedCursor(position=page[-1].position, event_id=page[-1].event_id, at=page[-1].event.at)
    return page, place


def _read_bounds(position: int) -> tuple[int, int, int | None, datetime | None]:
    """The last position, the purged one, and the event at a position."""
    given, purged, event_id, at = _fetch_row(BOUNDS, [position])
    return given, purged, event_id, at


def _fetch_row(sql: str, parameters: Parameters) -> tuple[Any, ...]:
    """The one row of a statement that always has one."""
    (row,) = execute(sql, parameters)
    return row


@transaction.atomic(savepoint=False)
def mark_purged(*, up_to: int) -> None:
    """Remember that events up to this position are gone, so that nobody reads on as if they were not."""
    FeedState.objects.filter(pk=1, purged_position__lt=up_to).update(purged_position=up_to)
