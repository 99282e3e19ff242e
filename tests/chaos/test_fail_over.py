"""A primary dies, hangs, is cut off or lives on while its standby is promoted. Nothing acknowledged is lost, nothing is sold twice."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from basket_project.launcher.cluster import Cluster
from baskets.db import circuit_breaker
from baskets.db.pipeline import execute
from baskets.domain.events import feed
from baskets.domain.maintenance import invariant_checker
from baskets.models import CheckoutSession, Event, FeedPosition
from tests.chaos.buyers import buying, shop
from tests.chaos.proxy import Proxy
from tests.chaos.replication import Pair, database_options, new_cluster, port_of, running_pair, writable_folder
from tests.domain.scenarios import available
from tests.threads import beside
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("fail_over")]


def dump_into(cluster: Cluster, dump: Path) -> None:
    """Dump the database of the tests, and restore it in a fresh cluster, as the page on backups says."""
    settings = connection.settings_dict
    source = f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    for command in (
        ("pg_dump", "-Fc", "-f", str(dump), "-d", source),
        ("pg_restore", "--no-owner", "--no-acl", "--exit-on-error", "-d", cluster.url, str(dump)),
    ):
        done = cluster._run(*command)
        assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with writable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def template(folder: Path, django_db_setup: None, django_db_blocker: Any) -> Cluster:
    """A stopped cluster with the tables of this release."""
    with new_cluster(folder / "template") as cluster, django_db_blocker.unblock():
        dump_into(cluster, folder / "tables.dump")
    cluster.start()
    cluster.stop()
    return cluster


@pytest.fixture
def reach(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that leads this process to the servers at the given ports, in their order, with a wait of a second."""
    connection.close()
    monkeypatch.setattr(circuit_breaker, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(circuit_breaker.CIRCUIT_BREAKER, "_timelines", {})  # All pairs are copies of one cluster.
    with monkeypatch.context() as elsewhere:

        def lead(password: str, *ports: object) -> None:
            connection.close()
            for name, value in (database_options(*ports) | {"PASSWORD": password, "WAIT_SECONDS": 1}).items():
                elsewhere.setitem(connection.settings_dict, name, value)

        yield lead
        connection.close()
    circuit_breaker.CIRCUIT_BREAKER._is_open = False


@pytest.fixture
def pair(template: Cluster, folder: Path, request: Any, reach: Callable[..., None]) -> Iterator[Pair]:
    """A primary and its standby, synchronous unless the test says otherwise; this process reaches both."""
    home = folder / request.node.name.replace("[", "-").rstrip("]")
    home.mkdir()
    home.chmod(0o777)
    with running_pair(template, home, synchronous=getattr(request, "param", True)) as made:
        reach(template.password, port_of(made.primary), port_of(made.standby))
        yield made


def one_answer() -> Any:
    return execute("SELECT 1", []).fetchone()


@pytest.mark.parametrize("fault", ["killed", "hung", "cut off"])
def test_with_a_synchronous_standby_no_acknowledged_order_is_lost(pair: Pair, reach: Callable[..., None], fault: str) -> None:
    """The service finds the promoted standby without a restart, and every order that it acknowledged is there."""
    user = shop(100_000)
    proxy = Proxy(("127.0.0.1", int(port_of(pair.primary))))
    if fault == "cut off":
        reach(pair.primary.password, proxy.port, port_of(pair.standby))
    with closing(proxy), buying(user.owner) as buyers:
        assert eventually(lambda: len(buyers.orders) > 10)
        if fault == "cut off":
            proxy.thawed.clear()
        else:
            pair.send_to_primary(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
        pair.promote()
        promoted = time.monotonic()
        assert eventually(lambda: buyers.bought_since(promoted) > 10)
    connection.close()
    acknowledged = {order_no for order_no, _ in buyers.orders}
    stored = set(CheckoutSession.objects.filter(status="ORDERED").values_list("order_no", flat=True))
    assert acknowledged <= stored
    assert invariant_checker.check_invariants() == []


def test_a_primary_that_lives_on_sells_nothing_once_its_synchronous_standby_is_promoted(pair: Pair, reach: Callable[..., None]) -> None:
    """Split brain: this process reaches the old primary alone. Its order gets no answer, and the last piece is sold on the new one."""
    user = shop(1)
    user.place("song")
    user.start()
    reach(pair.primary.password, port_of(pair.primary))
    pair.promote()
    with pytest.raises(OperationalError, match="did not answer"):
        user.finish(ordered=True)
    reach(pair.primary.password, port_of(pair.standby))
    user.finish(ordered=True)
    assert Event.objects.filter(kind="checkout_ordered").count() == 1
    assert available("song") == (0, 0)
    assert invariant_checker.check_invariants() == []


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_operator_who_cancels_the_wait_for_the_standby_makes_no_order_acknowledged(pair: Pair, way: str) -> None:
    """PostgreSQL reports such a commit as done, with a warning. The service does not."""
    user = shop(1)
    user.place("song")
    user.start()
    for pid in pair.processes(pair.standby):
        os.kill(pid, signal.SIGSTOP)
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'baskets'"

    def cancel() -> None:
        with psycopg.connect(pair.primary.url, autocommit=True) as client:
            assert eventually(lambda: bool(client.execute(waiting).fetchall()))
            client.execute(f"SELECT {way}(pid) FROM ({waiting}) one")  # noqa: S608 (both are constants of this test)

    connection.settings_dict["WAIT_SECONDS"] = connection.connection.wait_seconds = 10
    with beside(cancel), pytest.raises(OperationalError) as failure:
        user.finish(ordered=True)
    assert ("without its synchronous standby" in str(failure.value)) == (way == "pg_cancel_backend")


@pytest.mark.parametrize("pair", [False], indirect=True)
def test_with_an_asynchronous_standby_a_loss_is_found_by_its_reader_and_never_by_a_second_sale(pair: Pair) -> None:
    """The last orders may be missing. The feed says so, the data is whole, and an old primary that comes back is not used."""
    user = shop(10)
    user.place("song")
    with psycopg.connect(pair.standby.url) as client:
        assert eventually(lambda: client.execute("SELECT count(*) FROM baskets_event").fetchone() == (1,))
    pair.stop_replication()
    user.start()
    user.finish(ordered=True)
    feed.assign_positions()
    _, token = feed.read(FeedPosition.objects.all(), after=None, limit=10)
    pair.send_to_primary(signal.SIGKILL)
    pair.promote()
    connection.close()
    assert one_answer() == (1,)
    assert invariant_checker.check_invariants() == []
    assert not CheckoutSession.objects.exists()
    with pytest.raises(feed.EventsRewound):
        feed.read(FeedPosition.objects.all(), after=token, limit=10)
    user.start()
    user.finish(ordered=True)
    assert available("song") == (9, 0)

    pair.primary.start(keep_port=True)  # It is listed first, accepts writes, and has the lost order.
    connection.close()
    assert CheckoutSession.objects.count() == 1
    assert available("song") == (9, 0)
    connection.settings_dict["PORT"] = port_of(pair.primary)
    connection.settings_dict["HOST"] = "127.0.0.1"
    connection.close()
    with pytest.raises(OperationalError, match="another one was promoted"):
        one_answer()


def test_a_name_that_still_leads_to_a_standby_is_not_written_to_and_leads_to_the_primary_later(
    pair: Pair, reach: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the database moves to another address, as with fail-over by DNS. It is resolved for each connection."""
    addresses = {"database.example": port_of(pair.standby)}
    resolve = psycopg._conninfo_attempts._resolve_hostnames

    def resolved(parameters: Any) -> Any:
        return resolve(parameters | {"host": "127.0.0.1", "port": addresses[parameters["host"]]})

    monkeypatch.setattr(psycopg._conninfo_attempts, "_resolve_hostnames", resolved)
    reach(pair.primary.password, 5432)
    connection.settings_dict["HOST"] = "database.example"
    with pytest.raises(OperationalError, match="hot standby"):
        one_answer()
    addresses["database.example"] = port_of(pair.primary)
    assert one_answer() == (1,)


def test_a_backup_restored_in_a_fresh_cluster_is_whole_and_readers_of_the_feed_are_refused(
    folder: Path, reach: Callable[..., None]
) -> None:
    user = shop(10)
    user.place("song")
    user.start()
    with new_cluster(folder / "restored") as cluster:
        dump_into(cluster, folder / "orders.dump")
        user.finish(ordered=True)
        feed.assign_positions()
        _, token = feed.read(FeedPosition.objects.all(), after=None, limit=10)
        reach(cluster.password, port_of(cluster))
        assert invariant_checker.check_invariants() == []
        with pytest.raises(feed.EventsRewound):
            feed.read(FeedPosition.objects.all(), after=token, limit=10)
        assert user.lists()["checkout"] == [("song", 1, 1)]
        user.finish(ordered=True)
        assert invariant_checker.check_invariants() == []
