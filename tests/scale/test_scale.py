"""How long `check_baskets` takes where there is much to check."""

import time
from itertools import pairwise

import pytest

from baskets.domain.maintenance import invariant_checker
from baskets.domain.maintenance.invariants import INVARIANTS
from tests.conftest import LongRun
from tests.scale.filled import fill

MILLION = 1_000_000
HOUR_SECONDS = 3600


@pytest.mark.django_db
def test_generated_database_satisfies_all_invariants() -> None:
    """What is measured below is what the domain would have written, as far as the proofs can tell."""
    fill(400)
    assert invariant_checker.check_invariants() == []


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_million_baskets_are_checked_within_an_hour(long_run: LongRun) -> None:
    fill(MILLION)
    moments = [time.monotonic()]
    assert invariant_checker.check(advance=lambda _: moments.append(time.monotonic())) == []
    took = moments[-1] - moments[0]
    names = [*(proof.slug for proof in INVARIANTS), invariant_checker.BASKET_KEYS.slug]
    slowest = sorted(((end - start, name) for (start, end), name in zip(pairwise(moments), names, strict=True)), reverse=True)
    print([f"{name} {seconds:.1f} s" for seconds, name in slowest[:12]])  # noqa: T201 (shown with -s)
    long_run.record(baskets_checked=MILLION, seconds_to_check_them=round(took))
    assert took < HOUR_SECONDS / 10
