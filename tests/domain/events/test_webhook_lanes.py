"""Lanes: many baskets at once, each in order; a refused event blocks its own basket only; a dead deliverer's lanes are taken over."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from baskets.domain.events import webhook_control, webhook_delivery, webhook_endpoints, webhook_lanes
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.validation import ReasonRequired
from baskets.models import Event, FeedPosition, WebhookBlockedBasket, WebhookDeliverer, WebhookEndpoint, WebhookLane
from baskets.models.basket_snapshot import Owner
from tests.concurrency.barrier import run_concurrently
from tests.domain.events.receivers import Receiver
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def users() -> list[User]:
    """Users of one partner, in different lanes or not."""
    ProductFactory(product_id="shirt", unsold=100)
    partner = PartnerFactory(name="TV").pk
    return [User(Owner(partner_id=partner, user_id=f"user-{number}")) for number in range(16)]


@pytest.fixture
def endpoint(users: list[User], webhook_receiver: Receiver) -> WebhookEndpoint:
    return webhook_endpoints.create_webhook(partner_name="TV", url=webhook_receiver.url, actor=TESTER)[0]


def deliver() -> int:
    return webhook_delivery.Deliverer(workers=32).run(once=True, stop=lambda: False).delivered


def arrived(hook: Receiver) -> dict[str, list[int]]:
    """The numbers of the events of each user, in the order in which they arrived."""
    numbers: dict[str, list[int]] = {}
    for _, body in hook.calls:
        event = json.loads(body)["data"]
        numbers.setdefault(event["userId"], []).append(event["number"])
    return numbers


def refuse(hook: Receiver, user_id: str, *, number: int | None = None) -> None:
    """Refuse the events of one user, or one of them."""

    def answer(call: int) -> int:
        event = json.loads(hook.calls[call - 1][1])["data"]
        return 400 if event["userId"] == user_id and number in {None, event["number"]} else 200

    hook.answer = answer


def make_due() -> None:
    WebhookBlockedBasket.objects.update(next_try_at=Now())
    WebhookEndpoint.objects.exclude(next_try_at=None).update(next_try_at=Now())


def test_baskets_are_delivered_side_by_side_and_each_in_order(
    users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver
) -> None:
    for count in range(1, 5):
        for user in users:
            user.place("shirt", count)
    webhook_receiver.answer = lambda _: time.sleep(0.02) or 200
    outcomes = run_concurrently([deliver] * 2)
    assert sum(outcomes) == len(webhook_receiver.calls) == 64
    assert arrived(webhook_receiver) == {user.owner.user_id: [1, 2, 3, 4] for user in users}
    assert webhook_receiver.most_at_once > 2
    endpoint.refresh_from_db()
    assert endpoint.position == 64
    assert not WebhookDeliverer.objects.exists()


def row_updates(table: str) -> int:
    """How many rows of a table were ever updated."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = %s", [table])
        (count,) = cursor.fetchone()
    return int(count)


def test_idle_lanes_are_stored_rarely_and_those_with_events_at_once(
    users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "ASSIGN_SECONDS", 0)
    monkeypatch.setattr(webhook_delivery, "POLL_SECONDS", 0.01)
    deliverer = webhook_delivery.Deliverer(workers=4)
    places = FeedPosition.objects.order_by("position").values_list("position", "event__basket_id")
    updates, behind = {}, []

    def stored() -> dict[int, int]:
        return dict(WebhookLane.objects.values_list("number", "position"))

    def rounds() -> Iterator[None]:
        """What happens between the rounds of the deliverer."""
        yield  # It claims its lanes.
        before = row_updates("baskets_webhooklane")
        for _ in range(20):
            yield
        updates["idle"] = row_updates("baskets_webhooklane") - before
        for count in range(1, 3):
            for user in users:
                user.place("shirt", count)
                while deliverer.totals.delivered < Event.objects.count():
                    yield
        for _ in range(2):
            yield
        updates["busy"] = row_updates("baskets_webhooklane") - before
        # A deliverer that is killed now repeats nothing.
        behind.extend(place for place in places if stored()[webhook_lanes.lane_number(place[1], lanes=webhook_lanes.LANES)] < place[0])
        monkeypatch.setattr(webhook_delivery, "IDLE_LANES_SECONDS", 0)
        for _ in range(2):
            yield
        endpoint.refresh_from_db()
        assert set(stored().values()) == {endpoint.position} == {32}

    step = rounds()
    deliverer.run(once=False, stop=lambda: next(step, "ended") == "ended")
    assert (updates["idle"], behind, len(webhook_receiver.calls)) == (0, [], 32)
    # One for each event, and none for the 48 lanes and more that have none.
    assert 0 < updates["busy"] <= 32


