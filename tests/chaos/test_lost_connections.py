"""Connections die between calls, during a call and during COMMIT. Each write happens completely and at most once."""

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.contrib.admin import AdminSite
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.test import Client

from baskets.db.backend.base import DatabaseWrapper
from baskets.db.errors import RETRIES, Fault, OutcomeUnknown, fault_of
from baskets.db.pipeline import COMMIT, PendingResult, PipelineConnection, execute
from baskets.db.transactions import run_in_transaction
from baskets.domain import idempotency, runner
from baskets.domain.baskets import store, timeline
from baskets.domain.checkout import expiry
from baskets.domain.errors import NoActiveCheckout
from baskets.models import Attention, CheckoutSession, Event
from baskets.models.basket_snapshot import BasketSnapshot, Owner
from tests import seams
from tests.domain.scenarios import User

pytestmark = pytest.mark.django_db(transaction=True)

Kill = Callable[[], None]


def reason_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["details"]["reason"]


def lose_reply_to_commit(kill: Kill) -> None:
    """Let the next COMMIT of this thread happen, and its connection die before the reply."""
    wrapper = connections[DEFAULT_DB_ALIAS]

    def committed_but_lost() -> None:
        del vars(wrapper)["commit"]
        wrapper.commit()
        kill()
        execute("SELECT 1", [])

    vars(wrapper)["commit"] = committed_but_lost


def step_before_repeat(patch: pytest.MonkeyPatch, step: Callable[[], object]) -> None:
    """Do something after the connection is lost, and before the service repeats the call on another one."""
    is_visible = runner.is_outcome_visible

    def stepped(error: BaseException) -> bool:
        step()
        return is_visible(error)

    patch.setattr(runner, "is_outcome_visible", stepped)


def test_write_on_a_dead_persistent_connection_happens_once(shopper: User, kill: Kill) -> None:
    """No call fails after a restart of the database, whatever its first statement is."""
    before = RETRIES.labels("57P01")._value.get()
    kill()
    shopper.start()
    assert RETRIES.labels("57P01")._value.get() - before == 1
    kill()
    connection.connection.close()  # A connection that psycopg already knows to be closed.
    shopper.finish(ordered=True)
    assert list(Event.objects.order_by("number").values_list("kind", flat=True)) == ["item_placed", "checkout_started", "checkout_ordered"]


