"""What the first page needs to know of the service at one moment, in one statement."""

from dataclasses import dataclass
from datetime import datetime

from baskets.db.pipeline import execute
from baskets.db.statements import Statement

# A count stops here: the lists show all of them.
MAX_COUNTED = 1000
# Each reads one row, or the beginning of one index.
MOMENT = Statement(
    "moment",
    f"""
SELECT statement_timestamp(), coalesce(counted.position, 0), coalesce(counted.active, 0), lapsed.sessions, lapsed.oldest,
       (SELECT e.at FROM baskets_event e
        WHERE e.id > coalesce(feed.settled_id, 0) AND NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id)
        ORDER BY e.id LIMIT 1),
       (SELECT e.at FROM baskets_feedposition p JOIN baskets_event e ON e.id = p.event_id
        WHERE p.position > coalesce(counted.position, 0) ORDER BY p.position LIMIT 1)
FROM (SELECT max(position) AS position, max(active) AS active FROM baskets_activitystate) counted
CROSS JOIN (SELECT max(settled_id) AS settled_id FROM baskets_feedstate) feed
CROSS JOIN (
    SELECT count(*) AS sessions, min(expires_at) AS oldest FROM (
        SELECT expires_at FROM baskets_checkoutsession WHERE status = 'ACTIVE' AND expires_at <= statement_timestamp()
          AND partner_id NOT IN (SELECT id FROM baskets_partner WHERE sandbox_of_id IS NOT NULL)
        ORDER BY expires_at LIMIT {MAX_COUNTED}
    ) s
) lapsed
""",  # noqa: S608 (a constant of this module)
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state of the service at one moment.

    :param active: active checkouts, as far as events are counted.
    :param lapsed: lapsed checkouts that no sweep has expired yet, without those of sandboxes, `MAX_COUNTED` at most; `oldest_lapsed` is
        the end of the first hold.
    :param unplaced: the time of the oldest event without a position in the feed.
    :param uncounted: the time of the oldest event of the feed that is not counted.
    """

    at: datetime
    position: int
    active: int
    lapsed: int
    oldest_lapsed: datetime | None
    unplaced: datetime | None
    uncounted: datetime | None

    @classmethod
    def read(cls) -> "Moment":
        """Read it from the database."""
        return cls(**dict(zip(cls.__dataclass_fields__, execute(MOMENT, []).fetchall()[0], strict=True)))

    @property
    def counted_until(self) -> datetime | None:
        """The time up to which all events are counted; None if that is now."""
        waiting = [at for at in (self.unplaced, self.uncounted) if at is not None]
        return min(waiting) if waiting else None