def test_refused_event_blocks_its_basket_only_and_its_later_events_follow_in_order(
    users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver
) -> None:
    refuse(webhook_receiver, "user-3", number=2)
    for count in range(1, 5):
        for user in users:
            user.place("shirt", count)
    deliver()
    numbers = arrived(webhook_receiver)
    assert numbers.pop("user-3") == [1, 2]
    assert set(map(tuple, numbers.values())) == {(1, 2, 3, 4)}
    (entry,) = webhook_control.blocked_events(endpoint)
    assert (entry.event.basket.user_id, entry.event.number) == ("user-3", 2)
    blocked = WebhookBlockedBasket.objects.get()
    assert (blocked.failures, blocked.problem) == (1, "It answered with status 400.")
    endpoint.refresh_from_db()
    assert (endpoint.position, endpoint.failures, endpoint.next_try_at) == (64, 0, None)
    make_due()
    users[3].place("shirt", 9)
    deliver()
    blocked.refresh_from_db()
    assert (blocked.failures, arrived(webhook_receiver)["user-3"]) == (2, [1, 2, 2])
    webhook_receiver.answer = lambda _: 200
    make_due()
    assert deliver() == 4
    users[3].place("shirt", 8)
    assert deliver() == 1
    assert arrived(webhook_receiver)["user-3"] == [1, 2, 2, 2, 3, 4, 5, 6]
    assert not WebhookBlockedBasket.objects.exists()


def test_staff_skip_a_refused_event_with_a_reason(users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver) -> None:
    refuse(webhook_receiver, "user-3", number=1)
    users[3].place("shirt", 1)
    users[3].place("shirt", 2)
    deliver()
    position = webhook_control.blocked_events(endpoint)[0].position
    skip: dict[str, Any] = {"endpoint": endpoint, "position": position, "expected_changes": 1, "reason": "malformed there", "actor": TESTER}
    with pytest.raises(ReasonRequired):
        webhook_control.skip_event(**skip | {"reason": " "})
    with pytest.raises(StaleState):
        webhook_control.skip_event(**skip | {"expected_changes": 0})
    with pytest.raises(RepairNotApplicable):
        webhook_control.skip_event(**skip | {"position": position + 1})
    assert (endpoint.changes.count(), deliver()) == (1, 0)
    webhook_control.skip_event(**skip)
    assert deliver() == 1
    assert arrived(webhook_receiver) == {"user-3": [1, 2]}
    assert not WebhookBlockedBasket.objects.exists()
    skipped = endpoint.changes.latest("pk")
    assert (skipped.kind, skipped.reason, skipped.position) == ("skipped", "malformed there", position)


def test_staff_skip_the_event_that_stops_a_strict_webhook(users: list[User], webhook_receiver: Receiver) -> None:
    endpoint, _ = webhook_endpoints.create_webhook(partner_name="TV", url=webhook_receiver.url, strict=True, actor=TESTER)
    assert webhook_control.blocked_events(endpoint) == []
    refuse(webhook_receiver, "user-3")
    users[3].place("shirt", 1)
    users[4].place("shirt", 1)
    assert deliver() == 0
    endpoint.refresh_from_db()
    (entry,) = webhook_control.blocked_events(endpoint)
    webhook_control.skip_event(endpoint=endpoint, position=entry.position, expected_changes=1, reason="malformed there", actor=TESTER)
    assert deliver() == 1
    assert arrived(webhook_receiver) == {"user-3": [1], "user-4": [1]}


