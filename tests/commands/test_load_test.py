"""`rehearse` at the shell: a crowd over HTTP, the account of its stock, and what is left when it has gone."""

import pytest
from django.core.servers.basehttp import ThreadedWSGIServer
from django.db import connection, connections
from pytest_django.live_server_helper import LiveServer

from baskets.domain.maintenance import invariant_checker, load_test
from baskets.models import ApiKey, Basket, CheckoutSession, Partner, Product, Stock
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.domain.scenarios import User


@pytest.fixture
def released_load_test_lock() -> None:
    """Nobody is on the stage, whatever the last test did on this connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


@pytest.fixture(autouse=True)
def closing_server_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server's threads close their connections, which `run` keeps everybody from."""

    def close(_: ThreadedWSGIServer) -> None:
        for used in connections.all(initialized_only=True):
            used.close()

    monkeypatch.setattr(ThreadedWSGIServer, "_close_connections", close)


pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("released_load_test_lock")]


def assert_put_away() -> None:
    """Nothing can be bought, called with or finished any more, and the books are in order."""
    assert not CheckoutSession.objects.active().exists()
    assert not Basket.objects.filter(hidden_at__isnull=True).exists()
    assert not ApiKey.objects.valid().exists()
    assert not Product.objects.filter(listed=True).exists()
    assert Stock.objects.get().available == 0
    assert invariant_checker.check() == []


def test_a_crowd_gets_what_there_is_and_the_stock_adds_up(run: Run, live_server: LiveServer) -> None:
    for again in (1, 2):
        ended = run("rehearse", "--url", live_server.url, "--buyers", "12", "--pieces", "8", "--clients", "4", "--json")
        assert ended.code == 0
        told = ended.data
        assert (told["sold"], told["refused"], told["errors"], told["adds_up"]) == (8, 4, 0, True)
        assert told["reasons"] == {"out_of_stock": 4}
        assert told["stock"] == {"supply": 8 * again, "available": 0, "held": 0, "sold": 8 * again, "shortfall": 0}
        assert set(told["calls"]) == {"add", "start", "finish"}
        assert_put_away()


def test_prose_tells_times_and_the_proof(run: Run, live_server: LiveServer) -> None:
    ended = run("rehearse", "--url", live_server.url, "--buyers", "3", "--pieces", "9", "--clients", "2")
    assert ended.code == 0
    assert ended.out.startswith("Sold 3, refused 0, errors 0.\n")
    assert "p99" in ended.out
    assert "####" in ended.out
    assert ended.out.endswith("supply 9 = 6 available + 0 held + 3 sold - 0 short: it adds up.\n")


def test_what_a_killed_rehearsal_left_is_put_away_by_the_next(run: Run, live_server: LiveServer) -> None:
    load_test.set_up(pieces=5)
    user = User(Owner(partner_id=Partner.objects.get().pk, user_id="left-behind"))
    user.place(load_test.PRODUCT, 2)
    user.start()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")
    ended = run("rehearse", "--url", live_server.url, "--buyers", "3", "--pieces", "3", "--clients", "2", "--json")
    assert (ended.code, ended.data["sold"], ended.data["adds_up"]) == (0, 3, True)
    assert_put_away()


def test_one_rehearsal_at_a_time(run: Run) -> None:
    taken = connection.copy()
    with taken.cursor() as cursor:
        cursor.execute(load_test.ACQUIRE_LOCK)
    ended = run("rehearse", "--buyers", "1", "--pieces", "1")
    taken.close()
    assert (ended.code, ended.out) == (1, "")
    assert "under way" in ended.err
    assert not Partner.objects.exists()


def test_a_service_that_is_not_there_is_an_error_and_all_is_put_away(run: Run) -> None:
    ended = run("rehearse", "--url", "http://127.0.0.1:9", "--buyers", "2", "--pieces", "1", "--json")
    assert ended.code == 1
    assert (ended.data["errors"], ended.data["reasons"]) == (2, {"ConnectionRefusedError": 2})
    assert_put_away()


def test_a_service_on_another_database_is_told(run: Run, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = load_test.LoadTestSetup(key=f"bk_{'a' * 12}_{'0' * 64}", run="r", pieces=1, sold_before=0)
    set_up = load_test.set_up
    monkeypatch.setattr(load_test, "set_up", lambda **given: (set_up(**given), unknown)[1])
    ended = run("rehearse", "--url", live_server.url, "--buyers", "2", "--pieces", "1")
    assert (ended.code, ended.out) == (1, "")
    assert "another database" in ended.err
    assert_put_away()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--buyers", "0"),
        ("--buyers", "100001"),
        ("--clients", "501"),
        ("--pieces", "-1"),
        ("--url", "ftp://example.com"),
        ("--url", "http://user:secret@example.com"),
        ("--url", "http://"),
    ],
)
def test_absurd_arguments_are_wrong_usage_and_touch_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("rehearse", *arguments).code == 2
    assert not Partner.objects.exists()
