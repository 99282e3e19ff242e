"""Every pair of calls that can meet at a basket ends as the two do one after the other, wherever the first is frozen."""

import time
from functools import cache
from typing import Any

import pytest

from tests.conftest import Long
from tests.races.pairs import IN_TWO_STEPS, LOCKS, OPERATIONS, at_once, one_after_the_other, while_held

WORLDS = ("active", "lapsed", "aborted", "expired")
# For every run: those that are likeliest to meet, or that met badly in some other service.
USUAL = [
    ("lapsed", "order", "sweep"),
    ("lapsed", "order", "another buyer"),
    ("lapsed", "abort", "another buyer"),
    ("lapsed", "start", "sweep"),
    ("active", "order", "abort"),
    ("active", "order", "delete"),
    ("active", "abort", "feed"),
    ("active", "order", "staff aborts"),
    ("expired", "order by number", "another buyer"),
    ("aborted", "order by number", "start"),
]

pytestmark = pytest.mark.django_db(transaction=True)


# What comes of two calls one after the other does not change within a run.
alone = cache(one_after_the_other)


def assert_serial(kind: str, first: str, second: str, found: Any) -> None:
    """Compare with the two in order, and the other way round."""
    expected = [alone(kind, first, second)]
    if kind == "lapsed" and IN_TWO_STEPS & {first, second}:
        expected += [alone(kind, *pair, expired_before=True) for pair in {(first, second), (second, first)}]
    if first != second:
        expected.append(alone(kind, second, first))
    else:
        # Which of two like calls was first cannot be told by their names.
        outcomes, state = expected[0]
        expected.append((dict(zip(outcomes, reversed(outcomes.values()), strict=True)), state))
    assert found in expected


@pytest.mark.parametrize(("kind", "first", "second"), USUAL)
def test_two_calls_that_meet_end_as_one_after_the_other(kind: str, first: str, second: str) -> None:
    assert_serial(kind, first, second, at_once(kind, first, second))
    assert_serial(kind, first, second, while_held(kind, first, second, "shirts"))


@pytest.mark.long
def test_any_two_calls_that_meet_end_as_one_after_the_other(long_run: Long) -> None:
    """In an order that chance decides, until the time is over."""
    cases = [(kind, first, second, way) for kind in WORLDS for first in OPERATIONS for second in OPERATIONS for way in (None, None, *LOCKS)]
    long_run.chance.shuffle(cases)
    end = time.monotonic() + long_run.seconds
    wrong = []
    for number, (kind, first, second, way) in enumerate(cases):
        if time.monotonic() > end:
            break
        found = while_held(kind, first, second, way) if way else at_once(kind, first, second)
        long_run.tell(meetings=1)
        try:
            assert_serial(kind, first, second, found)
        except AssertionError:
            wrong.append((number, kind, first, second, way, found))
    assert wrong == []
