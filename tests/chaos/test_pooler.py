"""A real PgBouncer before the database: one that loses prepared statements is refused, and behind another one calls go on."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, connection

from basket_project.launcher.cluster import free_port
from baskets.db import checks, circuit_breaker
from baskets.db.pipeline import execute
from baskets.db.pooler import UNSUITABLE, refuse_unsuitable_pooler
from baskets.db.statements import Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.maintenance import invariant_checker
from baskets.models import CheckoutSession
from tests.chaos.buyers import Buyers, buying, shop
from tests.chaos.poolers import FOLLOWS_STATEMENTS, Pooler, programs, version_of
from tests.chaos.proxy import Proxy
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("pooler")]

PROJECT = Path(__file__).parents[2]
STATEMENT = Statement("pooled", "SELECT number FROM pooled")
Start = Callable[..., Pooler]


@pytest.fixture
def pooled(second_connection: psycopg.Connection[Any]) -> Iterator[Start]:
    """Return a function that starts a PgBouncer, and leads this process through it."""
    folder = Path(tempfile.mkdtemp(prefix="baskets-pooler-"))
    folder.chmod(0o777)
    direct = dict(connection.settings_dict)
    made: list[Pooler] = []
    connection.close()
    with pytest.MonkeyPatch.context() as through:

        def start(program: str, **settings: object) -> Pooler:
            made.append(Pooler(program, folder, direct, settings))
            made[-1].start()
            through.setitem(connection.settings_dict, "PORT", str(made[-1].port))
            return made[-1]

        yield start
        connection.close()
    for pooler in made:
        pooler.stop()
    shutil.rmtree(folder)


@pytest.fixture
def any_program() -> str:
    if not programs():
        if os.environ.get("PGBOUNCER_TESTS") == "required":
            pytest.fail("There is no PgBouncer, and PGBOUNCER_TESTS says that it is required.")
        pytest.skip("There is no PgBouncer on this machine.")
    return programs()[-1]


@pytest.fixture
def transaction_pool(pooled: Start) -> Pooler:
    """A PgBouncer in transaction mode that follows prepared statements; this process reaches the database through it."""
    for program in programs():
        if version_of(program) >= FOLLOWS_STATEMENTS:
            return pooled(program, pool_mode="transaction", max_prepared_statements=200, so_reuseport=1)
    pytest.skip("There is no PgBouncer 1.21 or later on this machine.")


@pytest.fixture
def buyers(transaction_pool: Pooler) -> Iterator[Buyers]:
    """A few buyers behind the pooler. At their end, every order that was acknowledged is there."""
    with buying(shop(100_000).owner) as made:
        assert eventually(lambda: len(made.orders) > 10)
        yield made
    connection.close()
    assert {order_no for order_no, _ in made.orders} <= set(CheckoutSession.objects.values_list("order_no", flat=True))
    assert invariant_checker.check_invariants() == []


def found() -> dict[str, int]:
    """Return how many messages of each id the checks have, without those about the durability of the test server."""
    ids = [str(one.id) for one in checks.check_database(databases=["default"]) if one.id != "baskets.W011"]
    return {one: ids.count(one) for one in ids}


def test_a_pooler_that_loses_statements_is_refused_at_start_and_named_by_the_check(any_program: str, pooled: Start) -> None:
    """An old one does so always, a later one where it is configured so. Session mode works with both."""
    losing = {"max_prepared_statements": 0} if version_of(any_program) >= FOLLOWS_STATEMENTS else {}
    pooler = pooled(any_program, pool_mode="transaction", **losing)
    for _ in range(2):
        assert "baskets.E083" in found()
        with pytest.raises(ImproperlyConfigured, match=UNSUITABLE):
            refuse_unsuitable_pooler()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'baskets_pooler%'")
        assert cursor.fetchone() == (0,)

    settings = connection.settings_dict
    url = f"postgres://{settings['USER']}:{settings['PASSWORD']}@127.0.0.1:{pooler.port}/{settings['NAME']}"
    command = [sys.executable, "-m", "basket_project.server", "--port", str(free_port()), "--workers", "1"]
    ended = subprocess.run(
        command, cwd=PROJECT, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert UNSUITABLE in ended.stdout + ended.stderr

    connection.close()
    pooled(any_program, pool_mode="session", **losing)
    assert "baskets.E083" not in found()
    refuse_unsuitable_pooler()


def test_what_a_suitable_pooler_drops_is_named_until_it_is_set_for_the_role(
    transaction_pool: Pooler, second_connection: psycopg.Connection[Any]
) -> None:
    refuse_unsuitable_pooler()
    # `default_transaction_isolation` is the server's default.
    assert found() == {"baskets.W010": 5}
    role = f"ALTER ROLE {connection.settings_dict['USER']} IN DATABASE {connection.settings_dict['NAME']}"
    second_connection.autocommit = True
    try:
        for setting in checks.settings.DATABASE_SESSION.items():
            second_connection.execute("{} SET {} = '{}'".format(role, *(text.replace("\\", "") for text in setting)))
        transaction_pool.stop()  # Sessions from before keep their settings.
        transaction_pool.start()
        connection.close()
        assert found() == {}
    finally:
        second_connection.execute(f"{role} RESET ALL")


def test_a_restart_of_the_pooler_ends_in_working_calls(transaction_pool: Pooler, buyers: Buyers) -> None:
    transaction_pool.stop()
    transaction_pool.start()
    restarted = time.monotonic()
    assert eventually(lambda: buyers.bought_since(restarted) > 10)
    assert {type(failure) for failure in buyers.failures} <= {OperationalError}


def test_a_pooler_that_a_second_one_on_its_port_replaces_fails_no_call(transaction_pool: Pooler, pooled: Start, buyers: Buyers) -> None:
    second = Pooler(transaction_pool.program, transaction_pool.folder, transaction_pool.database, transaction_pool.settings)
    second.port = transaction_pool.port
    second.start()
    transaction_pool.stop(signal.SIGINT)
    replaced = time.monotonic()
    assert eventually(lambda: buyers.bought_since(replaced) > 10)
    assert buyers.failures == []
    transaction_pool._process = second._process


def test_a_change_of_the_schema_underneath_fails_no_call(buyers: Buyers, second_connection: psycopg.Connection[Any]) -> None:
    """The sessions of the pooler keep each statement with its stale plan; another connection meets it again."""
    second_connection.autocommit = True
    for change in (
        "ADD COLUMN later integer",
        'ALTER order_no TYPE varchar(33) COLLATE "C"',
        'DROP COLUMN later, ALTER order_no TYPE varchar(32) COLLATE "C"',
    ):
        second_connection.execute(f"ALTER TABLE baskets_checkoutsession {change}")
        changed = time.monotonic()
        assert eventually(lambda since=changed: buyers.bought_since(since) > 10)  # type: ignore[misc] # A default keeps the value of this round.
    assert buyers.failures == []


def test_a_statement_that_the_server_did_not_prepare_is_prepared_at_its_next_use(
    transaction_pool: Pooler, second_connection: psycopg.Connection[Any]
) -> None:
    """The server refused it, or skipped it after the error of another one. The pooler takes its name for used."""
    second_connection.autocommit = True
    with pytest.raises(DatabaseError, match="does not exist"):
        run_in_transaction(lambda: execute(STATEMENT, []).fetchall())
    second_connection.execute("CREATE TABLE pooled AS SELECT 1 AS number")
    try:
        with pytest.raises(DatabaseError, match="division by zero"):
            run_in_transaction(lambda: (execute("SELECT 1 / 0", []), execute(STATEMENT, [])))
        used = connection.connection
        # COMMIT goes with it: if the pooler ended the connection, the outcome would be unknown.
        result = run_in_transaction(lambda: execute(STATEMENT, []))
        assert result.fetchall() == [(1,)]
        assert connection.connection is used
    finally:
        second_connection.execute("DROP TABLE pooled")


def test_a_server_that_does_not_answer_behind_the_pooler_opens_the_circuit(
    transaction_pool: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler accepts connections all the time; only the answer of the server to a new one closes the circuit."""
    monkeypatch.setattr(circuit_breaker, "PAUSE_SECONDS", 0.2)
    connection.close()
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(transaction_pool.database, "PORT", "1")
        transaction_pool.stop()
        transaction_pool.start()
        with pytest.raises(OperationalError, match="timeout expired"):
            execute("SELECT 1", [])
        with pytest.raises(OperationalError, match="did not answer just now"):
            execute("SELECT 1", [])
    transaction_pool.stop()
    transaction_pool.start()
    time.sleep(0.2)
    assert execute("SELECT 1", []).fetchone() == (1,)