def test_write_whose_connection_dies_before_commit_happens_once(shopper: User, kill: Kill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without COMMIT the transaction is rolled back, so it can be retried."""
    tries: list[None] = []
    write_lists = store.write_lists

    def killed_once(**arguments: Any) -> Any:
        tries.append(None)
        if len(tries) == 1:
            kill()
        return write_lists(**arguments)

    seams.LISTS_OF_A_START.replace(monkeypatch, killed_once)
    shopper.start(test_mode=True)  # No direct start.
    assert len(tries) == 2
    assert Event.objects.filter(kind="checkout_started").count() == 1


def test_second_lost_connection_is_answered_unavailable_and_changes_nothing(
    shopper: User, kill: Kill, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper.start()
    before = shopper.lists()
    record = timeline.record_event

    def killed_before_its_event(**arguments: Any) -> None:
        kill()
        record(**arguments)

    with monkeypatch.context() as killing:
        seams.EVENT_OF_AN_END.replace(killing, killed_before_its_event)
        answer = finish()
    assert reason_of(answer) == (503, "database_unavailable")
    assert shopper.lists() == before
    assert finish().status_code == 200


@pytest.mark.parametrize("is_new", [True, False])
def test_thread_recovers_from_a_connection_lost_between_two_transactions(
    shopper: User, kill: Kill, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, *, is_new: bool
) -> None:
    """Django changes autocommit then: of the connection that was opened in place of a lost one, or of the one that has committed."""
    shopper.start()
    change = DatabaseWrapper.set_autocommit
    losses = [None]

    def lost_once(wrapper: DatabaseWrapper, autocommit: bool, **force: bool) -> None:
        if autocommit and losses:
            losses.pop()
            wrapper.connection.close()
        change(wrapper, autocommit, **force)

    if is_new:
        kill()
    monkeypatch.setattr(DatabaseWrapper, "set_autocommit", lost_once)
    assert reason_of(finish()) == (503, "database_unavailable" if is_new else "outcome_unknown")
    assert losses == []
    assert [finish().status_code for _ in range(3)] == [200, 200, 200]
    assert Event.objects.filter(kind__in=["checkout_ordered", "checkout_aborted"]).count() == 1


@pytest.mark.parametrize("ordered", [False, True])
def test_connection_lost_during_commit_is_reported_or_looked_up(
    shopper: User, kill: Kill, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    """Whether COMMIT happened is unknown. Here it did: a direct order is found on a new connection, an abort is reported as unknown."""
    shopper.start()
    lose_reply_to_commit(kill)
    if ordered:
        assert shopper.finish(ordered=True).checkout == ()
    else:
        answer = finish()
        assert (*reason_of(answer), answer.headers["Retry-After"]) == (503, "outcome_unknown", "1")
    assert shopper.finish(ordered=ordered).checkout == ()
    assert Event.objects.filter(kind__in=["checkout_ordered", "checkout_aborted"]).count() == 1


@pytest.mark.parametrize("is_first", [True, False], ids=["the first call", "a repeat by the caller"])
def test_an_order_whose_commit_was_lost_does_not_order_the_next_checkout(
    shopper: User, kill: Kill, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    """Before the service looks it up, the user starts another checkout, which is not paid."""
    shopper.start()
    if not is_first:
        shopper.finish(ordered=True)
        shopper.wait(hours=1)

    def start_another() -> None:
        shopper.place("song")
        shopper.start()

    lose_reply_to_commit(kill)
    with monkeypatch.context() as starting:
        step_before_repeat(starting, start_another)
        if is_first:
            shopper.finish(ordered=True)
        else:
            with pytest.raises(NoActiveCheckout):
                shopper.finish(ordered=True)
    assert list(CheckoutSession.objects.order_by("pk").values_list("status", flat=True)) == ["ORDERED", "ACTIVE"]
    assert Attention.objects.exists() != is_first


def test_a_lost_order_is_found_although_its_basket_has_changed(shopper: User, kill: Kill, monkeypatch: pytest.MonkeyPatch) -> None:
    shopper.start()
    lose_reply_to_commit(kill)
    with monkeypatch.context() as changing:
        step_before_repeat(changing, lambda: shopper.place("song"))
        assert [line.product_id for line in shopper.finish(ordered=True).cart] == ["song"]
    assert CheckoutSession.objects.get().status == "ORDERED"
    assert not Attention.objects.exists()


def test_an_order_right_after_its_start_is_repeated_although_the_database_is_slow(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply of the repeat takes longer than the time between the start and the order."""

    def read_slowly(owner: Owner) -> BasketSnapshot | None:
        snapshot = store.lock_and_read(owner)
        time.sleep(0.3)
        return snapshot

    with monkeypatch.context() as losing:
        seams.LOCK_OF_A_BASKET.replace(losing, read_slowly)
        shopper.start()
        lose_one_commit(losing, executed=False)
        assert shopper.finish(ordered=True).checkout == ()
    assert CheckoutSession.objects.get().status == "ORDERED"


def test_transaction_whose_new_connection_dies_before_commit_is_retried(shopper: User, kill: Kill) -> None:
    """A thread that has lost its connection opens the next one in the transaction."""
    connection.close()
    tries: list[None] = []

    def killed_once() -> Any:
        tries.append(None)
        if execute("SELECT 1", []).fetchone() and len(tries) == 1:
            kill()
        return execute("SELECT 2", []).fetchone()

    assert run_in_transaction(killed_once) == (2,)
    assert len(tries) == 2


@pytest.mark.parametrize("is_new", [True, False])
def test_what_the_server_refuses_before_commit_is_of_known_outcome(shopper: User, *, is_new: bool) -> None:
    """The connection stays, so its server has rolled back."""
    connection.ensure_connection()
    if is_new:
        connection.close()
    with pytest.raises(OperationalError) as failure:
        run_in_transaction(lambda: execute("DO $$ BEGIN RAISE disk_full; END $$", []))
    assert fault_of(failure.value) is Fault.UNAVAILABLE
    assert not isinstance(failure.value, OutcomeUnknown)


def test_lost_reply_to_commit_is_reported_and_not_retried(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMMIT is sent with the last statements, and the server executes it, but the reply is lost."""
    shopper.start()
    exchange = PipelineConnection._communicate
    received: list[None] = []

    def lost(self: PipelineConnection, queue: list[PendingResult], *arguments: Any) -> Any:
        yield from exchange(self, queue, *arguments)
        if queue[-1].statement is COMMIT:
            received.append(None)
            raise psycopg.OperationalError

    with monkeypatch.context() as losing:
        losing.setattr(PipelineConnection, "_communicate", lost)
        with pytest.raises(OutcomeUnknown) as failure:
            shopper.finish(ordered=False)
    assert fault_of(failure.value) is Fault.UNAVAILABLE
    assert len(received) == 1
    assert shopper.finish(ordered=False).checkout == ()
    assert Event.objects.filter(kind="checkout_aborted").count() == 1


def lose_one_commit(patch: pytest.MonkeyPatch, *, executed: bool) -> None:
    """Lose the connection once, when COMMIT is sent: after the server has executed it, or before it gets anything."""
    exchange = PipelineConnection._communicate
    losses = [None]

    def lost(self: PipelineConnection, queue: list[PendingResult], *arguments: Any) -> Any:
        is_lost = queue[-1].statement is COMMIT and losses
        if executed or not is_lost:
            yield from exchange(self, queue, *arguments)
        if is_lost:
            losses.pop()
            raise psycopg.OperationalError

    patch.setattr(PipelineConnection, "_communicate", lost)


@pytest.mark.parametrize("executed", [True, False])
def test_call_with_a_key_whose_commit_was_lost_is_repeated_by_the_service(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *, executed: bool
) -> None:
    """On a new connection it finds the response of the call, or starts the checkout."""
    lose_one_commit(monkeypatch, executed=executed)
    answer = start("k-1")
    assert answer.status_code == 200
    assert answer.headers.get("Idempotency-Replayed") == ("true" if executed else None)
    assert answer.json()["data"]["orderNo"] == CheckoutSession.objects.get().order_no
    assert start("k-1").json() == answer.json()


@pytest.mark.parametrize("executed", [True, False])
def test_start_without_a_key_whose_commit_was_lost_is_looked_up(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *, executed: bool
) -> None:
    lose_one_commit(monkeypatch, executed=executed)
    answer = start()
    assert answer.status_code == 200
    assert answer.json()["data"]["orderNo"] == CheckoutSession.objects.get().order_no
    repeated = start()
    assert reason_of(repeated) == (423, "checkout_active")
    assert repeated.json()["error"]["details"]["activeCheckout"]["orderNo"] == CheckoutSession.objects.get().order_no


@pytest.mark.parametrize("repeat", ["has no connection", "fails before COMMIT"])
def test_outcome_stays_unknown_where_the_repeat_fails(
    start: Callable[..., Any], kill: Kill, monkeypatch: pytest.MonkeyPatch, repeat: str
) -> None:
    """That the repeat changed nothing says nothing of the call, which has started the checkout."""

    def refused(_: Any) -> None:
        raise psycopg.OperationalError

    def killed(**_: Any) -> None:
        kill()
        execute("SELECT 1", [])

    connection.ensure_connection()
    with monkeypatch.context() as losing:
        lose_one_commit(losing, executed=True)
        if repeat == "has no connection":
            losing.setattr(connection, "get_new_connection", refused)
        else:
            step_before_repeat(losing, lambda: losing.setattr(idempotency, "claim", killed))
        assert reason_of(start("k-1")) == (503, "outcome_unknown")
    assert start("k-1").json()["data"]["orderNo"] == CheckoutSession.objects.get().order_no


# --- Staff ----------------------------------------------------------------------


def test_admin_page_survives_a_dead_persistent_connection(superuser: Client, kill: Kill) -> None:
    kill()
    assert superuser.get("/admin/").status_code == 200
    kill()
    assert superuser.get("/admin/baskets/basket/").status_code == 200


def test_admin_page_without_a_database_is_answered_with_503(superuser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()

    def refused(parameters: Any) -> None:
        raise psycopg.OperationalError

    with monkeypatch.context() as away:
        away.setattr(connection, "get_new_connection", refused)
        answer = superuser.get("/admin/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_defect_in_an_admin_page_is_answered_with_500(superuser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AdminSite, "each_context", broken)
    answer = superuser.get("/admin/")
    assert (answer.status_code, "Retry-After" in answer.headers) == (500, False)


# --- Limits and socket options of each connection ---------------------------------

LIMITS = {
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "client_connection_check_interval": "2s",
    "default_transaction_isolation": "read committed",
    "transaction_isolation": "read committed",
    "TimeZone": "UTC",
    "random_page_cost": "1.1",
}


def limits() -> dict[str, str]:
    return {name: execute(f"SHOW {name}", []).fetchone()[0] for name in LIMITS}


@pytest.mark.usefixtures("production_limits")
@pytest.mark.parametrize(("way", "again"), [("api", False), ("api", True), ("admin", False), ("admin", True), ("command", False)])
def test_every_connection_has_the_limits_on_the_server(
    way: str, again: bool, shopper: User, superuser: Client, kill: Kill, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a first connection, and on the replacement of a dead one."""
    shown: list[dict[str, str]] = []

    def looking(function: Callable[..., Any]) -> Callable[..., Any]:
        def look(*arguments: Any, **named: Any) -> Any:
            shown.append(limits())
            return function(*arguments, **named)

        return look

    seams.LOCK_OF_A_BASKET.replace(monkeypatch, looking(store.lock_and_read))
    monkeypatch.setattr(AdminSite, "each_context", looking(AdminSite.each_context))
    monkeypatch.setattr(expiry, "sweep_sessions", looking(expiry.sweep_sessions))
    monkeypatch.setattr("django.core.management.base.connections.close_all", lambda: None)
    if again:
        kill()
    else:
        connection.close()
    {"api": finish, "admin": lambda: superuser.get("/admin/"), "command": lambda: call_command("expire_baskets")}[way]()
    assert shown[0] == LIMITS


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system names these options otherwise")
def test_every_connection_uses_tcp_keepalive(shopper: User) -> None:
    """Reads the socket options of the client from the operating system."""
    with socket.socket(fileno=os.dup(connection.connection.pgconn.socket)) as end:
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [end.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 5, 3]
