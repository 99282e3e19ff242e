"""Runs one unit of work: a domain operation in a transaction, with its retries and its flag for staff.

The only module that may roll one transaction back and open another one for the same call.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from baskets.db.transactions import in_transaction
from baskets.domain.checkout import attention
from baskets.domain.errors import Refusal
from baskets.domain.retries import RetryTransaction, unit_of_work

P = ParamSpec("P")
T = TypeVar("T")


def run(operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an operation as a unit of work and return its result, once that is committed.

    Example: `runner.run(lifecycle.delete_basket, owner=owner, actor=actor)`.

    :param operation: may be called several times, and must have no effect outside the database.
    :raises Refusal: the operation refused; everything was rolled back, and the flag for staff was recorded.
    :raises django.db.DatabaseError: a failure that a retry does not cure.
    """
    with unit_of_work():
        while True:
            try:
                return in_transaction(partial(operation, *args, **kwargs))
            except RetryTransaction as retry:
                retry.prepare()
            except Refusal as refusal:
                if flag := refusal.attention:
                    in_transaction(partial(attention.record_flag_after_rollback, flag))
                raise
