"""The exceptions that ask the runner for another try, and whether the current try may still reclaim stock.

An operation only raises. `runner` decides when to try again, and prepares the next try.
"""

import threading
from collections.abc import Callable, Mapping
from uuid import UUID


class RetryTransaction(Exception):
    """The transaction must be rolled back and run again, after `runner` has prepared the next try.

    It is not a refusal: it never leaves the runner.
    """

    def prepare(self) -> None:
        """Do what the next try needs, between the two transactions. By default nothing is needed."""


class StockChanged(RetryTransaction):
    """Another transaction took stock that was available when this one read it. The next try reads it again."""


class LimitBlockUsedUp(RetryTransaction):
    """The process has used up its block of counts of a rate limit, and fetches the next block outside of the transaction.

    :param fetch_block: fetches the next block.
    """

    def __init__(self, fetch_block: Callable[[], None]) -> None:
        super().__init__("this process has too few counts of a limit")
        self._fetch_block = fetch_block

    def prepare(self) -> None:
        """Fetch the next block."""
        self._fetch_block()


class OwnSessionLapsed(RetryTransaction):
    """The hold of the basket's own session has ended. The runner expires the session before the next try."""

    def __init__(self, *, basket_id: UUID) -> None:
        super().__init__(f"the session of basket {basket_id} has lapsed")
        self.basket_id = basket_id


class StockReclaimable(RetryTransaction):
    """Lapsed sessions hold the missing stock. The runner expires as many as the missing pieces need before the next try.

    Raised at most once in a unit of work: the next try reserves what is available then. See `may_reclaim`.

    :param needed: missing pieces by product id.
    """

    def __init__(self, *, needed: Mapping[str, int]) -> None:
        super().__init__(f"lapsed sessions hold stock of {len(needed)} products")
        self.needed = needed


class _State(threading.local):
    """The unit of work of this thread."""

    may_reclaim = False


_state = _State()


def may_reclaim() -> bool:
    """Return whether an operation may raise `StockReclaimable`: only in a unit of work, and only once in it."""
    return _state.may_reclaim


def end_reclaiming() -> None:
    """Let the further tries of this unit of work decide by the stock that is available."""
    _state.may_reclaim = False


class unit_of_work:  # noqa: N801 (as context managers are named)
    """Let the operations of this block raise `StockReclaimable` once."""

    def __enter__(self) -> None:
        self._before, _state.may_reclaim = _state.may_reclaim, True

    def __exit__(self, *error: object) -> None:
        _state.may_reclaim = self._before
