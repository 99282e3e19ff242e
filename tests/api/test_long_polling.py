"""Consumers of the feed wait for events: without a thread, a bounded number of them, and never beyond their time."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from django.db import OperationalError

from basket_project.http_server.suspension import Suspension
from baskets.api import long_polling
from baskets.api.long_polling import FeedWatch, Waiter
from baskets.domain.access.api_keys import issue_api_key
from baskets.domain.events import feed
from baskets.models import FeedPosition
from baskets.models.basket_snapshot import Owner
from tests.api.conftest import Api
from tests.api.process_server import process_server
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.waiting import eventually

if TYPE_CHECKING:
    from subprocess import Popen

Server = tuple[Callable[..., "Caller"], "Popen[bytes]"]


@pytest.fixture
def user(transactional_db: None) -> User:
    ProductFactory(product_id="shirt")
    return User(Owner(partner_id=PartnerFactory(name="TV").pk, user_id="anna"))


@pytest.fixture
def key(user: User) -> str:
    return str(issue_api_key(partner_name="TV", kind="server", label="", actor=TESTER)[1])


@pytest.fixture
def server(user: User) -> Iterator["Server"]:
    """The process server with one worker and one thread, and what opens connections to it."""
    with ExitStack() as connections, process_server(threads=1) as running:

        def connect(key: str = "") -> Caller:
            caller = Caller(running.port, key)
            connections.callback(caller.connection.close)
            return caller

        yield connect, running.process


class Caller:
    """One connection of a consumer."""

    def __init__(self, port: int, key: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
        self.key = key

    def send(self, path: str) -> None:
        """Send a GET request, and do not wait."""
        self.connection.request("GET", path, headers={"X-API-Key": self.key})

    def receive(self) -> Any:
        """Wait for the response."""
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body) if body.startswith(b"{") else None

    def get(self, path: str) -> Any:
        """Send a GET request, and wait for the response."""
        self.send(path)
        return self.receive()


def test_consumers_wait_without_a_thread(server: "Server", key: str, user: User) -> None:
    connect, process = server
    start = connect(key).get("/baskets/events")["nextToken"]
    address = f"/baskets/events?wait=25&nextToken={start}"
    consumers = [connect(key) for _ in range(long_polling.MAX_PER_PARTNER)]
    for consumer in consumers:
        consumer.send(address)
    # The only thread handles other calls at once, and a consumer too many as well.
    started = time.monotonic()
    assert connect(key).get("/baskets/users/anna")["data"]["cart"] == []
    assert connect(key).get(address)["data"] == []
    assert time.monotonic() - started < 10
    user.place("shirt", 2)
    pages = [consumer.receive() for consumer in consumers]
    assert [[event["kind"] for event in page["data"]] for page in pages] == [["item_placed"]] * len(consumers)
    assert time.monotonic() - started < 20
    after = f"/baskets/events?wait=25&nextToken={pages[0]['nextToken']}"
    # Consumers that disconnect make room for others.
    for consumer in consumers:
        consumer.send(after)
        consumer.connection.close()
    last = connect(key)

    def waits() -> bool:
        """Where there is no room, the response comes at once."""
        started = time.monotonic()
        last.get(after.replace("wait=25", "wait=1"))
        return time.monotonic() - started >= 1

    assert eventually(waits)
    last.send(after)
    user.place("shirt", 3)
    page = last.receive()
    assert [event["data"]["count"] for event in page["data"]] == [3]
    started = time.monotonic()
    empty = last.get(f"/baskets/events?wait=1&nextToken={page['nextToken']}")
    assert (empty["data"], 1 <= time.monotonic() - started < 15) == ([], True)
    # The end of the service answers the consumers, and is not delayed by them.
    last.send(f"/baskets/events?wait=30&nextToken={empty['nextToken']}")
    time.sleep(0.5)
    started = time.monotonic()
    process.terminate()
    assert last.receive()["data"] == []
    process.wait(60)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("wait", ["-1", "31", "1.5", "", "x", "0001"])
def test_wait_has_bounds(api: Api, wait: str) -> None:
    assert api.get(f"/baskets/events?wait={wait}").fields == {"wait"}
    assert api.get("/baskets?wait=1").fields == {"wait"}


def test_server_without_suspension_answers_at_once(api: Api) -> None:
    assert api.get("/baskets/events?wait=30").data == []


def watch_one(waiter: Waiter, **attributes: Any) -> Any:
    """Suspend one request in a watch, and wait until it is resumed."""
    suspension = Mock(is_abandoned=False, **attributes)
    resumed: list[float] = []
    suspension.resume = lambda: resumed.append(time.monotonic())
    watch, started = FeedWatch(), time.monotonic()
    assert watch.suspend(suspension, waiter)
    while not resumed:
        time.sleep(0.02)
        assert time.monotonic() - started < 20
    return resumed[0] - started


def test_only_own_events_end_the_wait(user: User) -> None:
    other = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    end = feed.catch_up()
    other.place("shirt")
    partner = user.owner.partner_id
    assert watch_one(Waiter(partner_id=partner, position=end, until=time.monotonic() + 1)) >= 1
    user.place("shirt")
    assert watch_one(Waiter(partner_id=partner, position=end, until=time.monotonic() + 60)) < 15
    ordered = FeedPosition.objects.filter(partner=partner, kind="checkout_ordered")
    assert watch_one(Waiter(partner_id=partner, position=end, until=time.monotonic() + 1, rows=ordered)) >= 1
    placed = FeedPosition.objects.filter(partner=partner, kind="item_placed")
    assert watch_one(Waiter(partner_id=partner, position=end, until=time.monotonic() + 60, rows=placed)) < 15


def test_failing_database_delays_no_consumer_beyond_its_time(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OperationalError, ValueError):
        monkeypatch.setattr(feed, "assign_positions", Mock(side_effect=error("gone")))
        assert watch_one(Waiter(partner_id=user.owner.partner_id, position=0, until=time.monotonic() + 1)) < 15


def test_where_no_thread_can_be_started_no_request_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_polling, "_with_events", lambda _: set())
    watch, refused, waiting = FeedWatch(), Mock(is_abandoned=False), Mock(is_abandoned=False)
    waiter = Waiter(partner_id=1, position=0, until=0)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError):
            watch.suspend(refused, waiter)
    assert not refused.suspend.called
    assert watch.suspend(waiting, waiter)
    ends = time.monotonic() + 20
    while not waiting.resume.called and time.monotonic() < ends:
        time.sleep(0.02)
    assert waiting.resume.called
    assert not refused.resume.called


@pytest.mark.parametrize("early", [True, False])
def test_request_is_queued_again_once(early: bool) -> None:
    queued: list[bool] = []
    suspension = Suspension(Mock(), lambda: queued.append(True))
    for run in (1, 2):
        suspension.suspend()
        if early:
            suspension.resume()
        assert len(queued) == run - 1
        suspension.park()
        for _ in range(2):
            suspension.resume()
        assert (len(queued), suspension.is_suspended, suspension.was_suspended) == (run, False, True)
