"""Processes are killed under load: acknowledged calls are stored, others completely or not at all, and no manual step is needed."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from random import Random

import pytest

from tests.chaos.faults import DATABASE_FAULTS, FAULTS, SERVICE_FAULTS, Fault
from tests.chaos.harness import Harness, running_harness
from tests.chaos.journal import ChaosClient
from tests.conftest import LongRun
from tests.threads import beside
from tests.waiting import eventually

pytestmark = pytest.mark.long

APPS = 6


@contextmanager
def under_load(harness: Harness, rng: Random) -> Iterator[list[ChaosClient]]:
    """Run clients that call the service in the background; a violation that one of them finds fails the test."""
    apps = [ChaosClient(harness, number, Random(rng.getrandbits(64))) for number in range(APPS)]
    stop = threading.Event()
    with beside(*(partial(app.run, stop) for app in apps), stop=stop.set):
        yield apps


def assert_every_promise_is_kept(harness: Harness, apps: Sequence[ChaosClient]) -> None:
    """Check, without a manual step, that the service responds, has stored every acknowledged call, and holds no lock."""
    assert eventually(lambda: harness.status("/readyz") == 200), harness.log()
    with ThreadPoolExecutor(APPS) as pool:
        for _ in pool.map(assert_journal_is_true, apps):
            pass
    harness.manage("check_baskets")
    with harness.database() as client:
        held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'baskets' AND l.granted"
        assert eventually(lambda: client.execute(held).fetchone() == (0,), 20), "locks are left"
        state = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'baskets' AND state LIKE 'idle in transaction%'"
        assert client.execute(state).fetchone() == (0,)


def assert_journal_is_true(app: ChaosClient) -> None:
    for user, basket in app.known.items():
        assert app.read_lists(user) == basket, user
    for order_no, (user, status) in app.orders.items():
        reported = app.call("GET", user, f"/checkout/sessions/{order_no}", None)[1]
        assert (reported["data"]["status"], order_no) == (status, order_no)


def test_a_few_kills_break_no_promise(long_run: LongRun) -> None:
    """The short form of the kill program."""
    with running_harness() as harness:
        with under_load(harness, long_run.rng) as apps:
            for name in ("worker_killed", "backend_terminated", "backend_killed", "service_killed", "database_killed"):
                time.sleep(0.4)
                FAULTS[name](harness, long_run.rng)
            time.sleep(0.4)
        assert_every_promise_is_kept(harness, apps)


@pytest.mark.parametrize("name", FAULTS)
def test_each_kind_of_fault_is_survived_alone(name: str, long_run: LongRun) -> None:
    with running_harness() as harness:
        with under_load(harness, long_run.rng) as apps:
            for _ in range(3):
                time.sleep(0.5)
                FAULTS[name](harness, long_run.rng)
            time.sleep(0.5)
        assert_every_promise_is_kept(harness, apps)
    long_run.record(faults=3, **counted(apps))


def test_hundreds_of_faults_break_no_promise(long_run: LongRun) -> None:
    """Two threads inject faults at random and independently: one into the service, one into the database.

    The same seed makes the same choices, but not at the same moments.
    """
    print(f"seed {long_run.seed}")  # noqa: T201 (shown if the test fails)
    end = time.monotonic() + long_run.seconds
    done: Counter[str] = Counter()
    while time.monotonic() < end:
        with running_harness() as harness:
            with under_load(harness, long_run.rng) as apps, ThreadPoolExecutor(2) as pool:
                injectors = [
                    pool.submit(inject_faults, harness, Random(long_run.rng.getrandbits(64)), faults, until=min(end, time.monotonic() + 90))
                    for faults in (SERVICE_FAULTS, DATABASE_FAULTS)
                ]
                for injector in injectors:
                    done += injector.result()
            assert_every_promise_is_kept(harness, apps)
        long_run.record(**counted(apps))
    long_run.record(faults=done.total(), **done)


def inject_faults(harness: Harness, rng: Random, faults: Sequence[Fault], *, until: float) -> Counter[str]:
    """Inject one fault after the other, each into a service that has recovered, and count them."""
    done: Counter[str] = Counter()
    while time.monotonic() < until:
        assert eventually(lambda: harness.status("/readyz") == 200), harness.log()
        time.sleep(rng.uniform(0, 1.0))
        fault = rng.choice(faults)
        fault(harness, rng)
        done[fault.__name__] += 1
    return done


def counted(apps: Sequence[ChaosClient]) -> Counter[str]:
    return sum((Counter({word.replace(" ", "_"): n for word, n in app.calls.items()}) for app in apps), Counter())
