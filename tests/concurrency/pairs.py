"""Two calls that meet at one basket: what may come of them is what comes of them one after the other, in either order.

The expected outcome is not written down: it comes from the calls themselves, run one after the other.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

from django.db import connection

from baskets.db.transactions import run_in_transaction
from baskets.domain.checkout import attention, expiry
from tests.concurrency.barrier import WAIT_SECONDS, are_stuck_or_done, run_concurrently
from tests.concurrency.operations import OPERATIONS, summarize_outcome
from tests.concurrency.scenarios import build_scenario, final_state
from tests.second_client import holding
from tests.waiting import eventually


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call says, or refuses, or how it fails."""
    try:
        return summarize_outcome(call())
    except Exception as error:  # noqa: BLE001 (an outcome like any other: it is compared)
        return summarize_outcome(error)
    finally:
        if threading.current_thread() is not threading.main_thread():
            connection.close()


def one_after_the_other(kind: str, first: str, second: str, *, expired: tuple[str, ...] = (), flag_last: bool = False) -> Any:
    """Run two calls alone, in this order.

    :param expired: whose lapsed checkouts are expired before, as by a call that needs it and is retried.
    :param flag_last: whether the flag that follows a refusal comes after both, as it may in its own transaction.
    """
    scenario = build_scenario(kind)
    for user in expired:
        expiry.expire_session(basket_id=scenario.shopper.beside(user).owner.basket_id)
    flags: list[Any] = []
    with mock.patch.object(attention, "record_flag_after_rollback", flags.append if flag_last else attention.record_flag_after_rollback):
        outcomes = [outcome_of(lambda name=name: OPERATIONS[name](scenario)) for name in (first, second)]
    for needed in flags:
        run_in_transaction(lambda needed=needed: attention.record_flag_after_rollback(needed))
    return _found(first, second, outcomes)


def at_once(kind: str, first: str, second: str) -> Any:
    """At a barrier: chance decides who comes first."""
    scenario = build_scenario(kind)
    outcomes = run_concurrently([lambda: OPERATIONS[first](scenario), lambda: OPERATIONS[second](scenario)])
    return _found(first, second, [summarize_outcome(outcome) for outcome in outcomes])


def while_held(kind: str, first: str, second: str, lock: str) -> Any:
    """Send both into a lock that a third connection holds, so that the first waits there when the second arrives."""
    scenario = build_scenario(kind)
    lock = LOCKS[lock].format(basket=scenario.shopper.owner.basket_id)
    with ThreadPoolExecutor(2) as pool, holding(lock):
        running: list[Future[Any]] = []
        for name in (first, second):
            running.append(pool.submit(outcome_of, lambda name=name: OPERATIONS[name](scenario)))
            # The lock timeout is 3 s: a second call that comes later finds no lock, as on a busy machine it may.
            eventually(lambda: are_stuck_or_done(running), 2)
    return _found(first, second, [call.result(WAIT_SECONDS) for call in running])


def _found(first: str, second: str, outcomes: list[Any]) -> Any:
    names = (first, second + " second" * (first == second))
    return dict(zip(names, outcomes, strict=True)), final_state(purging="purge" in names)


LOCKS = {
    "basket": "SELECT FROM baskets_basket WHERE id = '{basket}' FOR UPDATE",
    "shirts": "SELECT FROM baskets_stock WHERE product_id = 'shirt' FOR UPDATE",
    "caps": "SELECT FROM baskets_stock WHERE product_id = 'cap' FOR UPDATE",
    "transfers": "SELECT FROM baskets_transfer WHERE basket_id = '{basket}' FOR UPDATE",
    "comfort": "SELECT FROM baskets_comfort WHERE basket_id = '{basket}' FOR UPDATE",
}
