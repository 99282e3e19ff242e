"""Runs a domain call, and does what must happen between its transactions: the only place that may.

Between two tries it expires what has lapsed; after a refusal it records that somebody may have paid.
"""

from collections.abc import Callable
from typing import TypeVar

from baskets.db.transactions import in_transaction
from baskets.domain.checkout import attention, expiry
from baskets.domain.errors import CountsNeeded, LapsedHolds, LapsedSession, Refusal, TakenMeanwhile

T = TypeVar("T")


def run(operation: Callable[[bool], T]) -> T:
    """Run `operation` in a transaction of its own and return what it returns, once that is committed.

    :param operation: called with True while lapsed sessions may be reclaimed for their stock, with False in the try
        after that. It may be called several times and must do nothing outside the database.
    :raises Refusal: as the operation does, after the roll-back, and after its flag for staff was recorded.
    :raises django.db.DatabaseError: what a repeat does not mend.
    """
    reclaim = True
    while True:
        try:
            return in_transaction(lambda: operation(reclaim))  # noqa: B023 (called before `reclaim` is bound again)
        except TakenMeanwhile:
            continue  # Somebody else has got it, so this comes to an end.
        except CountsNeeded as short:
            short.take()
        except LapsedSession as found:
            expiry.expire_session(basket_id=found.basket_id)
        except LapsedHolds as found:
            expiry.reclaim_stock(needed=found.needed)
            reclaim = False
        except Refusal as refusal:
            if needed := refusal.attention:
                in_transaction(lambda: attention.record_flag_after_rollback(needed))
            raise
