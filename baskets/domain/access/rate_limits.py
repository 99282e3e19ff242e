"""Rate limits in fixed windows: calls of a key, failed keys and passwords of a source.

One autocommit statement counts and decides, so all workers share an exact count. It never runs inside the transaction that it
limits: that would hold the row lock for the whole transaction, and a roll-back would undo the count.
Source: `baskets/docs/adr/0020-counting-in-one-statement.md`.
"""

import hashlib
import hmac
import math
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import Error as DatabaseError

from baskets.db.errors import Fault, fault_of, read_with_reconnect
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.errors import Throttled
from baskets.domain.retries import LimitBlockUsedUp

log = structlog.get_logger("baskets.throttles")

# Note [Blocks of counts]
# For a limit that every call counts against, one statement per call is too slow, and one locked row per key makes the calls
# queue. So each process fetches counts from the database in blocks and consumes them locally. In each window a process also has
# a few free counts, so a source with few calls costs no statement at all. All processes together admit at most the limit plus
# the free counts of each; a process holds less than one unused block. Both are small fractions of the limit. A process remembers
# a full window until it ends: a flood costs no statement.
FREE_DIVISOR = 1000
BLOCK_DIVISOR = 100
# A process that remembers this many windows deletes those that have ended.
MAX_WINDOWS = 10_000

