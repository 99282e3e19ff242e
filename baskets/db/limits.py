"""How long this thread waits for the database at most, where that is not the usual limit."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Added to the limit that the server has for a statement: its reply, an error included, must still arrive.
ANSWER_SECONDS = 5


class _Limit(threading.local):
    """:ivar is_set: whether `seconds` replaces the usual limit; None means no limit."""

    is_set = False
    seconds: float | None = None


_limit = _Limit()


@contextmanager
def client_waits(*, statement_seconds: float | None) -> Iterator[None]:
    """Let this thread wait longer within the block, for statements whose `statement_timeout` is longer than the usual one.

    :param statement_seconds: their `statement_timeout`; None: no limit.
    """
    before = _limit.is_set, _limit.seconds
    _limit.is_set, _limit.seconds = True, None if statement_seconds is None else statement_seconds + ANSWER_SECONDS
    try:
        yield
    finally:
        _limit.is_set, _limit.seconds = before


def wait_limit(usual: float | None) -> float | None:
    """Return how many seconds this thread waits for one round trip; None: no limit."""
    return _limit.seconds if _limit.is_set else usual
