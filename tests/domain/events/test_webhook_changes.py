"""What a partner changes while a deliverer is running: it survives, loses nothing, and follows within seconds."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from baskets.domain.actors import Actor, ActorKind
from baskets.domain.errors import WebhookNotFound
from baskets.domain.events import webhook_control, webhook_delivery, webhook_endpoints
from baskets.domain.validation import ReasonRequired
from baskets.models import Event, FeedPosition, WebhookAttempt, WebhookDeliverer, WebhookEndpoint, WebhookLane
from baskets.models.basket_snapshot import Owner
from tests.domain.events.receivers import Receiver, receiver
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.threads import beside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)
PARTNER_KEY = Actor(kind=ActorKind.KEY, name="abcdefghjkmn")


@pytest.fixture
def hook(settings: Any) -> Iterator[Receiver]:
    settings.BASKETS_INTERNAL_ADDRESSES = True
    with receiver() as running:
        yield running


@pytest.fixture
def user() -> User:
    ProductFactory(product_id="shirt", unsold=100)
    return User(Owner(partner_id=PartnerFactory(name="TV").pk, user_id="anna"))


@pytest.fixture
def made(user: User, hook: Receiver) -> tuple[WebhookEndpoint, str]:
    return webhook_endpoints.create_webhook(partner_name="TV", url=hook.url, actor=PARTNER_KEY)


@pytest.fixture
def endpoint(made: tuple[WebhookEndpoint, str]) -> WebhookEndpoint:
    return made[0]


@contextmanager
def running_deliverer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a deliverer in a thread. Raises what the deliverer raises."""
    monkeypatch.setattr(webhook_delivery, "SYNC_SECONDS", 0.05)
    monkeypatch.setattr(webhook_delivery, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(webhook_delivery, "IDLE_LANES_SECONDS", 0.3)
    stopped = threading.Event()
    with beside(lambda: webhook_delivery.Deliverer(workers=8).run(once=False, stop=stopped.is_set), stop=stopped.set):
        yield


def await_heartbeats() -> None:
    """Wait until the deliverer knows all that was changed: two heartbeats, because the first may have begun before the change."""
    for _ in range(2):
        assert eventually(WebhookDeliverer.objects.filter(alive_until__gt=WebhookDeliverer.objects.get().alive_until).exists)


def counts(hook: Receiver, *, after: int = 0) -> list[int]:
    """The numbers of the events in the order of their first arrival: each may come again when the lanes are taken away.

    :param after: leaves out so many calls.
    """
    return list(dict.fromkeys(json.loads(body)["data"]["number"] for _, body in hook.calls[after:]))


def is_signed(hook: Receiver, secret: str, *, call: int = -1) -> bool:
    headers, body = hook.calls[call]
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def test_running_deliverer_follows_rotations_replays_moves_and_the_deletion(
    made: tuple[WebhookEndpoint, str], hook: Receiver, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, first = made
    with receiver() as other, receiver() as moved, running_deliverer(monkeypatch):
        webhook_endpoints.create_webhook(partner_name="TV", url=other.url, actor=TESTER)
        user.place("shirt", 1)
        assert eventually(lambda: counts(hook) == counts(other) == [1])
        assert is_signed(hook, first)
        # Two rotations in a row: the first secret still signs.
        overlap = timedelta(hours=1)
        second, third = (webhook_endpoints.rotate_secret(endpoint=endpoint, overlap=overlap, actor=PARTNER_KEY) for _ in range(2))
        await_heartbeats()
        user.place("shirt", 2)
        assert eventually(lambda: counts(hook) == [1, 2])
        assert [is_signed(hook, secret) for secret in (first, second, third)] == [True] * 3
        assert len(hook.calls[-1][0]["webhook-signature"].split()) == 3
        fourth = webhook_endpoints.rotate_secret(endpoint=endpoint, overlap=timedelta(0), actor=PARTNER_KEY)
        await_heartbeats()
        # A replay while the next event is in flight.
        hook.hang = threading.Event()
        user.place("shirt", 3)
        assert eventually(lambda: counts(hook) == [1, 2, 3])
        before = len(hook.calls)
        webhook_control.replay(endpoint=endpoint, since=Event.objects.earliest("at").at, actor=PARTNER_KEY)
        hook.hang.set()
        assert eventually(lambda: counts(hook, after=before) == [1, 2, 3])
        assert [is_signed(hook, secret) for secret in (first, second, third, fourth)] == [False] * 3 + [True]
        # What is acknowledged but not stored yet would go to the new address as well.
        assert eventually(
            WebhookEndpoint.objects.filter(pk=endpoint.pk, position__gte=FeedPosition.objects.latest("position").position).exists
        )
        webhook_endpoints.change_webhook(endpoint=endpoint, url=moved.url, actor=PARTNER_KEY)
        await_heartbeats()
        user.place("shirt", 4)
        assert eventually(lambda: counts(moved) == [4])
        # The deletion while an event is in flight. The other webhook goes on.
        moved.hang = threading.Event()
        user.place("shirt", 5)
        assert eventually(lambda: counts(moved) == [4, 5])
        webhook_endpoints.delete_webhook(endpoint=endpoint, actor=PARTNER_KEY)
        moved.hang.set()
        await_heartbeats()
        user.place("shirt", 6)
        assert eventually(lambda: counts(other) == [1, 2, 3, 4, 5, 6])
    assert (counts(moved), max(counts(hook))) == ([4, 5], 3)
    assert not WebhookLane.objects.filter(endpoint=endpoint).exists()
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.failures) == ("deleted", 0)
    with pytest.raises(WebhookNotFound):
        webhook_control.resume(endpoint=endpoint, reason="again", actor=TESTER)


@pytest.mark.parametrize("state", ["active", "paused", "dead"])
@pytest.mark.parametrize("status", [200, 500])
def test_test_message_is_sent_once_whatever_the_state(made: tuple[WebhookEndpoint, str], hook: Receiver, state: str, status: int) -> None:
    endpoint, secret = made
    WebhookEndpoint.objects.update(state=state)
    hook.answer = lambda _: status
    for _ in range(2):
        webhook_endpoints.request_test(endpoint=endpoint, actor=PARTNER_KEY)
    for _ in range(2):
        webhook_delivery.Deliverer(workers=2).run(once=True, stop=lambda: False)
    ((headers, body),) = hook.calls
    assert is_signed(hook, secret)
    message = json.loads(body)
    assert (message["type"], message["data"]) == ("webhook_test", {"webhookId": f"wh-{endpoint.public_id.hex}"})
    assert headers["webhook-id"].startswith("test-")
    attempt = WebhookAttempt.objects.get()
    assert (attempt.position, attempt.status) == (None, status)
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.failures, endpoint.test_requested_at) == (state, 0, None)


def test_only_keys_of_partners_need_no_reason(endpoint: WebhookEndpoint) -> None:
    changes: list[Callable[[], object]] = [
        lambda: webhook_endpoints.change_webhook(endpoint=endpoint, label="x", actor=TESTER),
        lambda: webhook_endpoints.rotate_secret(endpoint=endpoint, overlap=timedelta(0), actor=TESTER),
        lambda: webhook_endpoints.delete_webhook(endpoint=endpoint, actor=TESTER),
    ]
    for change in changes:
        with pytest.raises(ReasonRequired):
            change()
    assert endpoint.changes.count() == 1
