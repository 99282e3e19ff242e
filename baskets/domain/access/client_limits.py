"""Limits on the guests, starts and pieces of one client key and of one source, counted in blocks.

Source: `baskets/docs/adr/0035-limits-against-a-stolen-key.md`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import structlog

from baskets import conf
from baskets.domain.access import rate_limits
from baskets.domain.errors import Throttled

log = structlog.get_logger("baskets.limits")


class ClientLimits:
    """Counts one call with a client key against the limits of its key and of its source.

    A second amount of the same kind replaces the first, so a call that is tried again counts once.

    :param key: the prefix of the key.
    :param source: returns the address or network that calls. Most calls have a server key, and count against nothing.
    """

    def __init__(self, *, key: str, source: Callable[[], str]) -> None:
        self._key, self._source = key, source
        self._counted: dict[str, int] = {}

    @cached_property
    def _subjects(self) -> Mapping[str, str]:
        return {"key": self._key, "source": rate_limits.anonymous_subject("source", self._source())}

    def count(self, **amounts: int) -> None:
        """Count guests, starts or pieces.

        :raises Throttled: a limit is reached.
        :raises LimitBlockUsedUp: this process must fetch a block of counts first.
        """
        for what, amount in amounts.items():
            for per, name in self._subjects.items():
                most = conf.client_limit(what, per=per)
                subject = f"{what}:{name}"
                more = amount - self._counted.get(subject, 0)
                if not most or not more:
                    continue
                try:
                    rate_limits.consume(rate_limits.RateLimit(subject=subject, most=most, window=conf.client_limit_window()), more)
                except Throttled as refusal:
                    log.warning("client_limited", what=what, per=per, key=self._key, seconds=refusal.seconds)
                    raise
                self._counted[subject] = amount

    @contextmanager
    def returned_on_failure(self) -> Iterator["ClientLimits"]:
        """Return the counted amounts if the block raises: a refused call uses up no limit."""
        try:
            yield self
        except BaseException:
            self.return_counts()
            raise

    def return_counts(self) -> None:
        """Return all counted amounts to the limits."""
        if self._counted:
            self.count(guests=0, starts=0, pieces=0)
