"""Webhooks: signed, in order, at least once; a receiver that fails, hangs or redirects stops its own stream only."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from standardwebhooks.webhooks import Webhook

from baskets.db.statements import Statement
from baskets.domain.access.partners import PartnerNotFound
from baskets.domain.errors import NothingToReplay
from baskets.domain.events import (
    feed,
    webhook_changes,
    webhook_control,
    webhook_endpoints,
    webhook_lanes,
    webhook_streams,
)
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.validation import InvalidValue, ReasonRequired
from baskets.models import Event, Partner, WebhookDeliverer, WebhookEndpoint, WebhookLane
from baskets.models.basket_snapshot import Owner
from baskets.net import http_client
from tests.concurrency.barrier import run_concurrently
from tests.domain.events.endpoints import database_now, deliver, failed_once, ids_of_all, make, pause_of, wait
from tests.domain.events.receivers import Receiver, receiver
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory
from tests.threads import beside
from tests.time_travel import age_rows
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("foreign", ["another webhook's secret", "a customer id in the former format", "no ciphertext"])
def test_a_secret_that_is_not_its_rows_signs_nothing_and_is_a_visible_failure(
    shopper: User, webhook_receiver: Receiver, settings: Any, foreign: str
) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [key := Fernet.generate_key().decode()]
    endpoint, other = make(webhook_receiver)[0], make(webhook_receiver)[0]
    ciphertext = {
        "another webhook's secret": bytes(other.secret),
        "a customer id in the former format": Fernet(key).encrypt(b"c"),
        "no ciphertext": b"",
    }[foreign]
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(secret=ciphertext)
    shopper.place("shirt", 1)
    assert deliver() == 1  # The other webhook goes on.
    assert len(webhook_receiver.calls) == 1
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.problem) == (
        1,
        "The secret cannot be decrypted: its key is not known, or it was stored for another webhook.",
    )


def test_an_event_arrives_signed_and_as_the_feed_tells_it(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    endpoint, secret = make(webhook_receiver)
    shopper.place("shirt", 2)
    assert deliver() == 1
    ((headers, body),) = webhook_receiver.calls
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    message = json.loads(body)
    assert (message["type"], message["data"]["id"], headers["webhook-id"]) == ("item_placed", ids_of_all()[1], ids_of_all()[1])
    assert (message["data"]["userId"], message["data"]["number"], message["timestamp"]) == ("anna", 2, message["data"]["at"])
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.problem) == (0, "")
    assert not WebhookLane.objects.exclude(deliverer=None).exists()
    assert endpoint.delivered_at is not None
    assert secret.encode() not in bytes(endpoint.secret)
    assert deliver() == 0
    assert invariant_checker.check() == []


def test_an_endpoint_receives_all_events_or_some_kinds(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    make(webhook_receiver, kinds=["checkout_ordered"], from_the_beginning=True)
    with receiver() as second:
        make(second, from_the_beginning=True)
        shopper.start()
        shopper.finish(ordered=True)
        other = User(Owner(partner_id=PartnerFactory(name="Other").pk, user_id="anna"))
        other.place("shirt")
        assert deliver() == 4
        assert second.ids == ids_of_all()[:3]
    assert webhook_receiver.ids == ids_of_all()[2:3]
    assert set(WebhookEndpoint.objects.values_list("position", flat=True)) == {4}


def test_a_failure_stops_the_stream_and_is_tried_again_later_and_later(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    for count in range(1, 4):
        shopper.place("shirt", count)
    webhook_receiver.answer = lambda number: 200 if number in {1, 5, 6} else 500
    assert deliver() == 1
    delays = []
    for failures in range(1, 4):
        endpoint.refresh_from_db()
        assert (endpoint.failures, endpoint.problem) == (failures, "It answered with status 500.")
        assert endpoint.next_try_at is not None
        assert endpoint.failing_since is not None
        delays.append(endpoint.next_try_at - database_now())
        assert deliver() == 0
        wait(endpoint, hours=2)
        delivered = deliver()
    assert delivered == 2
    assert [delay > timedelta(seconds=2 * 2**n) for n, delay in enumerate(delays)] == [True] * 3
    events = ids_of_all()
    assert webhook_receiver.ids == [events[0], events[1], events[1], events[1], events[1], events[2]][: len(webhook_receiver.ids)]
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since, endpoint.next_try_at) == (0, None, None)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 503])
def test_anything_but_success_is_a_failure_and_no_redirect_is_followed(shopper: User, webhook_receiver: Receiver, status: int) -> None:
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    webhook_receiver.answer = lambda _: status
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.problem) == ("active", f"It answered with status {status}.")
    assert len(webhook_receiver.calls) == 1


def test_a_hanging_receiver_is_abandoned_and_delays_no_other(shopper: User, webhook_receiver: Receiver, settings: Any) -> None:
    settings.BASKETS_WEBHOOK_TIMEOUT_SECONDS = 1
    endpoint, _ = make(webhook_receiver)
    webhook_receiver.hang = threading.Event()
    with receiver() as second:
        make(second)
        shopper.place("shirt", 1)
        assert deliver() == 1
        assert len(second.calls) == 1
    endpoint.refresh_from_db()
    assert endpoint.problem == "No whole answer within 1 s."


def test_an_endpoint_that_fails_for_days_is_given_up_and_resumed_where_it_stood(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    webhook_receiver.answer = lambda _: 500
    deliver()
    wait(endpoint, days=4)
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert endpoint.state == "dead"
    wait(endpoint, days=4)
    assert deliver() == 0
    assert len(webhook_receiver.calls) == 2
    given_up = endpoint.changes.latest("pk")
    assert (given_up.kind, given_up.actor, given_up.reason) == ("given_up", "deliver_webhooks", "It answered with status 500.")
    webhook_receiver.answer = lambda _: 204
    webhook_control.resume(endpoint=endpoint, expected_changes=2, reason="mended", actor=TESTER)
    assert deliver() == 1


def test_an_endpoint_that_says_it_is_gone_is_given_up_at_once(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    webhook_receiver.answer = lambda _: 410
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.state == "dead"


def test_a_crash_after_the_call_sends_the_event_once_more_under_its_id(
    shopper: User, webhook_receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    with monkeypatch.context() as crashing:
        crashing.setattr(webhook_lanes, "RECORD_SUCCESS", Statement("crash", "SELECT 1/0 AS crash, %(endpoints)s::bigint[]"))
        with pytest.raises(Exception, match="division by zero"):
            deliver()
    assert deliver() == 0  # The lease of who crashed has not run out.
    wait(endpoint, minutes=5)
    assert deliver() == 1
    assert webhook_receiver.ids == ids_of_all() * 2


def test_deliverers_side_by_side_send_nothing_at_once_and_all_in_order(shopper: User, webhook_receiver: Receiver) -> None:
    make(webhook_receiver)
    for count in range(1, 31):
        shopper.place("shirt", count)
    outcomes = run_concurrently([deliver] * 6)
    assert sum(outcomes) == 30
    assert webhook_receiver.most_at_once == 1
    assert webhook_receiver.ids == ids_of_all()


def test_no_call_is_made_inside_a_transaction(shopper: User, webhook_receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    make(webhook_receiver)
    shopper.place("shirt", 1)
    seen = []
    call = http_client.send_request

    def watched(*args: Any, **options: Any) -> http_client.Response:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('transactionid', 'advisory')")
            seen.append((connection.in_atomic_block, cursor.fetchone()[0]))
        connection.close()  # That of this thread, which has none otherwise.
        return call(*args, **options)

    monkeypatch.setattr(http_client, "send_request", watched)
    assert deliver() == 1
    assert seen == [(False, 0)]


def test_a_paused_endpoint_receives_everything_afterwards(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    webhook_control.pause(endpoint=endpoint, expected_changes=1, reason="moving", actor=TESTER)
    shopper.place("shirt", 1)
    assert deliver() == 0
    webhook_control.resume(endpoint=endpoint, expected_changes=2, reason="moved", actor=TESTER)
    assert deliver() == 1


def test_a_replay_sends_again_what_happened_since_a_moment(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    for count in range(1, 4):
        shopper.place("shirt", count)
    assert deliver() == 3
    since = Event.objects.get(number=2).at
    webhook_control.replay(endpoint=endpoint, since=since, expected_changes=1, reason="lost them", actor=TESTER)
    wait(endpoint, minutes=5)
    assert deliver() == 2
    events = ids_of_all()
    assert webhook_receiver.ids == [*events, *events[1:]]
    with pytest.raises(NothingToReplay):
        webhook_control.replay(endpoint=endpoint, since=datetime.now(UTC) + timedelta(days=1), expected_changes=2, reason="x", actor=TESTER)


def test_a_change_upon_an_old_page_without_a_reason_or_to_the_same_state_is_refused(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    with pytest.raises(StaleState):
        webhook_control.pause(endpoint=endpoint, expected_changes=0, reason="x", actor=TESTER)
    with pytest.raises(ReasonRequired):
        webhook_control.pause(endpoint=endpoint, expected_changes=1, reason=" ", actor=TESTER)
    with pytest.raises(RepairNotApplicable):
        webhook_control.resume(endpoint=endpoint, expected_changes=1, reason="x", actor=TESTER)
    assert webhook_changes.count_changes(endpoint) == 1


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://127.0.0.1/x", "https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/", "ftp://example.com/",
     "https://user:word@example.com/", "https://", "nonsense", "https://example.com/" + 2000 * "x"],
)  # fmt: skip
def test_an_address_that_may_not_be_called_is_refused(shopper: User, settings: Any, url: str) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = False
    with pytest.raises(InvalidValue):
        webhook_endpoints.create_webhook(partner_name="TV", url=url, actor=TESTER)
    assert WebhookEndpoint.objects.count() == 0


def test_an_address_that_has_become_internal_is_not_called(shopper: User, webhook_receiver: Receiver, settings: Any) -> None:
    """Checked when it is made, and again with every call, after its name was resolved."""
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    settings.BASKETS_INTERNAL_ADDRESSES = False
    WebhookEndpoint.objects.update(url="https://localhost/hook")
    assert deliver() == 0
    assert webhook_receiver.calls == []
    endpoint.refresh_from_db()
    assert endpoint.problem == http_client.NO_ADDRESS


def test_who_and_what_must_be_known(shopper: User, webhook_receiver: Receiver) -> None:
    with pytest.raises(PartnerNotFound):
        webhook_endpoints.create_webhook(partner_name="Unknown", url=webhook_receiver.url, actor=TESTER)
    for wrong in ({"kinds": ["everything"]}, {"label": "\x00"}):
        with pytest.raises(InvalidValue):
            make(webhook_receiver, **wrong)
    assert Partner.objects.count() == 1


def test_a_new_webhook_begins_now_on_an_unread_feed(shopper: User, webhook_receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BATCH", 2)
    for count in range(1, 6):
        shopper.place("shirt", count)
    endpoint, _ = make(webhook_receiver)
    assert endpoint.position == 5
    assert deliver() == 0
    shopper.place("shirt", 9)
    assert deliver() == 1


# --- Failures, leases and batches ---------------------------------------------------------------


def test_failure_after_a_success_in_the_same_turn_waits_as_a_first_one(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    shopper.place("shirt", 2)
    endpoint = failed_once(webhook_receiver, 500)
    WebhookEndpoint.objects.update(failures=11)
    wait(endpoint, hours=2)
    webhook_receiver.answer = lambda number: 200 if number == 2 else 500
    assert deliver() == 1
    endpoint.refresh_from_db()
    assert endpoint.failures == 1
    assert timedelta(seconds=2.5) <= pause_of(endpoint) <= timedelta(seconds=5)


def test_patience_counts_from_the_first_of_several_failures(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, 500)
    since = endpoint.failing_since
    for failures in range(2, 5):
        wait(endpoint, days=1, seconds=-1)
        assert deliver() == 0
        endpoint.refresh_from_db()
        passed = (timedelta(days=1) - timedelta(seconds=1)) * (failures - 1)
        assert since is not None
        assert (endpoint.state, endpoint.failures, endpoint.failing_since) == ("active", failures, since - passed)
    wait(endpoint, days=1)
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.failures) == ("dead", 5)


@pytest.mark.parametrize("change", ["resume", "replay"])
def test_failures_before_a_change_by_staff_do_not_count_towards_the_end(shopper: User, webhook_receiver: Receiver, change: str) -> None:
    shopper.place("shirt", 1)
    endpoint, _ = make(webhook_receiver, from_the_beginning=True)
    assert deliver() == 1
    shopper.place("shirt", 2)
    webhook_receiver.answer = lambda _: 500
    deliver()
    wait(endpoint, days=4)
    deliver()
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.failures) == ("dead", 2)
    since = {"since": Event.objects.get(number=1).at} if change == "replay" else {}
    getattr(webhook_control, change)(endpoint=endpoint, expected_changes=2, reason="mended", actor=TESTER, **since)
    wait(endpoint, minutes=5)
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.failures) == ("active", 1)
    assert timedelta(seconds=2.5) <= pause_of(endpoint) <= timedelta(seconds=5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_backlog_longer_than_a_batch_is_delivered_whole(
    shopper: User, webhook_receiver: Receiver, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_streams, "BATCH", 2)
    endpoint, _ = make(webhook_receiver)
    for number in range(1, count + 1):
        shopper.place("shirt", number)
    assert deliver() == count
    assert webhook_receiver.ids == ids_of_all()
    endpoint.refresh_from_db()
    assert endpoint.position == count


def test_lease_is_short_whatever_a_call_may_last_and_is_prolonged_during_the_call(
    shopper: User, webhook_receiver: Receiver, settings: Any
) -> None:
    settings.BASKETS_WEBHOOK_TIMEOUT_SECONDS = 100
    make(webhook_receiver)
    webhook_receiver.hang = threading.Event()
    shopper.place("shirt", 1)
    with beside(deliver, stop=webhook_receiver.hang.set) as (running,):
        webhook_receiver.wait_for(1)
        first = WebhookDeliverer.objects.get().alive_until
        assert first - database_now() <= webhook_lanes.LEASE
        prolonged = WebhookDeliverer.objects.filter(alive_until__gte=first + timedelta(seconds=1))
        assert eventually(prolonged.exists, 25)
    assert running.result() == 1
    assert not WebhookDeliverer.objects.exists()


def test_message_is_signed_with_the_time_of_its_try(shopper: User, webhook_receiver: Receiver) -> None:
    """And not with that of the event: receivers refuse a message whose time is minutes away from theirs."""
    shopper.place("shirt", 1)
    age_rows(timedelta(hours=3), Event.objects.all())
    endpoint, secret = make(webhook_receiver, from_the_beginning=True)
    webhook_receiver.answer = lambda number: 500 if number == 1 else 200
    assert deliver() == 0
    wait(endpoint, hours=2)
    threading.Event().wait(1.1)
    before = int(database_now().timestamp())
    assert deliver() == 1
    after = int(database_now().timestamp())
    (first, _), (second, body) = webhook_receiver.calls
    assert int(first["webhook-timestamp"]) < before <= int(second["webhook-timestamp"]) <= after
    assert before - int(first["webhook-timestamp"]) < 60
    Webhook(secret).verify(body, second)