def test_receiver_that_refuses_everything_blocks_few_baskets_and_waits_as_a_whole(
    users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver
) -> None:
    webhook_receiver.answer = lambda _: 500
    for user in users:
        user.place("shirt", 1)
    assert deliver() == 0
    assert WebhookBlockedBasket.objects.count() == webhook_lanes.MAX_BLOCKED_IN_A_ROW - 1
    endpoint.refresh_from_db()
    assert endpoint.failures == webhook_lanes.MAX_BLOCKED_IN_A_ROW
    assert endpoint.next_try_at is not None
    calls = len(webhook_receiver.calls)
    assert deliver() == 0
    assert len(webhook_receiver.calls) == calls
    webhook_receiver.answer = lambda _: 200
    make_due()
    assert deliver() == 16
    assert set(map(len, map(set, arrived(webhook_receiver).values()))) == {1}
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.next_try_at) == (0, None)


def test_unreachable_receiver_blocks_no_basket(users: list[User], endpoint: WebhookEndpoint) -> None:
    WebhookEndpoint.objects.update(url="http://127.0.0.1:9/")
    for user in users:
        user.place("shirt", 1)
    assert deliver() == 0
    assert not WebhookBlockedBasket.objects.exists()
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.problem) == (1, "No connection: NewConnectionError.")


def test_replay_delivers_blocked_baskets_with_the_others(users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver) -> None:
    refuse(webhook_receiver, "user-3", number=2)
    for count in (1, 2):
        for user in users:
            user.place("shirt", count)
    deliver()
    webhook_receiver.answer = lambda _: 200
    since = Event.objects.earliest("at").at
    webhook_control.replay(endpoint=endpoint, since=since, expected_changes=1, reason="lost", actor=TESTER)
    assert deliver() == 32
    assert arrived(webhook_receiver)["user-3"] == [1, 2, 1, 2]
    assert not WebhookBlockedBasket.objects.exists()


def test_replay_finds_what_was_delivered_before_idle_lanes_were_stored(
    users: list[User], endpoint: WebhookEndpoint, webhook_receiver: Receiver
) -> None:
    users[3].place("shirt", 1)
    assert deliver() == 1
    place = FeedPosition.objects.get()
    own = webhook_lanes.lane_number(place.event.basket_id, lanes=webhook_lanes.LANES)
    WebhookLane.objects.exclude(number=own).update(position=0)
    WebhookEndpoint.objects.update(position=0)
    webhook_control.replay(endpoint=endpoint, since=place.event.at, expected_changes=1, reason="lost", actor=TESTER)
    assert deliver() == 1
    assert arrived(webhook_receiver) == {"user-3": [1, 1]}


def test_lanes_are_shared_and_those_of_a_dead_deliverer_are_taken_over(endpoint: WebhookEndpoint) -> None:
    first, second = uuid4(), uuid4()
    assert len(webhook_lanes.sync(deliverer=first, accepts=True).claimed) == webhook_lanes.LANES
    late = webhook_lanes.sync(deliverer=second, accepts=True)
    assert (late.claimed, late.share) == ([], webhook_lanes.LANES // 2)
    held = webhook_lanes.sync(deliverer=first, accepts=True)
    lanes = sorted(held.held[endpoint.pk])[: webhook_lanes.LANES - held.share]
    webhook_lanes.release(deliverer=first, lanes=lanes)
    assert sorted(lane.lane_id for lane in webhook_lanes.sync(deliverer=second, accepts=True).claimed) == lanes
    WebhookDeliverer.objects.filter(pk=first).update(alive_until=F("alive_until") - timedelta(seconds=11))
    assert len(webhook_lanes.sync(deliverer=second, accepts=True).claimed) == webhook_lanes.LANES // 2
    # The first one returns: it holds nothing, and what it stores has no effect.
    assert webhook_lanes.sync(deliverer=first, accepts=True).held == {}
    webhook_lanes.record_progress(deliverer=first, endpoints=[endpoint.pk], positions={lanes[0]: 5}, succeeded=[])
    assert WebhookLane.objects.get(pk=lanes[0]).position == 0


def test_strict_webhook_has_one_lane_and_sends_one_event_at_a_time(users: list[User], webhook_receiver: Receiver) -> None:
    webhook_endpoints.create_webhook(partner_name="TV", url=webhook_receiver.url, strict=True, actor=TESTER)
    for user in users:
        user.place("shirt", 1)
    assert sum(run_concurrently([deliver] * 3)) == 16
    assert list(arrived(webhook_receiver)) == [user.owner.user_id for user in users]
    assert webhook_receiver.most_at_once == 1
