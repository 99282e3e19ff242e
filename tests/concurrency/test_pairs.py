"""Every pair of concurrent calls on a basket ends like one of its sequential orders, wherever the first is paused."""

import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest

from tests.concurrency.operations import EXPIRE_SHOPPER, EXPIRE_THIRD_SHOPPER, OPERATIONS, Defect
from tests.concurrency.pairs import LOCKS, at_once, one_after_the_other, while_held
from tests.conftest import LongRun

WORLDS = ("active", "lapsed", "aborted", "expired", "failed", "two lapsed", "gone")
# For every run: those that are likeliest to meet, or that met badly in some other service or in this one.
USUAL = [
    ("lapsed", "order", "sweep", "shirts"),
    ("lapsed", "order", "another buyer", "shirts"),
    ("lapsed", "abort", "another buyer", "shirts"),
    ("lapsed", "start", "sweep", "shirts"),
    ("active", "order", "abort", "shirts"),
    ("active", "order", "delete", "shirts"),
    ("active", "abort", "feed", "shirts"),
    ("active", "order", "staff aborts", "shirts"),
    ("expired", "order by number", "another buyer", "shirts"),
    ("aborted", "order by number", "start", "shirts"),
    ("aborted", "order", "order by number", "basket"),
    ("two lapsed", "order", "another buyer", "basket"),
    ("failed", "staff holds again", "another buyer", "caps"),
    ("active", "staff releases", "order", "basket"),
    ("active", "take over", "take over", "transfers"),
    ("aborted", "staff extends", "delete", "basket"),
    ("aborted", "staff erases", "place", "basket"),
    ("aborted", "staff erases", "consent", "comfort"),
    ("active", "no consent", "consent", "comfort"),
    ("gone", "purge", "staff orders the old", "shirts"),
    ("active", "feed", "purge", "shirts"),
]

pytestmark = pytest.mark.django_db(transaction=True)


# What comes of two calls one after the other does not change within a run.
alone = cache(one_after_the_other)


def expected(kind: str, first: str, second: str) -> Iterator[Any]:
    """What may come of two calls: of the two in order, and the other way round.

    What a call does in a separate transaction, before it starts or after its refusal, may be separated from it.
    """
    orders = {(first, second), (second, first)}
    yield from (alone(kind, *pair) for pair in orders)
    names = {first, second}
    lapsed = {"lapsed": ["anna"], "failed": ["cleo"], "two lapsed": ["anna", "cleo"]}.get(kind, [])
    choices = [((), (user,)) if names & {"anna": EXPIRE_SHOPPER, "cleo": EXPIRE_THIRD_SHOPPER}[user] else ((),) for user in lapsed]
    for chosen, flag_last, pair in product(product(*choices), (False, True), sorted(orders)):
        yield alone(kind, *pair, expired=tuple(user for users in chosen for user in users), flag_last=flag_last)


def is_serial(kind: str, first: str, second: str, found: Any) -> bool:
    """Tell whether two calls ended as one after the other, and neither failed."""
    if any(isinstance(outcome, Defect) for outcome in found[0].values()):
        return False
    if first != second:
        return found in expected(kind, first, second)
    # The names of two equal calls do not show which was first.
    outcomes, state = found
    return any(
        (candidate, state) in expected(kind, first, second)
        for candidate in (outcomes, dict(zip(outcomes, [*outcomes.values()][::-1], strict=True)))
    )


@pytest.mark.parametrize(("kind", "first", "second", "lock"), USUAL)
def test_concurrent_pair_ends_as_one_of_its_sequential_orders(kind: str, first: str, second: str, lock: str) -> None:
    for found in (at_once(kind, first, second), while_held(kind, first, second, lock)):
        assert is_serial(kind, first, second, found), (found, [alone(kind, first, second), alone(kind, second, first)])


@pytest.mark.long
def test_every_concurrent_pair_ends_as_one_of_its_sequential_orders(long_run: LongRun) -> None:
    """In an order that chance decides, until the time is over."""
    cases = [(kind, first, second, way) for kind in WORLDS for first in OPERATIONS for second in OPERATIONS for way in (None, None, *LOCKS)]
    long_run.rng.shuffle(cases)
    end = time.monotonic() + long_run.seconds
    wrong = []
    for number, (kind, first, second, way) in enumerate(cases):
        if time.monotonic() > end:
            break
        found = while_held(kind, first, second, way) if way else at_once(kind, first, second)
        long_run.record(meetings=1)
        if not is_serial(kind, first, second, found):
            wrong.append((number, kind, first, second, way, found))
    assert wrong == []
