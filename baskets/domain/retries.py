"""The exceptions that ask the runner for another try, and whether the current try may still reclaim stock.

Deciding when to try again is `runner`'s job; an operation only raises.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID


class RetryTransaction(Exception):
    """The transaction must be rolled back and run again, after `prepare`.

    It is not a refusal: it never leaves the runner.
    """

    def prepare(self) -> None:
        """Do what the next try needs, between the two transactions. By default nothing is needed."""


class StockChanged(RetryTransaction):
    """Another transaction took stock that was available when this one read it. The next try reads it again."""


class LimitBlockUsedUp(RetryTransaction):
    """The process has used up its block of counts of a rate limit, and takes the next block outside of the transaction.

    :param take_block: takes the next block.
    """

    def __init__(self, take_block: Callable[[], None]) -> None:
        super().__init__("this process has too few counts of a limit")
        self._take_block = take_block

    def prepare(self) -> None:
        """Take the next block."""
        self._take_block()


class OwnSessionLapsed(RetryTransaction):
    """The hold of the basket's own session has ended, and the session must be expired before the operation."""

    def __init__(self, *, basket_id: UUID) -> None:
        super().__init__(f"the session of basket {basket_id} has lapsed")
        self.basket_id = basket_id

    def prepare(self) -> None:
        """Expire the session."""
        from baskets.domain.checkout import expiry  # noqa: PLC0415 (expiry runs operations that raise this exception)

        expiry.expire_session(basket_id=self.basket_id)


class StockReclaimable(RetryTransaction):
    """Lapsed sessions hold the missing stock, and must be expired before the next try.

    Raised at most once in a unit of work: the next try takes the stock that is there. See `may_reclaim`.

    :param needed: missing pieces by product id.
    """

    def __init__(self, *, needed: Mapping[str, int]) -> None:
        super().__init__(f"lapsed sessions hold stock of {len(needed)} products")
        self.needed = needed

    def prepare(self) -> None:
        """Expire as many lapsed sessions as the missing pieces need, oldest first."""
        from baskets.domain.checkout import expiry  # noqa: PLC0415 (expiry runs operations that raise this exception)

        expiry.reclaim_stock(needed=self.needed)
        _state.may_reclaim = False


class _State(threading.local):
    """The unit of work of this thread."""

    may_reclaim = False


_state = _State()


def may_reclaim() -> bool:
    """Return whether an operation may raise `StockReclaimable`: only in a unit of work, and only once in it."""
    return _state.may_reclaim


@contextmanager
def unit_of_work() -> Iterator[None]:
    """Let the operations of this block raise `StockReclaimable` once."""
    before, _state.may_reclaim = _state.may_reclaim, True
    try:
        yield
    finally:
        _state.may_reclaim = before
