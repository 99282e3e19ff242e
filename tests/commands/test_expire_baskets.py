"""`expire_baskets` at the shell: checkouts first, in batches, stopped between two of them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection

from baskets.domain.checkout import expiry
from baskets.domain.maintenance import invariant_checker
from baskets.models import ActivityState, Basket, CheckoutSession
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.conftest import Log
from tests.domain.scenarios import User, available
from tests.factories import PartnerFactory, ProductFactory
from tests.roles import separate_role

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def users() -> list[User]:
    """Three users with a lapsed checkout of a shirt each, and one with a basket past its time."""
    ProductFactory(product_id="shirt", unsold=10)
    partner = PartnerFactory()
    made = [User(Owner(partner_id=partner.pk, user_id=f"user-{n}")) for n in range(4)]
    for user in made:
        user.place("shirt", 2)
    for user in made[:3]:
        user.start()
        user.wait(hours=1)
    made[3].wait(days=31)
    return made


@pytest.fixture
def owner(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """Another connection of the usual role."""
    settings = connection.settings_dict
    names = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    with psycopg.connect(**{name: settings[key] for name, key in names.items()}) as client:
        yield client


def statuses() -> list[str]:
    return sorted(CheckoutSession.objects.values_list("status", flat=True))


def test_what_is_past_its_time_is_expired_and_a_second_run_finds_nothing(run: Run, users: list[User]) -> None:
    done = run("expire_baskets")
    assert (done.code, done.out, done.err) == (0, "Expired 3 checkouts and 1 basket.\n", "")
    assert (statuses(), available("shirt")) == (["EXPIRED"] * 3, (10, 0))
    assert users[3].basket() is None
    first = ActivityState.objects.get().swept_at
    assert run("expire_baskets", "--json").data == {
        "checkouts_expired": 0,
        "baskets_expired": 0,
        "left_in_use": 0,
        "stopped": False,
        "dry_run": False,
    }
    assert ActivityState.objects.get().swept_at > first
    assert invariant_checker.check() == []


@pytest.mark.usefixtures("users")
def test_a_rehearsal_counts_and_changes_nothing(run: Run, stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    before = stored_rows()
    assert run("expire_baskets", "--dry-run").out == "Would expire 3 checkouts and 1 basket.\n"
    assert stored_rows() == before


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_finishes_current_batch(run: Run, monkeypatch: pytest.MonkeyPatch, signal_number: int) -> None:
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    sweep = expiry.sweep_sessions

    def stopped_in_the_first_batch(**arguments: Any) -> expiry.SweepResult:
        os.kill(os.getpid(), signal_number)
        return sweep(**arguments)

    monkeypatch.setattr(expiry, "sweep_sessions", stopped_in_the_first_batch)
    handler = signal.getsignal(signal_number)
    done = run("expire_baskets")
    assert (done.code, done.out) == (1, "Expired 1 checkout and 0 baskets.\n")
    assert done.err == "CommandError: Stopped on request after a whole batch; the next run does the rest.\n"
    assert signal.getsignal(signal_number) == handler
    assert statuses() == ["ACTIVE", "ACTIVE", "EXPIRED"]
    assert not ActivityState.objects.filter(swept_at__isnull=False)
    assert run("expire_baskets").code == 1
    assert statuses() == ["ACTIVE", "EXPIRED", "EXPIRED"]
    assert invariant_checker.check() == []


@pytest.mark.usefixtures("users")
def test_small_batches_reach_everything(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    assert run("expire_baskets").out == "Expired 3 checkouts and 1 basket.\n"
    assert Basket.objects.filter(hidden_at__isnull=False).count() == 1


@pytest.mark.usefixtures("users")
def test_workers_share_a_backlog_on_connections_of_their_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first batch, each of two waits until the other has begun one, too."""
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    sweep, begun, backends = expiry.sweep_sessions, threading.Barrier(2, timeout=20), set()

    def together(**arguments: Any) -> expiry.SweepResult:
        if backends:  # The first batch shows whether there is a backlog, so it runs alone.
            begun.wait()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            backends.add(cursor.fetchone()[0])
        return sweep(**arguments)

    monkeypatch.setattr(expiry, "sweep_sessions", together)
    assert run("expire_baskets").out == "Expired 3 checkouts and 1 basket.\n"
    assert len(backends) == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [list(backends)])
        assert cursor.fetchone() == (1,)


@pytest.mark.usefixtures("users")
def test_an_error_of_one_worker_ends_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    sweep, swept, failing = expiry.sweep_sessions, [], threading.Event()

    def fail_elsewhere(**arguments: Any) -> expiry.SweepResult:
        if threading.current_thread() is not threading.main_thread():
            failing.set()
            raise RuntimeError("of the other worker")
        if swept:  # The first batch runs alone.
            assert failing.wait(20)
        swept.append(None)
        return sweep(**arguments)

    monkeypatch.setattr(expiry, "sweep_sessions", fail_elsewhere)
    with pytest.raises(RuntimeError, match="of the other worker"):
        run("expire_baskets")
    assert "EXPIRED" in statuses()
    assert invariant_checker.check() == []


@pytest.mark.usefixtures("users")
def test_a_role_with_one_connection_sweeps_alone(
    run: Run, log: Log, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database refuses the second worker; the first one does all the work."""
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    with separate_role(owner, monkeypatch, options="CONNECTION LIMIT 1"):
        done = run("expire_baskets")
    assert (done.code, done.out) == (0, "Expired 3 checkouts and 1 basket.\n")
    refused = log.lines("sweep_worker_refused")
    assert len(refused) == 2  # Once for the checkouts, once for the baskets.
    assert all("too many connections for role" in line["problem"] for line in refused)


@pytest.mark.usefixtures("users")
def test_a_role_without_a_connection_sweeps_nothing(run: Run, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with separate_role(owner, monkeypatch, options="CONNECTION LIMIT 0"):
        done = run("expire_baskets")
    assert (done.code, done.out) == (1, "")
    assert done.err == "CommandError: The database cannot be reached, or cannot write; nothing is half done.\n"


def test_two_runs_at_once_expire_everything_once(process: Callable[..., Any], users: list[User]) -> None:
    both = [process("expire_baskets", "--json") for _ in range(2)]
    printed = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], printed
    assert (statuses(), available("shirt")) == (["EXPIRED"] * 3, (10, 0))
    assert [user.basket() is None for user in users] == [False, False, False, True]
    assert invariant_checker.check() == []
