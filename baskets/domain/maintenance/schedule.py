"""Decides what a scheduler runs now: one leader among all schedulers, and a night's work once, by the database's clock."""

from datetime import datetime, time
from typing import cast

from baskets.db.pipeline import execute
from baskets.db.statements import Statement

# The two halves of the advisory lock's key, as `pg_locks` shows them.
LOCK_KEY = (441_008, 721_300)
# A lock of the session: it ends with the connection, so a killed leader is replaced by the next scheduler that asks.
# A session that holds it already does not lock again, because each lock would need its own unlock.
LEAD = Statement(
    "lead_schedule",
    """
SELECT CASE WHEN EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND (classid, objid) = (%(high)s::int, %(low)s::int) AND objsubid = 2 AND pid = pg_backend_pid() AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) THEN true ELSE pg_try_advisory_lock(%(high)s::int, %(low)s::int) END
""",
)
# The latest moment of that time, which may be yesterday's: a night may last beyond midnight. The audit log records each purge, however it
# was started. The purge is the last work of a night, so interrupted work is repeated.
NIGHT = Statement(
    "night_due",
    """
SELECT night.at
FROM (SELECT date_trunc('day', statement_timestamp() - %(time)s::interval, 'UTC') + %(time)s::interval AS at) night
WHERE statement_timestamp() < night.at + interval '1 hour'
  AND NOT EXISTS (SELECT FROM baskets_deskentry entry WHERE entry.kind = 'purged' AND entry.at >= night.at)
""",
)


def lead() -> bool:
    """Return whether this connection is the leader of all schedulers of this database, or becomes it now."""
    high, low = LOCK_KEY
    return bool(execute(LEAD, {"high": high, "low": low}).fetchall()[0][0])


def night_due(at: time) -> datetime | None:
    """Return the beginning of the current night if its work is due: from `at` on for an hour, until a purge was recorded.

    A night that passed while no scheduler ran is left out, because the work must not fall into the hours of a show.

    :param at: the time of day, in UTC.
    """
    rows = execute(NIGHT, {"time": at.isoformat()}).fetchall()
    return cast("datetime", rows[0][0]) if rows else None
