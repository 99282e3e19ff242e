"""The client's own limits towards a database that hangs: the wait ends, other callers are refused at once, one at a time tries."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from baskets.db import circuit_breaker
from baskets.db.errors import Fault, fault_of
from baskets.db.limits import client_waits
from baskets.db.pipeline import execute
from baskets.db.transactions import run_in_transaction
from baskets.domain.maintenance import invariant_checker
from baskets.models import Event
from baskets.models.basket_snapshot import Owner
from tests.chaos.proxy import Proxy
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory
from tests.threads import beside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def proxy(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """This thread, and others that a test starts, reach the database through the proxy, with a wait of a second."""
    settings = connection.settings_dict
    made = Proxy((settings["HOST"], int(settings["PORT"])))
    connection.close()
    monkeypatch.setattr(circuit_breaker, "PAUSE_SECONDS", 0)
    with monkeypatch.context() as through:
        for name, value in {"HOST": "127.0.0.1", "PORT": str(made.port), "WAIT_SECONDS": 1}.items():
            through.setitem(settings, name, value)
        yield made
        made.close()
        connection.close()
    circuit_breaker.CIRCUIT_BREAKER._is_open = False


def one() -> Any:
    return execute("SELECT 1", []).fetchone()


def test_a_server_that_hangs_is_left_and_used_again_when_it_answers(proxy: Proxy) -> None:
    assert one() == (1,)
    proxy.thawed.clear()
    with pytest.raises(OperationalError, match="did not answer within 1 s") as failure:
        one()
    assert fault_of(failure.value) is Fault.UNAVAILABLE
    proxy.thawed.set()
    connection.close()
    assert one() == (1,)


def test_while_one_caller_tries_the_others_are_refused(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one() == (1,)
    proxy.thawed.clear()
    with pytest.raises(OperationalError, match="did not answer"):
        one()
    connection.close()
    before = proxy.accepted
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "connect_timeout", 30)
    with beside(one, stop=proxy.thawed.set) as (prober,):
        assert eventually(lambda: proxy.accepted > before)  # The one that tries waits for the server.
        for _ in range(20):
            with pytest.raises(OperationalError, match="just now"):
                one()
        assert not prober.done()
        assert proxy.accepted == before + 1
    assert prober.result() == one() == (1,)


def test_a_connection_from_before_a_hang_is_not_used(proxy: Proxy) -> None:
    """Another thread's wait has shown that the server hangs: this thread does not wait once more to find out."""
    assert one() == (1,)
    proxy.thawed.clear()
    circuit_breaker.CIRCUIT_BREAKER.record_hang(circuit_breaker.CIRCUIT_BREAKER.generation)
    with pytest.raises(OperationalError, match="from before"):
        one()
    assert connection.connection.closed


def test_a_transaction_that_another_hang_ends_before_it_sent_anything_is_repeated(proxy: Proxy) -> None:
    """Its COMMIT was to be sent with its only statement, and neither was: the outcome is known."""
    assert one() == (1,)
    runs: list[bool] = []

    def operation() -> None:
        runs.append(True)
        execute("SELECT 1", [])
        if len(runs) == 1:
            circuit_breaker.CIRCUIT_BREAKER.record_hang(circuit_breaker.CIRCUIT_BREAKER.generation)

    run_in_transaction(operation)
    assert len(runs) == 2


def test_after_a_try_without_an_answer_there_is_a_pause(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setattr(circuit_breaker, "PAUSE_SECONDS", 60)
    proxy.thawed.clear()
    with pytest.raises(OperationalError, match="timeout"):
        one()
    with pytest.raises(OperationalError, match="just now"):
        one()
    monkeypatch.setattr(circuit_breaker.CIRCUIT_BREAKER, "_probe_due_at", 0.0)
    proxy.thawed.set()
    assert one() == (1,)


def test_a_server_that_refuses_answers_and_is_tried_by_every_call(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setattr(circuit_breaker, "PAUSE_SECONDS", 60)
    proxy.close()
    for _ in range(2):
        with pytest.raises(OperationalError, match="refused"):
            one()


def test_a_commit_that_gets_no_answer_is_of_unknown_outcome_and_happened_once(proxy: Proxy) -> None:
    ProductFactory(product_id="song")
    user = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    user.place("song")
    user.start()
    proxy.freezes_after = b"baskets_commit"
    with pytest.raises(OperationalError) as failure:
        user.finish(ordered=True)
    assert fault_of(failure.value) is Fault.UNAVAILABLE
    proxy.freezes_after = b""
    proxy.thawed.set()
    connection.close()
    assert user.finish(ordered=True).checkout == ()
    assert Event.objects.filter(kind="checkout_ordered").count() == 1
    assert invariant_checker.check_invariants() == []


def test_a_statement_that_may_take_longer_is_waited_for(proxy: Proxy) -> None:
    with client_waits(statement_seconds=60):
        assert execute("SELECT pg_sleep(1.3), 1", []).fetchone()[1] == 1
    with client_waits(statement_seconds=None):
        assert execute("SELECT pg_sleep(1.3), 1", []).fetchone()[1] == 1
    with pytest.raises(OperationalError, match="did not answer within 1 s"):
        execute("SELECT pg_sleep(3)", [])


def test_a_real_connection_has_the_limit() -> None:
    connection.close()
    one()
    assert isinstance(connection.connection, psycopg.Connection)
    assert connection.connection.wait_seconds == connection.settings_dict["WAIT_SECONDS"] == 15
