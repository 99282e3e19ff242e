"""What a receiver answers decides: the status line, and the pause that it asks for."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from baskets.domain.events import webhook_control
from baskets.domain.support.guards import RepairNotApplicable
from baskets.models import WebhookEndpoint
from tests.domain.events.endpoints import database_now, deliver, failed_once, ids_of_all, make, pause_of, wait
from tests.domain.events.receivers import Receiver
from tests.domain.scenarios import User
from tests.factories import TESTER

pytestmark = pytest.mark.django_db(transaction=True)


# --- What a receiver answers -------------------------------------------------------------------


LONG_BODY = b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000


ACKNOWLEDGED = {
    "long body": b"HTTP/1.1 200 OK\r\n" + LONG_BODY,
    "103 first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "cut body": b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nshort",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    "body of 204": b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\nbomb",
    "with Retry-After": b"HTTP/1.0 299\nRetry-After: 1800\n\n",
}


@pytest.mark.parametrize("raw", ACKNOWLEDGED.values(), ids=ACKNOWLEDGED)
def test_success_in_the_status_line_acknowledges_whatever_follows(shopper: User, webhook_receiver: Receiver, raw: bytes) -> None:
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    webhook_receiver.raw = raw
    assert deliver() == 1
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.next_try_at, endpoint.problem) == (0, None, "")
    assert deliver() == 0
    assert len(webhook_receiver.calls) == 1


def test_slow_body_after_success_delays_nothing(shopper: User, webhook_receiver: Receiver) -> None:
    make(webhook_receiver)
    for count in range(1, 4):
        shopper.place("shirt", count)
    webhook_receiver.raw, webhook_receiver.hang_after = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", threading.Event()
    started = datetime.now(UTC)
    assert deliver() == 3
    assert datetime.now(UTC) - started < timedelta(seconds=10)  # The time-out of one call.
    assert webhook_receiver.ids == ids_of_all()


def test_410_with_a_long_body_stops_the_endpoint(shopper: User, webhook_receiver: Receiver) -> None:
    endpoint, _ = make(webhook_receiver)
    shopper.place("shirt", 1)
    webhook_receiver.raw = b"HTTP/1.1 410 Gone\r\n" + LONG_BODY
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.problem) == ("dead", "It answered with status 410.")


# --- Retry-After -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503, 500, 404, 302])
def test_retry_after_in_seconds_is_heeded_exactly(shopper: User, webhook_receiver: Receiver, status: int) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, status, Retry_After="1800")
    assert pause_of(endpoint) == timedelta(seconds=1800)
    assert (endpoint.state, endpoint.problem) == ("active", f"It answered with status {status} and requested a pause.")


@pytest.mark.parametrize(("text", "seconds"), [("3600", 3600), ("3601", 3600), ("9" * 5000, 3600), ("1800.5", 1800.5)])
def test_retry_after_is_heeded_up_to_an_hour(shopper: User, webhook_receiver: Receiver, text: str, seconds: float) -> None:
    shopper.place("shirt", 1)
    assert pause_of(failed_once(webhook_receiver, 503, Retry_After=text)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "requested"),
    [("0", True), ("1", True), ("Sun, 06 Nov 1994 08:49:37 GMT", True), ("Mon, 01 Jan 0001 00:00:00 +2359", True)]
    + [(text, False) for text in ("", "-1800", "soon", "1e3", "1.", "inf")]
    + [(text, False) for text in ("Sun, 06 Nov 99999 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "1 Jan 1 1:1:1 +" + "9" * 20)],
)
def test_retry_after_that_asks_for_less_or_for_nothing_leaves_the_usual_delay(
    shopper: User, webhook_receiver: Receiver, text: str, requested: bool
) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, 429, Retry_After=text)
    assert timedelta(seconds=2.5) <= pause_of(endpoint) <= timedelta(seconds=5)
    assert endpoint.problem == f"It answered with status 429{' and requested a pause' if requested else ''}."


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
def test_retry_after_as_a_date_is_a_moment_of_the_databases_clock(shopper: User, webhook_receiver: Receiver, form: str) -> None:
    shopper.place("shirt", 1)
    requested = (database_now() + timedelta(minutes=30)).replace(microsecond=0)
    assert failed_once(webhook_receiver, 503, Retry_After=requested.strftime(form)).next_try_at == requested


@pytest.mark.parametrize("text", ["in two hours", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_date_later_than_an_hour_is_an_hour(shopper: User, webhook_receiver: Receiver, text: str) -> None:
    shopper.place("shirt", 1)
    date = format_datetime(database_now() + timedelta(hours=2)) if text == "in two hours" else text
    assert pause_of(failed_once(webhook_receiver, 503, Retry_After=date)) == timedelta(hours=1)


def test_requested_pause_does_not_shorten_the_delay_of_an_endpoint_that_keeps_failing(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, 500)
    WebhookEndpoint.objects.update(failures=11)
    wait(endpoint, hours=2)
    webhook_receiver.headers = {"Retry-After": "1"}
    before = database_now()
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert endpoint.failures == 12
    assert endpoint.next_try_at is not None
    assert timedelta(minutes=30) <= endpoint.next_try_at - before <= timedelta(minutes=61)


def test_nothing_is_sent_during_a_requested_pause_and_everything_in_order_after_it(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, 429, Retry_After="1800")
    webhook_receiver.answer = lambda _: 200
    for count in range(2, 5):
        shopper.place("shirt", count)
    assert deliver() == 0
    wait(endpoint, seconds=1790)
    assert deliver() == 0
    wait(endpoint, seconds=10)
    assert deliver() == 4
    events = ids_of_all()
    assert webhook_receiver.ids == [events[0], *events]
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since, endpoint.next_try_at, endpoint.problem) == (0, None, None, "")


def test_resume_by_staff_ends_a_requested_pause(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, 503, Retry_After="3600")
    webhook_receiver.answer = lambda _: 200
    webhook_control.resume(endpoint=endpoint, expected_changes=1, reason="they are back", actor=TESTER)
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.failures, endpoint.failing_since, endpoint.next_try_at) == ("active", 0, None, None)
    assert endpoint.changes.latest("pk").kind == "resumed"
    assert deliver() == 1
    with pytest.raises(RepairNotApplicable, match="The webhook is active"):
        webhook_control.resume(endpoint=endpoint, expected_changes=2, reason="again", actor=TESTER)


def test_pause_by_staff_outlasts_a_requested_pause(shopper: User, webhook_receiver: Receiver) -> None:
    shopper.place("shirt", 1)
    endpoint = failed_once(webhook_receiver, 503, Retry_After="60")
    webhook_control.pause(endpoint=endpoint, expected_changes=1, reason="moving", actor=TESTER)
    wait(endpoint, hours=1)
    assert deliver() == 0
    assert len(webhook_receiver.calls) == 1
