"""Counts what may happen only so often: calls of a key, failed keys and passwords of a source.

One statement in a transaction of its own decides, so the count is shared by all workers and exact however many ask at
once. It never stands inside the transaction of what it counts: its row would be locked as long, and a refusal would
take the count back. Source: `baskets/docs/adr/0020-counting-in-one-statement.md`.
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

from baskets.db.errors import Fault, fault_of, reading
from baskets.db.pipeline import execute
from baskets.domain.errors import Throttled
from baskets.domain.retries import LimitBlockUsedUp

log = structlog.get_logger("baskets.throttles")

# Note [Blocks of counts]
# A limit that a crowd meets with every call cannot cost every call a statement, and one locked row per key would make the
# crowd queue. So a process takes counts from the database in blocks, and gives them out by itself. In each window it also
# gives out a few without asking, so the ordinary caller, who is one of a few from its source, costs no statement at all.
# All processes together let no more through than the limit and those few each; what a process has taken and not given out
# is less than one block. Both are small parts of the limit. A window that is full is remembered: a flood costs no statement.
FREE_DIVISOR = 1000
BLOCK_DIVISOR = 100
# Windows that are over are forgotten once so many are remembered.
MAX_WINDOWS = 10_000

# A subject beyond its limit is found by a plain read: a flood neither writes nor waits for a lock. Each caller that passes
# the read gets numbers that no other caller has, and only numbers up to the limit are granted.
HIT = """
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
"""
UNDO_HIT = """
UPDATE baskets_throttle SET count = count - 1 WHERE subject = %s AND count > 0 AND ends_at > statement_timestamp()
"""
DELETE_ENDED_WINDOWS = """
DELETE FROM baskets_throttle WHERE subject IN (
    SELECT subject FROM baskets_throttle WHERE ends_at <= statement_timestamp() FOR UPDATE SKIP LOCKED
)
"""
# What strangers choose, addresses and user names, is counted in this many buckets: they cannot fill the table.
BUCKETS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a subject got of what it asked for.

    :param amount: how many counts are granted, perhaps fewer than were asked for.
    :param seconds: how long the window still lasts.
    """

    amount: int
    seconds: float


def hit(*, subject: str, limit: int, window: timedelta) -> int | None:
    """Count one more for a subject.

    The window begins with the first count and does not slide. Where the database cannot count, the call goes on:
    a throttle protects the service, and must not be what fails.
    Locks the subject's row for the one statement, and no other.

    :param limit: how many are let through in a window.
    :returns: None within the limit, else the seconds to wait.
    """
    granted = hit_many(subject=subject, amount=1, limit=limit, window=window)
    return None if granted.amount else max(1, math.ceil(granted.seconds))


def hit_many(*, subject: str, amount: int, limit: int, window: timedelta) -> Grant:
    """Count several more for a subject, as far as its limit allows. The window and failures are as in `take`.

    A wait for the subject's row that runs out is a refusal: only a flood of the same subject makes a caller wait that long,
    and letting the flood through would be no limit at all.
    """
    parameters = {"subject": subject, "amount": amount, "limit": limit, "window": window}
    try:
        ((granted, seconds),) = reading(lambda: execute(HIT, parameters).fetchall())
    except DatabaseError as error:
        fault = fault_of(error)
        log.warning("throttle_failed", fault=fault.name, error=type(error).__qualname__)
        return Grant(amount=0, seconds=1.0) if fault is Fault.BUSY else Grant(amount=amount, seconds=window.total_seconds())
    return Grant(amount=granted, seconds=seconds)


# --- In blocks: see Note [Blocks of counts] ---------------------------------------


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """How many counts of one subject are let through in a window."""

    subject: str
    most: int
    window: timedelta


@dataclass(kw_only=True)
class _LocalWindow:
    """What this process knows of the present window of one subject.

    :param left: counts that it may still give out.
    :param ends_at: by the monotonic clock.
    :param full: whether the database has no more.
    """

    left: int
    ends_at: float
    full: bool = False


_windows: dict[str, _LocalWindow] = {}
_windows_lock = threading.Lock()


def consume(limit: RateLimit, amount: int) -> None:
    """Give out counts of a subject, without a statement. An amount below zero returns counts that were not used.

    :raises LimitBlockUsedUp: this process has too few, and must take a block outside of the transaction.
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
    """Forget what this process has taken and not given out."""
    with _windows_lock:
        _windows.clear()


def _fetch_block(limit: RateLimit, amount: int) -> None:
    """Take a block of counts from the database, of at least this amount if there are as many."""
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


# --- What they have in common -----------------------------------------------------


def undo_hit(*, subject: str) -> None:
    """Take back one count of a subject: it turned out not to be what is counted."""
    try:
        reading(lambda: execute(UNDO_HIT, [subject]))
    except DatabaseError as error:
        log.warning("throttle_failed", fault=fault_of(error).name, error=type(error).__qualname__)


def delete_ended_windows() -> int:
    """Remove the counts of windows that are over, those somebody is counting in aside, and return how many that were."""
    return execute(DELETE_ENDED_WINDOWS, []).rowcount


def key_subject(prefix: str) -> str:
    """Name a key as a subject."""
    return f"key:{prefix}"


def anonymous_subject(what: str, name: str) -> str:
    """Name what a stranger chose as a subject: its bucket, keyed, so that nobody can choose whose bucket to share."""
    digest = hmac.digest(settings.SECRET_KEY.encode(), f"{what}:{name}".encode(errors="backslashreplace"), hashlib.sha256)
    return f"{what}:{int.from_bytes(digest[:8]) % BUCKETS}"