# A plain read finds a subject beyond its limit: a flood neither writes nor waits for a lock. Each caller that passes the read
# gets its own range of counts, and the counts up to the limit are granted.
HIT = Statement(
    "hit",
    """
WITH full_window AS (
    SELECT ends_at FROM baskets_throttle
    WHERE subject = %(subject)s AND count >= %(limit)s AND ends_at > statement_timestamp()
), counted AS (
    INSERT INTO baskets_throttle AS throttle (subject, count, ends_at)
    SELECT %(subject)s, %(amount)s::bigint, statement_timestamp() + %(window)s::interval WHERE NOT EXISTS (SELECT FROM full_window)
    ON CONFLICT (subject) DO UPDATE
    SET count = CASE WHEN throttle.ends_at > statement_timestamp() THEN throttle.count ELSE 0 END + excluded.count,
        ends_at = CASE WHEN throttle.ends_at > statement_timestamp() THEN throttle.ends_at ELSE excluded.ends_at END
    RETURNING count, ends_at
)
SELECT greatest(%(amount)s::bigint - greatest(count - %(limit)s::bigint, 0), 0), extract(epoch FROM ends_at - statement_timestamp())::float
FROM counted
UNION ALL
SELECT 0, extract(epoch FROM ends_at - statement_timestamp())::float FROM full_window
""",
)
UNDO_HIT = Statement(
    "undo_hit",
    """
UPDATE baskets_throttle SET count = count - 1 WHERE subject = %s AND count > 0 AND ends_at > statement_timestamp()
""",
)
DELETE_ENDED_WINDOWS = Statement(
    "delete_ended_windows",
    """
DELETE FROM baskets_throttle WHERE subject IN (
    SELECT subject FROM baskets_throttle WHERE ends_at <= statement_timestamp() FOR UPDATE SKIP LOCKED
)
""",
)
# Subjects that anonymous callers choose (addresses, user names) share this many rows: they cannot fill the table.
BUCKETS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The result of a hit.

    :param amount: how many counts are granted, at most the requested amount.
    :param seconds: until the window ends.
    """

    amount: int
    seconds: float


def hit(*, subject: str, limit: int, window: timedelta) -> int | None:
    """Count one hit of a subject.

    The window begins with the first hit and does not slide. If the database fails, the hit is granted: a failing rate limit
    must not stop the service.
    Locks the row of the subject for one statement.

    :param limit: how many hits a window admits.
    :returns: None within the limit, else the seconds to wait.
    """
    granted = hit_many(subject=subject, amount=1, limit=limit, window=window)
    return None if granted.amount else max(1, math.ceil(granted.seconds))


def hit_many(*, subject: str, amount: int, limit: int, window: timedelta) -> Grant:
    """Count several hits of a subject, up to its limit. Window, failures and lock are those of `hit`.

    A lock timeout grants nothing: only a flood of the same subject causes it.
    """
    parameters = {"subject": subject, "amount": amount, "limit": limit, "window": window}
    try:
        ((granted, seconds),) = read_with_reconnect(lambda: execute(HIT, parameters).fetchall())
    except DatabaseError as error:
        fault = fault_of(error)
        log.warning("throttle_failed", fault=fault.name, error=type(error).__qualname__)
        return Grant(amount=0, seconds=1.0) if fault is Fault.BUSY else Grant(amount=amount, seconds=window.total_seconds())
    # A statement that began before the one that opened the window, and waited for its row, would see more than a whole window.
    return Grant(amount=granted, seconds=min(seconds, window.total_seconds()))


# --- In blocks: see Note [Blocks of counts] ---------------------------------------


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """The limit of one subject: `most` counts in each window."""

    subject: str
    most: int
    window: timedelta


@dataclass(kw_only=True)
class _LocalWindow:
    """The current window of one subject in this process.

    :param left: counts that the process may still consume.
    :param ends_at: the end of the window, by the monotonic clock.
    :param full: whether the database has no counts left.
    """

    left: int
    ends_at: float
    full: bool = False


_windows: dict[str, _LocalWindow] = {}
_windows_lock = threading.Lock()


def consume(limit: RateLimit, amount: int) -> None:
    """Consume counts of a subject, without a statement. A negative amount returns unused counts.

    :raises LimitBlockUsedUp: this process has too few counts, and must fetch a block outside of the transaction.
    :raises Throttled: the limit is reached.
    """
    with _windows_lock:
        window = _current_window(limit)
        if window.left >= amount:
            window.left -= amount
        elif window.full:
            raise Throttled(seconds=max(1, math.ceil(window.ends_at - time.monotonic())))
        else:
            raise LimitBlockUsedUp(lambda: _fetch_block(limit, amount - window.left))


def clear_local_windows() -> None:
    """Discard the counts that this process has fetched and not consumed. For tests."""
    with _windows_lock:
        _windows.clear()


def _fetch_block(limit: RateLimit, amount: int) -> None:
    """Fetch a block of counts from the database, of at least this amount if the limit allows it."""
    size = max(amount, limit.most // BLOCK_DIVISOR)
    grant = hit_many(subject=limit.subject, amount=size, limit=limit.most, window=limit.window)
    with _windows_lock:
        window = _current_window(limit)
        window.left += grant.amount
        window.full = grant.amount < size
        window.ends_at = time.monotonic() + max(grant.seconds, 0)


def _current_window(limit: RateLimit) -> _LocalWindow:
    now = time.monotonic()
    if (window := _windows.get(limit.subject)) and window.ends_at > now:
        return window
    if len(_windows) >= MAX_WINDOWS:
        for subject in [subject for subject, old in _windows.items() if old.ends_at <= now]:
            del _windows[subject]
    window = _windows[limit.subject] = _LocalWindow(left=limit.most // FREE_DIVISOR, ends_at=now + limit.window.total_seconds())
    return window


# --- Single hits and blocks ---------------------------------------------------------


def undo_hit(*, subject: str) -> None:
    """Undo one hit of a subject, for an event that does not count after all, such as a correct password."""
    try:
        read_with_reconnect(lambda: execute(UNDO_HIT, [subject]))
    except DatabaseError as error:
        log.warning("throttle_failed", fault=fault_of(error).name, error=type(error).__qualname__)


def delete_ended_windows() -> int:
    """Delete the counts of ended windows, except locked ones.

    :returns: how many rows were deleted.
    """
    return execute(DELETE_ENDED_WINDOWS, []).rowcount


def key_subject(prefix: str) -> str:
    """Return the subject of an API key."""
    return f"key:{prefix}"


def anonymous_subject(what: str, name: str) -> str:
    """Return the subject of a value that an anonymous caller chose.

    The subject is one of `BUCKETS`, by a keyed digest: a caller cannot choose to share the bucket of another.

    :param what: the kind of the value, such as `source`.
    """
    digest = hmac.digest(settings.SECRET_KEY.encode(), f"{what}:{name}".encode(errors="backslashreplace"), hashlib.sha256)
    return f"{what}:{int.from_bytes(digest[:8]) % BUCKETS}"