def test_a_server_that_freezes_behind_the_pooler_is_left_in_time_and_used_again(
    transaction_pool: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGSTOP: its sessions stay open, accept what is sent, and answer nothing. No call waits longer than the client's limit."""
    monkeypatch.setattr(circuit_breaker, "PAUSE_SECONDS", 0.2)
    proxy = Proxy((transaction_pool.database["HOST"], int(transaction_pool.database["PORT"])))
    with monkeypatch.context() as elsewhere:
        elsewhere.setitem(transaction_pool.database, "PORT", str(proxy.port))
        elsewhere.setitem(connection.settings_dict, "WAIT_SECONDS", 1)
        transaction_pool.stop()
        transaction_pool.start()
        connection.close()
        with closing(proxy), buying(shop(100_000).owner) as buyers:
            assert eventually(lambda: len(buyers.orders) > 10)
            proxy.thawed.clear()
            assert eventually(lambda: len(buyers.failures) > 3)
            began = time.monotonic()
            with pytest.raises(OperationalError):
                execute("SELECT 1", [])
            assert time.monotonic() - began < 4  # The connection, and the limit of a round trip.
            proxy.thawed.set()
            thawed = time.monotonic()
            assert eventually(lambda: buyers.bought_since(thawed) > 10)
            connection.close()
    transaction_pool.stop()
    transaction_pool.start()
    connection.close()
    assert {type(failure) for failure in buyers.failures} <= {OperationalError}
    assert {order_no for order_no, _ in buyers.orders} <= set(CheckoutSession.objects.values_list("order_no", flat=True))
    assert invariant_checker.check_invariants() == []
