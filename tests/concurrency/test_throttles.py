"""However many call at once, exactly as many are let through as the limit says; and the control that shows why."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from pytest_django import Settings

from baskets.db.pipeline import execute
from baskets.domain import runner
from baskets.domain.access import rate_limits
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.errors import Throttled
from baskets.models import Partner, Throttle
from baskets.models.basket_snapshot import Owner
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User, available
from tests.factories import PartnerFactory

HOUR = timedelta(hours=1)
CALLERS, LIMIT = 20, 7


def patient_take() -> int | None:
    """Count one call, and wait for the row however slow a loaded machine is: a wait that runs out is a refusal."""
    execute("SET lock_timeout = '30s'", [])
    return rate_limits.hit(subject="key:one", limit=LIMIT, window=HOUR)


def test_throttle_admits_exactly_its_limit(transactional_db: None) -> None:
    outcomes = run_concurrently([patient_take] * CALLERS)
    assert Counter(outcome is None for outcome in outcomes) == {True: LIMIT, False: CALLERS - LIMIT}
    assert all(3500 < outcome <= 3600 for outcome in outcomes if outcome is not None)


def test_expired_window_admits_exactly_its_limit_again(transactional_db: None) -> None:
    run_concurrently([patient_take] * CALLERS)
    Throttle.objects.update(ends_at="2020-01-01T00:00:00Z")
    outcomes = run_concurrently([patient_take] * CALLERS)
    assert outcomes.count(None) == LIMIT


def test_wait_for_the_row_that_runs_out_is_a_refusal(transactional_db: None) -> None:
    rate_limits.hit(subject="key:one", limit=LIMIT, window=HOUR)

    def impatient_take() -> int | None:
        execute("SET lock_timeout = '50ms'", [])
        return rate_limits.hit(subject="key:one", limit=LIMIT, window=HOUR)

    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM baskets_throttle FOR UPDATE")
        outcomes = run_concurrently([impatient_take] * 5)
        cursor.execute("ROLLBACK")
    assert outcomes == [1] * 5
    assert Throttle.objects.get().count == 1


def test_concurrent_counts_are_granted_up_to_the_limit(transactional_db: None) -> None:
    def take_three() -> int:
        execute("SET lock_timeout = '30s'", [])
        return rate_limits.hit_many(subject="key:one", amount=3, limit=LIMIT, window=HOUR).amount

    outcomes = run_concurrently([take_three] * CALLERS)
    assert Counter(outcomes) == {3: 2, 1: 1, 0: CALLERS - 3}


def test_control_with_read_then_write_exceeds_the_limit(transactional_db: None) -> None:
    """A throttle in two statements: all callers read before the first one writes."""
    all_have_read = threading.Barrier(CALLERS)

    def take() -> bool:
        count = Throttle.objects.filter(subject="key:one").values_list("count", flat=True).first() or 0
        all_have_read.wait(30)
        if count >= LIMIT:
            return False
        Throttle.objects.update_or_create(subject="key:one", defaults={"count": count + 1, "ends_at": "2100-01-01T00:00:00Z"})
        return True

    assert run_concurrently([take] * CALLERS).count(True) > LIMIT


def test_exhausted_window_neither_writes_nor_waits(transactional_db: None) -> None:
    rate_limits.hit(subject="key:one", limit=1, window=HOUR)
    version = execute("SELECT xmin FROM baskets_throttle", []).fetchone()

    def held() -> list[int | None]:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM baskets_throttle FOR UPDATE")
            found = run_concurrently([lambda: rate_limits.hit(subject="key:one", limit=1, window=HOUR)] * 5)
            cursor.execute("ROLLBACK")
        return found

    assert None not in held()
    assert execute("SELECT xmin FROM baskets_throttle", []).fetchone() == version


def test_sweep_skips_a_locked_throttle_row(transactional_db: None) -> None:
    rate_limits.hit(subject="key:one", limit=1, window=HOUR)
    Throttle.objects.update(ends_at="2020-01-01T00:00:00Z")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM baskets_throttle FOR UPDATE")
        assert run_concurrently([rate_limits.delete_ended_windows]) == [0]
        cursor.execute("ROLLBACK")
    assert run_concurrently([rate_limits.delete_ended_windows]) == [1]


@pytest.mark.parametrize("table", ["baskets_throttle"])
def test_counting_costs_no_write_ahead_log(transactional_db: None, table: str) -> None:
    assert execute("SELECT relpersistence FROM pg_class WHERE relname = %s", [table]).fetchone() == ("u",)


def test_concurrent_starts_of_one_partner_hold_exactly_its_share(shopper: User, settings: Settings) -> None:
    """The other partner is without a limit, so its start sends the reservation without a check."""
    settings.BASKETS_PARTNER_SHARE_PERCENT = 10
    Partner.objects.filter(pk=shopper.owner.partner_id).update(share_percent=50)
    other = User(Owner(partner_id=PartnerFactory(share_percent=0).pk, user_id="other-user"))
    buyers = [shopper.beside(f"buyer-{number}") for number in range(10)]
    for user in (*buyers, other):
        user.place("shirt", 1)
        user.place("cap", 1)
    outcomes = run_concurrently([*(buyer.start for buyer in buyers), other.start])
    held = [user.lists()["checkout"] for user in (*buyers, other) if user.lists()["checkout"]]
    assert Counter(type(outcome).__name__ for outcome in outcomes[:-1]) == {"StartedSession": 5, "OutOfStock": 5}
    assert held == [[("shirt", 1, 1), ("cap", 1, 1)]] * 6
    assert (available("shirt"), available("cap")) == ((4, 0), (4, 0))


def test_concurrent_starts_of_two_devices_count_for_one_user(shopper: User, settings: Settings) -> None:
    settings.BASKETS_STARTS_PER_HOUR = 1
    shopper.place("shirt", 1)
    outcomes = run_concurrently([shopper.start] * 5)
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {"StartedSession": 1, "CheckoutActive": 4}


# --- Limits of client keys, in blocks -----------------------------------------------------------------------


def starts(source: str, amount: int = 1) -> Callable[[], None]:
    """One call that counts a start, run as the runner does it."""

    def start() -> None:
        limits = ClientLimits(key="stolen", source=lambda: source)
        runner.run(limits.count, starts=amount)

    return start


@pytest.mark.parametrize("most", [7, 150])
def test_concurrent_starts_of_one_source_stop_at_the_limit(transactional_db: None, settings: Settings, most: int) -> None:
    settings.BASKETS_STARTS_PER_SOURCE = most
    outcomes = run_concurrently([lambda: [_outcome(starts("192.0.2.1")) for _ in range(10)]] * CALLERS)
    flat = Counter(outcome for several in outcomes for outcome in several)
    assert flat == {"done": most, "Throttled": CALLERS * 10 - most}


def test_ended_process_loses_less_than_one_block_of_counts(transactional_db: None, settings: Settings) -> None:
    """Ten processes, one after the other, each as if it knew nothing of the others."""
    settings.BASKETS_STARTS_PER_SOURCE = 2000
    done = 0
    for _ in range(10):
        rate_limits.clear_local_windows()
        done += sum(_outcome(starts("192.0.2.1")) == "done" for _ in range(250))
    assert 2000 - 10 * 20 <= done <= 2000 + 10 * 2


def test_flood_from_one_source_does_not_throttle_others(transactional_db: None, settings: Settings) -> None:
    settings.BASKETS_STARTS_PER_SOURCE = 5
    honest = [starts(f"198.51.100.{number}") for number in range(10)]
    flood = [starts("192.0.2.1")] * 10
    outcomes = run_concurrently([*(lambda call=call: _outcome(call) for call in (*honest, *flood))])
    assert outcomes[:10] == ["done"] * 10
    assert Counter(outcomes[10:]) == {"done": 5, "Throttled": 5}


def _outcome(call: Callable[[], None]) -> str:
    try:
        call()
    except Throttled:
        return "Throttled"
    return "done"
