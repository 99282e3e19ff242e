"""`load_test` at the shell: buyers over HTTP, the balance of the stock, and the clean-up."""

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
    """Release the lock of a load test that the last test may hold on this connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


@pytest.fixture(autouse=True)
def closing_server_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the threads of the live server close their connections, although `run` prevents it."""

    def close(_: ThreadedWSGIServer) -> None:
        for used in connections.all(initialized_only=True):
            used.close()

    monkeypatch.setattr(ThreadedWSGIServer, "_close_connections", close)


pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("released_load_test_lock")]


def assert_removed() -> None:
    """No active session, basket, key or listed product is left, and every invariant holds."""
    assert not CheckoutSession.objects.active().exists()
    assert not Basket.objects.filter(hidden_at__isnull=True).exists()
    assert not ApiKey.objects.valid().exists()
    assert not Product.objects.filter(listed=True).exists()
    assert Stock.objects.get().available == 0
    assert invariant_checker.check() == []


def test_buyers_get_every_piece_and_the_stock_adds_up(run: Run, live_server: LiveServer) -> None:
    for again in (1, 2):
        ended = run("load_test", "--url", live_server.url, "--buyers", "12", "--pieces", "8", "--clients", "4", "--json")
        assert ended.code == 0
        data = ended.data
        assert (data["sold"], data["refused"], data["errors"], data["adds_up"]) == (8, 4, 0, True)
        assert data["reasons"] == {"out_of_stock": 4}
        assert data["stock"] == {"supply": 8 * again, "available": 0, "held": 0, "sold": 8 * again, "shortfall": 0}
        assert set(data["calls"]) == {"add", "start", "finish"}
        assert_removed()


def test_report_has_times_and_the_stock_equation(run: Run, live_server: LiveServer) -> None:
    ended = run("load_test", "--url", live_server.url, "--buyers", "3", "--pieces", "9", "--clients", "2")
    assert ended.code == 0
    assert ended.out.startswith("Sold 3, refused 0, errors 0.\n")
    assert "p99" in ended.out
    assert "####" in ended.out
    assert ended.out.endswith("supply 9 = 6 available + 0 held + 3 sold - 0 short: it adds up.\n")


def test_data_of_a_killed_run_are_removed_by_the_next(run: Run, live_server: LiveServer) -> None:
    load_test.set_up(pieces=5)
    user = User(Owner(partner_id=Partner.objects.get().pk, user_id="left-behind"))
    user.place(load_test.PRODUCT, 2)
    user.start()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")
    ended = run("load_test", "--url", live_server.url, "--buyers", "3", "--pieces", "3", "--clients", "2", "--json")
    assert (ended.code, ended.data["sold"], ended.data["adds_up"]) == (0, 3, True)
    assert_removed()


def test_second_load_test_is_refused(run: Run) -> None:
    taken = connection.copy()
    with taken.cursor() as cursor:
        cursor.execute(load_test.ACQUIRE_LOCK)
    ended = run("load_test", "--buyers", "1", "--pieces", "1")
    taken.close()
    assert (ended.code, ended.out) == (1, "")
    assert "under way" in ended.err
    assert not Partner.objects.exists()


def test_unreachable_service_is_an_error_and_data_are_removed(run: Run) -> None:
    ended = run("load_test", "--url", "http://127.0.0.1:9", "--buyers", "2", "--pieces", "1", "--json")
    assert ended.code == 1
    assert (ended.data["errors"], ended.data["reasons"]) == (2, {"ConnectionRefusedError": 2})
    assert_removed()


def test_service_on_another_database_is_an_error(run: Run, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = load_test.LoadTestSetup(key=f"bk_{'a' * 12}_{'0' * 64}", run="r", pieces=1, sold_before=0)
    set_up = load_test.set_up
    monkeypatch.setattr(load_test, "set_up", lambda **options: (set_up(**options), unknown)[1])
    ended = run("load_test", "--url", live_server.url, "--buyers", "2", "--pieces", "1")
    assert (ended.code, ended.out) == (1, "")
    assert "another database" in ended.err
    assert_removed()


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
def test_invalid_arguments_change_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("load_test", *arguments).code == 2
    assert not Partner.objects.exists()
