"""Every pair of calls that can meet at a basket ends as the two do one after the other, wherever the first is frozen."""

from itertools import combinations_with_replacement
from typing import Any

import pytest

from tests.conftest import Long
from tests.races.pairs import LOCKS, OPERATIONS, at_once, one_after_the_other, while_held

WORLDS = ("active", "lapsed", "aborted", "expired")
PAIRS = list(combinations_with_replacement(OPERATIONS, 2))
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


def assert_serial(kind: str, first: str, second: str, found: Any) -> None:
    """Compare with the two in order, and the other way round."""
    expected = [one_after_the_other(kind, first, second)]
    if first != second:
        expected.append(one_after_the_other(kind, second, first))
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
@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_any_two_calls_that_meet_end_as_one_after_the_other(kind: str, first: str, second: str, long_run: Long) -> None:
    cases = 0
    for one, other in {(first, second), (second, first)}:
        assert_serial(kind, one, other, at_once(kind, one, other))
        for lock in LOCKS:
            assert_serial(kind, one, other, while_held(kind, one, other, lock))
        cases += 1 + len(LOCKS)
    long_run.tell(meetings=cases)
