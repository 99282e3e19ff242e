"""Counts refused calls of partners by reason, minute and hour, for the first page of the admin.

What counts is decided where a call is answered: see `api.middleware` and `api.admission`.

# Note [A refused call costs no write]
# A refused call leaves no row, and a flood of them must not become a flood of writes. So each process counts them in memory, and
# writes its counts at intervals, in one statement and by the database's clock: a call is counted in the minute in which its process
# writes. What a process that is killed has not written yet is lost.
"""

import threading
from collections import Counter

import structlog
from django.db import DatabaseError, InterfaceError

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.db.transactions import run_in_transaction
from baskets.error_summary import summarize_error

log = structlog.get_logger(__name__)

# Rows are locked in one order: the processes write at the same time.
ADD = Statement(
    "add_refused_calls",
    """
INSERT INTO baskets_refusalactivity AS known (reason, seconds, starts_at, calls)
SELECT counted.reason, span.seconds, date_bin(span.seconds * interval '1 second', statement_timestamp(), 'epoch'), counted.calls
FROM unnest(%s::text[], %s::bigint[]) AS counted (reason, calls) CROSS JOIN (VALUES (60), (3600)) AS span (seconds)
ORDER BY 2, 3, 1
ON CONFLICT (seconds, starts_at, reason) DO UPDATE SET calls = known.calls + excluded.calls
""",
)

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(reason: str) -> None:
    """Count one refused call in memory."""
    with _lock:
        _counts[reason] += 1


def is_waiting() -> bool:
    """Return whether counts wait to be written."""
    return bool(_counts)


def write_counts() -> None:
    """Add the counts of this process to the database, in a separate transaction. Keep them where the database cannot take them now."""
    with _lock:
        written = _counts.copy()
        _counts.clear()
    if not written:
        return
    try:
        run_in_transaction(lambda: execute(ADD, [list(written), list(written.values())]))
    except (DatabaseError, InterfaceError) as error:
        log.warning("refused_calls_not_written", **summarize_error(error))
        with _lock:
            _counts.update(written)
